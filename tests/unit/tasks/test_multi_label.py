"""Multi-label classification: labels found in rows, probabilities, thresholds of the best F1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import expit
from sklearn.metrics import f1_score

from potstill.data.rows import Rows
from potstill.errors import DataError, RecipeError
from potstill.metrics.metric import point
from potstill.tasks.multi_label import MultiLabel
from potstill.tasks.task import Lengths
from potstill.text.tokenizer import Tokenizer
from potstill.text.tokenizer_files import load_tokenizer
from potstill.text.windows import Windows, whole_rows
from tests.tiny import write_tiny_tokenizer

LAWS = settings(deadline=None, max_examples=100)
NO_ROWS = Rows({}, "list")
TASK = MultiLabel(("fun", "long", "sad"))
# Few levels, so that scores are often equal to each other and to one half.
SCORES = st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 0.75, 1.0]) | st.floats(0, 1, width=16)
SCORED = st.lists(st.tuples(SCORES, st.booleans()), min_size=1, max_size=12)


def rows_of(*labels: list[str]) -> Rows:
    return Rows({"text": ["a film"] * len(labels), "label": list(labels)}, "list")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder: Path = tmp_path_factory.mktemp("words")
    write_tiny_tokenizer(folder)
    return load_tokenizer(folder, family="bert")


def windows_of_rows(tokenizer: Tokenizer, count: int) -> Windows:
    return whole_rows(tokenizer.encode(["a film"] * count))


def f1(said: np.ndarray, gold: np.ndarray) -> float:
    hits = int((said & gold).sum())
    return 2 * hits / max(int(said.sum() + gold.sum()), 1)


@LAWS
@given(SCORED)
@example([(0.7, True), (0.7, False), (0.2, True)])
@example([(0.0, True)])
@example([(0.4, False)])
def test_no_threshold_is_better_than_the_one_that_is_fitted(
    scored: list[tuple[float, bool]],
) -> None:
    scores = np.array([score for score, _ in scored])
    gold = np.array([is_true for _, is_true in scored])
    task = MultiLabel(("x",)).fitted(scores[:, None], gold[:, None])
    found = f1(task.as_gold(scores[:, None])[:, 0], gold)
    usual = f1(scores >= 0.5, gold)
    edges = np.unique([*scores, 0.5, 0.0, 1.0, 2.0])
    best = max(f1(scores >= edge, gold) for edge in edges)
    assert found == pytest.approx(best if gold.any() else usual)
    assert 0.0 <= task.thresholds["x"] <= 1.0
    if best == usual or not gold.any():
        assert task.thresholds == {"x": 0.5}


@LAWS
@given(SCORED, SCORED)
def test_each_label_has_a_threshold_of_its_own(
    first: list[tuple[float, bool]], second: list[tuple[float, bool]]
) -> None:
    count = min(len(first), len(second))
    both = [first[:count], second[:count]]
    scores = np.array([[score for score, _ in each] for each in both]).T
    gold = np.array([[is_true for _, is_true in each] for each in both]).T
    together = MultiLabel(("a", "b")).fitted(scores, gold).thresholds
    for place, label in enumerate("ab"):
        column = slice(place, place + 1)
        alone = MultiLabel((label,)).fitted(scores[:, column], gold[:, column])
        assert alone.thresholds[label] == together[label]


def test_a_label_that_is_there_from_its_threshold_on() -> None:
    task = MultiLabel(("a", "b"), {"b": 0.2})
    answers = np.array([[0.5, 0.2], [0.49, 0.19], [0.9, 0.0]])
    assert task.as_gold(answers).tolist() == [[True, True], [False, False], [True, False]]
    assert task.shown(answers) == ["a, b", "(none)", "a"]
    items = task.items(answers, NO_ROWS, np.array([False, True, False]))
    assert [item["labels"] for item in items] == [["a", "b"], [], ["a"]]
    assert [item["truncated"] for item in items] == [False, True, False]
    assert items[1]["label"] == "a"
    assert items[1]["scores"] == [{"label": "a", "score": 0.49}, {"label": "b", "score": 0.19}]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([["b"], [], ["a", "b"]], ("a", "b")),
        ([["10"], ["9", "x"]], ("9", "10", "x")),
    ],
)
def test_labels_are_found_in_the_rows(labels: list[list[str]], expected: tuple[str, ...]) -> None:
    assert MultiLabel.from_rows(rows_of(*labels)).labels == expected


def test_rows_without_any_label_are_refused() -> None:
    with pytest.raises(DataError, match="list, field 'label': no row has any label"):
        MultiLabel.from_rows(rows_of([], []))


def test_a_label_that_was_not_in_training_is_told_with_its_line() -> None:
    rows = Rows({"label": [["fun"], ["fun", "odd"]]}, "dev.jsonl", line_numbers=[1, 4])
    told = r"dev\.jsonl, line 4, field 'label': label 'odd' is none .*; allowed: fun, long, sad"
    with pytest.raises(DataError, match=told):
        TASK.gold(rows)


@LAWS
@given(st.lists(st.sets(st.sampled_from(TASK.labels)).map(sorted), max_size=6))
def test_gold_is_read_back_as_it_was_written(labels: list[list[str]]) -> None:
    gold = TASK.gold(rows_of(*labels))
    assert gold.shape == (len(labels), 3)
    assert TASK.shown(gold.astype(float)) == TASK.shown_gold(rows_of(*labels))
    assert TASK.right(gold.astype(float), gold).all()


def test_targets_are_shares_and_unknown_ones_are_nan(tokenizer: Tokenizer) -> None:
    rows = rows_of(["sad", "fun"], [])
    windows = windows_of_rows(tokenizer, 2)
    targets = TASK.targets(rows, windows)
    assert targets.dtype == np.float32
    assert targets.tolist() == [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    unknown = TASK.unknown_targets(windows)
    assert np.isnan(unknown).all()
    assert (unknown.shape, unknown.dtype) == (targets.shape, targets.dtype)


@LAWS
@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(0, 4), st.just(3)),
        elements=st.floats(-(2.0**60), 2.0**60, width=32),
    )
)
def test_probabilities_are_those_of_scipy(tokenizer: Tokenizer, logits: np.ndarray) -> None:
    answers = TASK.answers(logits, windows_of_rows(tokenizer, len(logits)), NO_ROWS)
    np.testing.assert_allclose(answers, expit(logits.astype(np.float64)), atol=1e-15)


def test_a_text_in_windows_has_the_mean_of_their_logits(tokenizer: Tokenizer) -> None:
    rows = Rows({"text": ["a film " * 6, "", "a " * 9]}, "list")
    windows = TASK.windows(tokenizer, rows, Lengths(max_length=8, long_texts="windows", overlap=2))
    assert len(windows.texts) > 3
    logits = np.random.default_rng(0).normal(size=(len(windows.texts), 3))
    answers = TASK.answers(logits, windows, rows)
    for row in range(3):
        mean = logits[windows.rows == row].mean(axis=0)
        np.testing.assert_allclose(answers[row], expit(mean))


@LAWS
@given(
    arrays.arrays(bool, (6, 3), elements=st.booleans()),
    arrays.arrays(bool, (6, 3), elements=st.booleans()),
)
def test_metrics_are_those_of_scikit_learn(said: np.ndarray, gold: np.ndarray) -> None:
    answers = said.astype(float)

    def score(name: str) -> float:
        metric = TASK.metric(name)
        return point(metric, TASK.statistics(metric, answers, gold))

    assert score("micro_f1") == pytest.approx(
        f1_score(gold, said, average="micro", zero_division=0)
    )
    assert score("subset_accuracy") == pytest.approx((said == gold).all(axis=1).mean())
    assert score("f1:long") == pytest.approx(f1_score(gold[:, 1], said[:, 1], zero_division=0))
    assert score("subset_accuracy") == pytest.approx(TASK.right(answers, gold).mean())


def test_who_learned_nothing_has_the_labels_of_most_rows() -> None:
    gold = np.array([[1, 0, 1], [1, 0, 0], [1, 1, 1]], dtype=bool)
    answers, name = TASK.trivial(gold)
    assert name == "fun, sad"
    assert TASK.as_gold(answers).tolist() == [[True, False, True]] * 3
    assert TASK.trivial(np.zeros((2, 3), dtype=bool))[1] == "no label"


def test_an_unknown_metric_is_told_with_those_there_are() -> None:
    with pytest.raises(RecipeError, match=r"primary is 'f1:odd'; allowed: micro_f1, macro_f1"):
        TASK.metric("f1:odd")
