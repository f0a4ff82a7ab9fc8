"""Classification: classes found in rows, targets, answers."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import softmax

from potstill.data.rows import Rows
from potstill.errors import DataError
from potstill.metrics.metric import point
from potstill.tasks.classification import Classification, probabilities

NO_ROWS = Rows({}, "list")
LOGITS = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.floats(-(2.0**100), 2.0**100, width=32),
)

SHOWS_CLASSES = """
from potstill.data.rows import Rows
from potstill.tasks.classification import Classification
labels = ["nan", "b", "-1", "NaN", "10", "a", "2", "inf", "1e1"]
print(Classification.from_rows(Rows({"label": labels}, "list")).labels)
"""


def rows_of(*labels: str) -> Rows:
    return Rows({"text": ["a film"] * len(labels), "label": list(labels)}, "list")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["b", "a", "b", "c"], ("a", "b", "c")),
        (["10", "9", "-1", "2"], ("-1", "2", "9", "10")),
        (["10", "neutral", "2"], ("2", "10", "neutral")),
        (["0.5", "0.25"], ("0.25", "0.5")),
        (["nan", "5", "a", "1"], ("1", "5", "a", "nan")),
    ],
)
def test_classes_stand_in_their_natural_order(labels: list[str], expected: tuple[str, ...]) -> None:
    assert Classification.from_rows(rows_of(*labels)).labels == expected


@settings(deadline=None)
@given(st.permutations(["nan", "NaN", "b", "10", "1e1", "2", "inf", "-inf", "a"]))
def test_the_order_of_classes_is_not_that_of_the_rows(labels: list[str]) -> None:
    found = Classification.from_rows(rows_of(*labels)).labels
    assert found == ("-inf", "2", "10", "1e1", "inf", "NaN", "a", "b", "nan")


def test_the_order_of_classes_is_the_same_in_every_process() -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", SHOWS_CLASSES],
            env={"PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(3)
    }
    assert len(found) == 1


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([], "list, field 'label': there is no row; allowed: two or more classes"),
        (["a", "a"], "list, field 'label': there is only one class, 'a'; allowed: two or more"),
        ([str(n) for n in range(51)], "51 classes in 51 rows; .*to mend it: .*--label-column"),
        ([str(n % 91) for n in range(100)], "91 classes in 100 rows; allowed: at most 90%"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels: list[str], told: str) -> None:
    with pytest.raises(DataError, match=told):
        Classification.from_rows(rows_of(*labels))


def test_many_classes_are_allowed_where_there_are_rows_for_them() -> None:
    assert len(Classification.from_rows(rows_of(*map(str, range(50)))).labels) == 50
    labels = [str(n % 90) for n in range(100)]
    assert len(Classification.from_rows(rows_of(*labels)).labels) == 90


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc")))
def test_targets_are_the_places_of_the_labels(labels: list[str]) -> None:
    task = Classification(("c", "a", "b"))
    targets = task.gold(rows_of(*labels))
    assert targets.dtype == np.int64
    assert [task.labels[target] for target in targets] == labels


def test_a_label_that_was_not_in_training_is_told_with_its_line() -> None:
    rows = Rows({"label": ["a", "b", "d"]}, "dev.jsonl", line_numbers=[1, 2, 4])
    told = r"dev\.jsonl, line 4, field 'label': label 'd' is none .*; allowed: a, b, c$"
    with pytest.raises(DataError, match=told):
        Classification(("a", "b", "c")).gold(rows)


def test_the_head_has_an_output_for_each_class() -> None:
    head = Classification(("a", "b")).head("mean")
    assert (head.kind, head.labels, head.pooling) == ("classification", ("a", "b"), "mean")


@settings(deadline=None)
@given(LOGITS)
def test_probabilities_are_those_of_scipy(logits_BC: np.ndarray) -> None:
    found_BC = probabilities(logits_BC)
    assert found_BC.dtype == np.float64
    np.testing.assert_allclose(found_BC, softmax(logits_BC.astype(np.float64), axis=-1), rtol=1e-12)
    np.testing.assert_allclose(found_BC.sum(axis=-1), 1.0)


@settings(deadline=None)
@given(LOGITS)
def test_each_answer_ranks_all_classes(logits_BC: np.ndarray) -> None:
    task = Classification(tuple(f"class {index}" for index in range(logits_BC.shape[1])))
    truncated = np.arange(len(logits_BC)) % 2 == 0
    items = task.items(logits_BC, NO_ROWS, truncated)
    assert len(items) == len(logits_BC)
    for index, item in enumerate(items):
        assert list(item) == ["label", "score", "scores", "truncated"]
        scores = [told["score"] for told in item["scores"]]
        assert sorted(scores, reverse=True) == scores
        assert {told["label"] for told in item["scores"]} == set(task.labels)
        assert (item["label"], item["score"]) == tuple(item["scores"][0].values())
        assert item["truncated"] is bool(truncated[index])


def test_equal_scores_keep_the_order_of_the_labels() -> None:
    labels = tuple(f"class {index}" for index in range(40))
    logits_BC = np.tile([0.0, 1.0], 20)[None]
    (item,) = Classification(labels).items(logits_BC, NO_ROWS, np.array([False]))
    assert tuple(told["label"] for told in item["scores"]) == labels[1::2] + labels[::2]


def test_no_text_gives_no_answer() -> None:
    nothing = np.zeros((0, 2)), NO_ROWS, np.zeros(0, dtype=bool)
    assert Classification(("x", "y")).items(*nothing) == []


def test_the_primary_metric_is_accuracy() -> None:
    logits_BC = np.array([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0], [0.0, 9.0]])
    task = Classification(("x", "y"))
    metric = task.metric(task.primary(has_gold=True))
    assert point(metric, task.statistics(metric, logits_BC, np.array([0, 0, 0, 1]))) == 0.75
