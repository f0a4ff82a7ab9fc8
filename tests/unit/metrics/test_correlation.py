"""Correlations: scipy's values, of all rows and of rows that are drawn again."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from potstill.metrics.bootstrap import interval
from potstill.metrics.correlation import Pearson, Spearman
from potstill.metrics.mean_of import mean_of
from potstill.metrics.metric import CountMetric, Metric, point

METRICS = (Pearson(), Spearman())
REFERENCES = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}
GRADES = st.integers(-5, 5).map(lambda step: step / 2)  # few values: many ties
PAIRS = st.lists(st.tuples(GRADES, GRADES), min_size=2, max_size=30)
each_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)


def columns(pairs: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    predicted, targets = np.array(pairs).T
    return predicted, targets


def expected(metric: Metric, predicted: np.ndarray, targets: np.ndarray) -> float:
    if np.ptp(predicted) == 0 or np.ptp(targets) == 0:
        return 0.0
    return float(REFERENCES[metric.name](predicted, targets).statistic)


@each_metric
@settings(deadline=None)
@given(PAIRS)
def test_it_is_scipys(metric: Metric, pairs: list[tuple[float, float]]) -> None:
    predicted, targets = columns(pairs)
    found = point(metric, metric.statistics(predicted, targets))
    assert found == pytest.approx(expected(metric, predicted, targets), abs=1e-9)


@each_metric
@settings(deadline=None)
@given(PAIRS, st.integers(0, 2**32 - 1))
def test_a_resample_counts_as_if_its_rows_stood_there(
    metric: CountMetric, pairs: list[tuple[float, float]], seed: int
) -> None:
    predicted, targets = columns(pairs)
    drawn = np.random.default_rng(seed).integers(0, len(pairs), (8, len(pairs)))
    counts_rB = np.stack([np.bincount(rows, minlength=len(pairs)) for rows in drawn])
    found = metric.value_of_counts(
        counts_rB.astype(np.float32), metric.statistics(predicted, targets)
    )
    resampled = [expected(metric, predicted[rows], targets[rows]) for rows in drawn]
    np.testing.assert_allclose(found, resampled, atol=1e-9)


@each_metric
@pytest.mark.parametrize("origin", [0.0, 1e6])
def test_origin_and_scale_say_nothing(metric: Metric, origin: float) -> None:
    rng = np.random.default_rng(0)
    targets = rng.normal(size=200)
    predicted = targets + rng.normal(size=200)
    moved = origin + 1e-3 * predicted
    before = interval(metric, metric.statistics(predicted, targets), resamples=200)
    after = interval(metric, metric.statistics(moved, targets), resamples=200)
    assert (after.value, after.low, after.high) == pytest.approx(
        (before.value, before.low, before.high), abs=1e-6
    )


@settings(deadline=None)
@given(PAIRS)
def test_ranks_know_no_distances(pairs: list[tuple[float, float]]) -> None:
    predicted, targets = columns(pairs)
    own, stretched = (
        point(Spearman(), Spearman().statistics(each, targets))
        for each in (predicted, np.exp(predicted))
    )
    assert own == stretched


@each_metric
def test_a_constant_side_has_none(metric: Metric) -> None:
    constant, rising = np.full(7, 0.1), np.arange(7.0)
    for sides in ((constant, rising), (rising, constant), (constant, constant)):
        assert point(metric, metric.statistics(*sides)) == 0.0


@each_metric
def test_resamples_whose_rows_are_all_equal_have_none(metric: CountMetric) -> None:
    predicted = np.array([0.1, 0.7, 0.7, 0.7])
    statistics_BS = metric.statistics(predicted, 3 * predicted)
    counts_rB = np.array([[4, 0, 0, 0], [0, 2, 1, 1], [1, 0, 3, 0]], dtype=np.float32)
    np.testing.assert_allclose(
        metric.value_of_counts(counts_rB, statistics_BS), [0.0, 0.0, 1.0], atol=1e-12
    )


def test_the_spearman_of_sums_is_refused() -> None:
    with pytest.raises(AssertionError, match="value_of_counts"):
        Spearman().value(np.zeros(2))


def test_the_mean_of_both_is_what_stsb_is_judged_by() -> None:
    rng = np.random.default_rng(1)
    targets = rng.integers(0, 26, 300) / 5
    predicted = targets + rng.normal(size=300)
    both = mean_of(METRICS, example=(predicted, targets))
    found = point(both, both.statistics(predicted, targets))
    assert found == pytest.approx(np.mean([expected(each, predicted, targets) for each in METRICS]))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_ten_thousand_resamples_of_stsb_are_a_matter_of_seconds(metric: Metric) -> None:
    rng = np.random.default_rng(2)
    targets = rng.integers(0, 26, 1_500) / 5
    statistics_BS = metric.statistics(targets + rng.normal(size=1_500), targets)
    began = time.process_time()
    interval(metric, statistics_BS)
    assert time.process_time() - began < 20  # a wrong order of growth, not a slow machine
