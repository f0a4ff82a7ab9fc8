"""Labels that do not exclude each other: scikit-learn's values, also of resampled rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from potstill.metrics.metric import Metric, point
from potstill.metrics.multi_label import MacroF1Labels, MicroF1, SubsetAccuracy

CLASSES = 3
METRICS = (MicroF1(), MacroF1Labels(CLASSES), SubsetAccuracy())
ROW = st.lists(st.booleans(), min_size=2 * CLASSES, max_size=2 * CLASSES)
TABLES = st.lists(ROW, min_size=1, max_size=20)


def scikit_learns(metric: Metric, predicted: np.ndarray, targets: np.ndarray) -> float:
    if metric.name == "subset_accuracy":
        return float(accuracy_score(targets, predicted))
    average = metric.name.removesuffix("_f1")
    return float(f1_score(targets, predicted, average=average, zero_division=0))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
@settings(deadline=None)
@given(TABLES, st.integers(0, 2**32 - 1))
def test_values_are_scikit_learns(metric: Metric, table: list[list[bool]], seed: int) -> None:
    predicted, targets = np.split(np.array(table), 2, axis=1)
    statistics_BS = metric.statistics(predicted, targets)
    expected = scikit_learns(metric, predicted, targets)
    assert point(metric, statistics_BS) == pytest.approx(expected)
    rows = np.random.default_rng(seed).integers(0, len(table), len(table))
    counts_1B = np.bincount(rows, minlength=len(table))[None]
    expected = scikit_learns(metric, predicted[rows], targets[rows])
    np.testing.assert_allclose(metric.value(counts_1B @ statistics_BS), [expected])


def test_a_label_that_is_nowhere_counts_as_0_in_the_mean_over_labels() -> None:
    predicted = np.array([[True, False], [False, False]])
    assert point(MicroF1(), MicroF1().statistics(predicted, predicted)) == 1.0
    assert point(MacroF1Labels(2), MacroF1Labels(2).statistics(predicted, predicted)) == 0.5


def test_no_labels_at_all_are_a_right_row_and_no_f1() -> None:
    nothing = np.zeros((4, CLASSES), dtype=bool)
    values = [point(each, each.statistics(nothing, nothing)) for each in METRICS]
    assert values == [0.0, 0.0, 1.0]


def test_no_row_has_no_subset_accuracy() -> None:
    nothing = np.zeros((0, CLASSES), dtype=bool)
    assert math.isnan(point(SubsetAccuracy(), SubsetAccuracy().statistics(nothing, nothing)))
