"""Intervals: against scipy's bootstrap, against chance, and paired on the same rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from potstill.metrics.bootstrap import interval, joint_interval
from potstill.metrics.classification import Accuracy, ClassF1, MacroF1, Matthews
from potstill.metrics.correlation import Spearman
from potstill.metrics.metric import CountMetric, point

CLASSES = 4
labels = st.lists(st.integers(0, CLASSES - 1), min_size=2, max_size=40)


def _noisy(rows: int, share_right: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, CLASSES, rows)
    guesses = rng.integers(0, CLASSES, rows)
    return np.where(rng.random(rows) < share_right, targets, guesses), targets


@pytest.mark.filterwarnings("ignore:A single label was found")  # of scikit-learn, to its users
@given(predicted=labels, seed=st.integers(0, 99))
@settings(deadline=None)
def test_values_are_those_of_scikit_learn(predicted: list[int], seed: int) -> None:
    targets = np.random.default_rng(seed).integers(0, CLASSES, len(predicted))
    guessed = np.array(predicted)
    cases = [
        (Accuracy(), accuracy_score(targets, guessed)),
        (MacroF1(CLASSES), f1_score(targets, guessed, average="macro", zero_division=0)),
        (Matthews(CLASSES), matthews_corrcoef(targets, guessed)),
        (ClassF1(1), f1_score(targets, guessed, labels=[1], average="micro", zero_division=0)),
    ]
    for metric, expected in cases:
        value = point(metric, metric.statistics(guessed, targets))
        assert value == pytest.approx(float(expected), abs=1e-12), metric.name


def test_the_interval_agrees_with_scipy_s() -> None:
    predicted, targets = _noisy(500, 0.8, seed=1)
    ours = interval(Accuracy(), Accuracy().statistics(predicted, targets))
    theirs = bootstrap(
        ((predicted == targets).astype(float),),
        np.mean,
        n_resamples=10_000,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.004)
    assert ours.high == pytest.approx(theirs.high, abs=0.004)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    truth = 0.7 + 0.3 / CLASSES
    hits = 0
    for seed in range(100):
        predicted, targets = _noisy(200, 0.7, seed=seed)
        found = interval(Accuracy(), Accuracy().statistics(predicted, targets), resamples=500)
        hits += found.low <= truth <= found.high
    assert 87 <= hits <= 100


def test_a_model_compared_with_itself_has_no_spread() -> None:
    statistics = MacroF1(CLASSES).statistics(*_noisy(300, 0.6, seed=3))
    found = joint_interval(MacroF1(CLASSES), [[statistics], [statistics]], np.subtract)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_pairing_narrows_the_interval_of_a_difference() -> None:
    predicted, targets = _noisy(400, 0.8, seed=4)
    worse = predicted.copy()
    worse[:20] = (targets[:20] + 1) % CLASSES
    one, other = (Accuracy().statistics(guess, targets) for guess in (worse, predicted))
    paired = joint_interval(Accuracy(), [[one], [other]], np.subtract)
    alone = interval(Accuracy(), other)
    assert paired.high < 0
    assert paired.high - paired.low < alone.high - alone.low


def test_the_same_seed_gives_the_same_ends() -> None:
    statistics = MacroF1(CLASSES).statistics(*_noisy(500, 0.5, seed=5))
    first, again, another = (
        interval(MacroF1(CLASSES), statistics, seed=seed, resamples=100) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != another


class AccuracyOfCounts(Accuracy):
    """Accuracy that reads counts, to compare both ways."""

    def value_of_counts(self, counts_rB: np.ndarray, statistics_BS: np.ndarray) -> np.ndarray:
        return counts_rB @ statistics_BS[:, 0] / counts_rB.sum(axis=1)


def test_a_metric_of_counts_sees_the_resamples_that_one_of_sums_sees() -> None:
    statistics = Accuracy().statistics(*_noisy(300, 0.7, seed=6))
    of_sums, of_counts = (interval(each, statistics) for each in (Accuracy(), AccuracyOfCounts()))
    assert isinstance(AccuracyOfCounts(), CountMetric)
    assert not isinstance(Accuracy(), CountMetric)
    assert (of_counts.value, of_counts.low, of_counts.high) == pytest.approx(
        (of_sums.value, of_sums.low, of_sums.high)
    )


def test_the_interval_of_a_rank_correlation_agrees_with_scipy_s() -> None:
    rng = np.random.default_rng(7)
    targets = rng.integers(0, 6, 200) / 5
    predicted = targets + rng.normal(size=200)
    ours = interval(Spearman(), Spearman().statistics(predicted, targets))
    theirs = bootstrap(
        (predicted, targets),
        lambda one, other: spearmanr(one, other).statistic,
        paired=True,
        vectorized=False,
        n_resamples=1_000,
        method="percentile",
        rng=np.random.default_rng(8),
    ).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.02)
    assert ours.high == pytest.approx(theirs.high, abs=0.02)
