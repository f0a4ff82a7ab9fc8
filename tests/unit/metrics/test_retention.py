"""Retention, gain and differences: laws of paired resamples, and agreement with scipy."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap
from sklearn.metrics import f1_score

from potstill.metrics.classification import Accuracy, MacroF1
from potstill.metrics.few_rows import FEW, LEAST_TO_TELL_APART, seen_share
from potstill.metrics.retention import difference, gain_retained, is_above, retention

CLASSES = 3
METRIC = MacroF1(CLASSES)
SEEDS = st.integers(0, 2**32 - 1)


def answers(rows: int, *, right: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([7, rows])
    targets = rng.integers(0, CLASSES, rows)
    noise = np.random.default_rng([seed, rows])
    predicted = np.where(noise.random(rows) < right, targets, noise.integers(0, CLASSES, rows))
    return predicted, targets


def side(rows: int, *, right: float, seed: int = 0, metric: object = METRIC) -> np.ndarray:
    return metric.statistics(*answers(rows, right=right, seed=seed))


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_a_model_keeps_all_of_itself_as_surely_as_its_rows_are_many(seed: int) -> None:
    own = [side(80, right=0.7, seed=seed)]
    found = retention(METRIC, own, own)
    assert found.value == 1.0
    assert found.low == pytest.approx(seen_share(80))
    assert found.high == pytest.approx(1 / seen_share(80))
    assert difference(METRIC, own, own).high == 0.0
    assert not is_above(METRIC, own, own)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_the_difference_turns_its_sign_with_its_sides(seed: int) -> None:
    one, other = [side(60, right=0.8, seed=seed)], [side(60, right=0.6, seed=seed + 1)]
    there, back = difference(METRIC, one, other), difference(METRIC, other, one)
    assert there.value == -back.value
    assert there.low == pytest.approx(-back.high)


def test_several_seeds_count_as_their_mean() -> None:
    sides = [side(90, right=0.7, seed=seed) for seed in range(3)]
    teacher = side(90, right=0.9, seed=9)
    values = [float(METRIC.value(each.sum(axis=0))) for each in sides]
    own = float(METRIC.value(teacher.sum(axis=0)))
    assert retention(METRIC, sides, [teacher]).value == pytest.approx(np.mean(values) / own)


def test_the_gain_is_none_for_the_majority_answer_and_all_for_the_teacher() -> None:
    _, targets = answers(200, right=1.0, seed=0)
    majority = METRIC.statistics(np.full(200, np.bincount(targets).argmax()), targets)
    teacher = side(200, right=0.9)
    assert gain_retained(METRIC, [majority], [teacher], majority).value == 0.0
    assert gain_retained(METRIC, [teacher], [teacher], majority).value == 1.0
    assert is_above(METRIC, [teacher], [majority])


def test_where_the_teacher_may_be_no_better_than_the_majority_the_gain_has_no_bound() -> None:
    metric = Accuracy()
    targets = np.repeat([0, 1], [20, 20])
    majority = metric.statistics(np.zeros(40, dtype=np.int64), targets)
    weak_teacher = metric.statistics(np.r_[np.zeros(14), np.ones(14), np.zeros(12)], targets)
    student = metric.statistics(np.r_[np.zeros(20), np.ones(8), np.zeros(12)], targets)
    assert not is_above(metric, [weak_teacher], [majority])
    found = gain_retained(metric, [student], [weak_teacher], majority)
    assert found.value == pytest.approx(8 / 2)
    assert found.high > 1e6  # left out of the resamples, such rows would look like proof


def flipped(rows: int, *, lost: int = 0, won: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the statistics of a student, with its flips, and of its teacher, mostly right."""
    teacher = (np.arange(rows) % 10 > 0).astype(np.int64)
    student = teacher.copy()
    student[np.flatnonzero(teacher == 1)[:lost]] = 0
    student[np.flatnonzero(teacher == 0)[:won]] = 1
    right = np.ones(rows, dtype=np.int64)
    return Accuracy().statistics(student, right), Accuracy().statistics(teacher, right)


