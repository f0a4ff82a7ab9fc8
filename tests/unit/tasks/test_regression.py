"""Regression: numbers in, numbers out, judged by correlations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from potstill.data.rows import Rows
from potstill.errors import DataError, RecipeError
from potstill.metrics.metric import point
from potstill.tasks.regression import Regression
from potstill.tasks.task import Lengths
from potstill.text.tokenizer import Tokenizer
from potstill.text.tokenizer_files import load_tokenizer
from tests.tiny import write_tiny_tokenizer

LAWS = settings(deadline=None, max_examples=60)
NUMBERS = st.lists(
    st.integers(-40, 40).map(lambda number: number / 8), min_size=2, max_size=20
).filter(lambda numbers: min(numbers) < max(numbers))


def rows_of(*numbers: float) -> Rows:
    return Rows({"text": ["a film"] * len(numbers), "label": list(numbers)}, "list")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder: Path = tmp_path_factory.mktemp("words")
    write_tiny_tokenizer(folder)
    return load_tokenizer(folder, family="bert")


@LAWS
@given(NUMBERS)
def test_the_training_numbers_give_center_and_spread(numbers: list[float]) -> None:
    task = Regression.from_rows(rows_of(*numbers))
    deviations = (np.array(numbers) - task.center) / task.scale
    assert deviations.mean() == pytest.approx(0.0, abs=1e-9)
    assert deviations.std() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ([2.5, 2.5, 2.5], "list, field 'label': every row has the number 2.5; allowed: numbers"),
        ([3.0], "every row has the number 3"),
        ([], "there is no row"),
    ],
)
def test_numbers_that_do_not_differ_are_refused(numbers: list[float], told: str) -> None:
    with pytest.raises(DataError, match=told):
        Regression.from_rows(rows_of(*numbers))


def test_targets_are_the_numbers_of_the_windows_rows(tokenizer: Tokenizer) -> None:
    rows = Rows({"text": ["a " * 12, "film", "a " * 9], "label": [1.0, -2.5, 0.0]}, "list")
    lengths = Lengths(max_length=7, long_texts="windows", overlap=1)
    task = Regression(center=9.0, scale=4.0)
    windows = task.windows(tokenizer, rows, lengths)
    assert task.targets(rows, windows).tolist() == [1.0, 1.0, 1.0, -2.5, 0.0, 0.0]
    assert np.isnan(task.unknown_targets(windows)).tolist() == [True] * 6
    outputs = np.array([[1.0], [2.0], [6.0], [5.0], [1.0], [0.0]], dtype=np.float32)
    assert task.answers(outputs, windows, rows).tolist() == [3.0, 5.0, 0.5]


def test_a_pair_is_one_text_with_two_halves(tokenizer: Tokenizer) -> None:
    rows = rows_of(1.0, 2.0).with_columns({"text_pair": ["good boring", "fun"]})
    windows = Regression().windows(tokenizer, rows, Lengths(max_length=16))
    assert windows.texts.lengths.tolist() == [7, 6]
    assert windows.texts.token_types.tolist() == [0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 1, 1]


@LAWS
@given(NUMBERS, st.integers(0, 999))
def test_metrics_are_those_of_scipy(numbers: list[float], seed: int) -> None:
    answers = np.array(numbers) + np.random.default_rng(seed).normal(size=len(numbers))
    gold, task = np.array(numbers), Regression()

    def score(name: str) -> float:
        metric = task.metric(name)
        return point(metric, task.statistics(metric, answers, gold))

    expected = spearmanr(answers, gold).statistic, pearsonr(answers, gold).statistic
    assert score("spearman") == pytest.approx(expected[0], abs=1e-9)
    assert score("pearson") == pytest.approx(expected[1], abs=1e-6)
    assert score("pearson+spearman") == pytest.approx(sum(expected) / 2, abs=1e-6)


def test_who_learned_nothing_answers_the_mean_and_has_no_correlation() -> None:
    gold, task = np.array([1.0, 2.0, 6.0]), Regression()
    answers, name = task.trivial(gold)
    assert answers.tolist() == [3.0, 3.0, 3.0]
    assert name == "the mean, 3"
    metric = task.metric("spearman")
    assert point(metric, task.statistics(metric, answers, gold)) == 0.0


def test_near_is_a_tenth_of_the_span() -> None:
    task, one = Regression(), np.array([0.0, 10.0, 5.0])
    other = one + np.array([0.9, -1.0, 1.1])
    assert task.same(one, other).tolist() == [True, True, False]
    assert task.right(other, one).tolist() == [True, True, False]
    assert task.as_gold(one) is one


def test_items_are_plain_numbers() -> None:
    items = Regression().items(np.array([1.5, 2.0]), rows_of(0.0, 1.0), np.array([True, False]))
    assert items == [{"score": 1.5, "truncated": True}, {"score": 2.0, "truncated": False}]
    assert type(items[0]["score"]) is float


def test_the_head_has_one_output_and_says_that_it_is_a_number() -> None:
    head = Regression().head("mean")
    assert (head.kind, head.labels, head.pooling, head.problem) == (
        *("classification", ("score",), "mean", "regression"),
    )


def test_an_unknown_metric_is_told_with_those_there_are() -> None:
    for name in ("accuracy", "spearman+accuracy"):
        with pytest.raises(RecipeError, match="primary is 'accuracy'; allowed: spearman, pearson"):
            Regression().metric(name)
