"""The mean of metrics is the mean of their values, whatever rows are drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.metrics.classification import Accuracy, ClassF1, MacroF1
from potstill.metrics.correlation import Pearson, Spearman
from potstill.metrics.mean_of import mean_of, of_parts
from potstill.metrics.metric import CountMetric, Metric, point

LAWS = settings(deadline=None, max_examples=60)
CLASSES = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
NUMBERS = np.arange(2.0), np.arange(2.0)
OF_CLASSES: list[Metric] = [Accuracy(), ClassF1(1, name="f1:b"), MacroF1(3)]
OF_NUMBERS: list[Metric] = [Spearman(), Pearson()]


def drawn(metric: Metric, counts_rB: np.ndarray, statistics_BS: np.ndarray) -> np.ndarray:
    """Return the metric of each resample as its rows would give it if they stood there."""
    drawings = [np.repeat(statistics_BS, counts, axis=0) for counts in counts_rB.astype(int)]
    return np.array([point(metric, rows_BS) for rows_BS in drawings])


def case(seed: int, *, are_classes: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(3, 20))
    sides = rng.integers(0, 3, (2, rows))
    predicted, targets = sides if are_classes else sides + rng.normal(size=(2, rows)).round(0)
    counts = rng.multinomial(rows, np.full(rows, 1 / rows), size=4)
    return predicted, targets, counts


@LAWS
@given(st.integers(0, 9_999))
def test_the_mean_of_classes_metrics_is_the_mean_of_their_values(seed: int) -> None:
    predicted, targets, counts = case(seed, are_classes=True)
    whole = mean_of(OF_CLASSES, example=CLASSES)
    statistics = whole.statistics(predicted, targets)
    parts = [metric.statistics(predicted, targets) for metric in OF_CLASSES]
    expected = np.mean([point(each, part) for each, part in zip(OF_CLASSES, parts, strict=True)])
    assert point(whole, statistics) == pytest.approx(expected, abs=1e-6)
    assert float(whole.value(statistics.sum(axis=0))) == pytest.approx(expected)
    each = [drawn(metric, counts, part) for metric, part in zip(OF_CLASSES, parts, strict=True)]
    found = whole.value_of_counts(counts.astype(np.float32), statistics)
    np.testing.assert_allclose(found, np.mean(each, axis=0), atol=1e-6)


@LAWS
@given(st.integers(0, 9_999))
def test_the_mean_of_correlations_is_the_mean_of_their_values(seed: int) -> None:
    predicted, targets, counts = case(seed, are_classes=False)
    whole = mean_of(OF_NUMBERS, example=NUMBERS)
    assert isinstance(whole, CountMetric)
    statistics = whole.statistics(predicted, targets)
    parts = [metric.statistics(predicted, targets) for metric in OF_NUMBERS]
    expected = np.mean([point(each, part) for each, part in zip(OF_NUMBERS, parts, strict=True)])
    assert point(whole, statistics) == pytest.approx(expected, abs=1e-6)
    each = [drawn(metric, counts, part) for metric, part in zip(OF_NUMBERS, parts, strict=True)]
    found = whole.value_of_counts(counts.astype(np.float32), statistics)
    np.testing.assert_allclose(found, np.mean(each, axis=0), atol=1e-6)


def test_several_sums_have_several_values() -> None:
    whole = mean_of(OF_CLASSES, example=CLASSES)
    predicted, targets, _ = case(1, are_classes=True)
    statistics = whole.statistics(predicted, targets)
    sums = np.stack([statistics.sum(axis=0), statistics[:2].sum(axis=0)])
    assert whole.value(sums).tolist() == [float(whole.value(each)) for each in sums]


def test_its_name_is_that_of_its_parts() -> None:
    assert mean_of(OF_CLASSES, example=CLASSES).name == "accuracy+f1:b+macro_f1"
    assert mean_of(OF_NUMBERS, example=NUMBERS).name == "spearman+pearson"


@LAWS
@given(st.integers(0, 9_999))
def test_two_parts_of_the_rows_count_the_same_however_long_they_are(seed: int) -> None:
    predicted, targets, counts = case(seed, are_classes=True)
    is_first = np.arange(len(targets)) < max(1, seed % len(targets))
    counts[:, [0, -1]] += 1  # neither part is empty
    metric = MacroF1(3)
    statistics = metric.statistics(predicted, targets)
    both = mean_of([metric, metric], example=CLASSES)
    laid_out = of_parts(statistics, is_first)
    expected = np.mean([point(metric, statistics[side]) for side in (is_first, ~is_first)])
    assert point(both, laid_out) == pytest.approx(expected, abs=1e-6)
    each = [drawn(metric, counts[:, side], statistics[side]) for side in (is_first, ~is_first)]
    found = both.value_of_counts(counts.astype(np.float32), laid_out)
    np.testing.assert_allclose(found, np.mean(each, axis=0), atol=1e-6)