def test_what_was_not_drawn_may_be_lost_all_the_same() -> None:
    student, teacher = flipped(30, won=1)
    found = retention(Accuracy(), [student], [teacher])
    assert found.low == pytest.approx(found.value * seen_share(30))
    majority = Accuracy().statistics(np.zeros(30), np.ones(30))
    gain = gain_retained(Accuracy(), [student], [teacher], majority)
    assert gain.low == pytest.approx(found.low)  # beside an answer that is never right


def test_the_more_is_lost_the_lower_the_interval() -> None:
    sides = [flipped(200, lost=lost) for lost in range(2 * FEW)]
    lows = [retention(Accuracy(), [student], [teacher]).low for student, teacher in sides]
    assert lows == sorted(lows, reverse=True)


@pytest.mark.parametrize(("rows", "loss"), [(30, 0.05), (100, 0.02), (100, 0.10)])
def test_few_rows_do_not_make_sure(rows: int, loss: float) -> None:
    rng = np.random.default_rng(0)
    trials, low = 100, 0
    right = Accuracy().statistics(np.ones(rows), np.ones(rows))
    for _ in range(trials):
        student = Accuracy().statistics((rng.random(rows) >= loss).astype(int), np.ones(rows))
        low += retention(Accuracy(), [student], [right]).low > 1 - loss
    assert low / trials <= 0.05  # of 30 rows that lose 5 % a fifth shows no loss at all


@pytest.mark.parametrize("won", [1, LEAST_TO_TELL_APART - 1, LEAST_TO_TELL_APART])
def test_fewer_flips_than_a_test_of_signs_asks_for_tell_nothing_apart(won: int) -> None:
    student, teacher = flipped(500, won=won)
    is_sure = binomtest(won, won).pvalue < 0.05
    assert is_above(Accuracy(), [student], [teacher]) == is_sure
    assert (difference(Accuracy(), [teacher], [student]).high < 0) == is_sure


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_retention_turns_over_with_its_sides(seed: int) -> None:
    one, other = [side(90, right=0.9, seed=seed)], [side(90, right=0.7, seed=seed + 1)]
    there, back = retention(METRIC, one, other), retention(METRIC, other, one)
    assert there.value == pytest.approx(1 / back.value)
    assert there.low == pytest.approx(1 / back.high, rel=1e-3)
    assert there.high == pytest.approx(1 / back.low, rel=1e-3)


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_the_order_of_the_rows_says_nothing(seed: int) -> None:
    one, other = side(200, right=0.9, seed=seed), side(200, right=0.7, seed=seed + 1)
    shuffled = np.random.default_rng(seed).permutation(200)
    before = retention(METRIC, [one], [other])
    after = retention(METRIC, [one[shuffled]], [other[shuffled]])
    assert after.value == before.value
    assert after.low == pytest.approx(before.low, abs=0.02)
    assert after.high == pytest.approx(before.high, abs=0.02)


def test_the_paired_interval_is_scipys_percentile_bootstrap() -> None:
    one, targets = answers(150, right=0.8, seed=3)
    other, _ = answers(150, right=0.7, seed=4)
    ours = difference(
        METRIC, [METRIC.statistics(one, targets)], [METRIC.statistics(other, targets)]
    )

    def statistic(first: np.ndarray, second: np.ndarray, truth: np.ndarray) -> float:
        return f1_score(truth, first, average="macro") - f1_score(truth, second, average="macro")

    theirs = bootstrap(
        (one, other, targets),
        statistic,
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=1_500,
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert ours.value == pytest.approx(statistic(one, other, targets))
    assert ours.low == pytest.approx(theirs.low, abs=0.012)
    assert ours.high == pytest.approx(theirs.high, abs=0.012)


def test_ten_thousand_resamples_of_ten_thousand_rows_are_a_matter_of_seconds() -> None:
    metric = Accuracy()
    one = side(10_000, right=0.9, metric=metric)
    other = side(10_000, right=0.88, seed=1, metric=metric)
    began = time.process_time()
    retention(metric, [one], [other])
    assert time.process_time() - began < 30  # a wrong order of growth, not a slow machine
