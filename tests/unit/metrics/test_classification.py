"""Accuracy: scikit-learn's value, and one that depends on the sum of the statistics alone."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score

from potstill.metrics.classification import Accuracy

PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)
Pairs = list[tuple[int, int]]


def columns(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(pairs, dtype=np.int64)
    return table[:, 0], table[:, 1]


@settings(deadline=None)
@given(PAIRS)
def test_accuracy_is_scikit_learns(pairs: Pairs) -> None:
    predicted, targets = columns(pairs)
    assert math.isclose(Accuracy().of(predicted, targets), accuracy_score(targets, predicted))


@settings(deadline=None)
@given(PAIRS, st.randoms(use_true_random=False))
def test_a_resample_is_a_product_of_counts_and_statistics(pairs: Pairs, random: object) -> None:
    predicted, targets = columns(pairs)
    statistics_BS = Accuracy().statistics(predicted, targets)
    assert statistics_BS.shape == (len(pairs), 2)
    rng = np.random.default_rng(random.randint(0, 2**32))
    rows = rng.integers(0, len(pairs), (5, len(pairs)))
    counts_RB = np.stack([np.bincount(sample, minlength=len(pairs)) for sample in rows])
    values_R = Accuracy().value(counts_RB @ statistics_BS)
    expected_R = [Accuracy().of(predicted[sample], targets[sample]) for sample in rows]
    np.testing.assert_allclose(values_R, expected_R)


def test_no_row_has_no_accuracy() -> None:
    empty = np.zeros(0, dtype=np.int64)
    assert math.isnan(Accuracy().of(empty, empty))
    values = Accuracy().value(np.array([[0.0, 0.0], [1.0, 2.0]]))
    np.testing.assert_array_equal(values, [np.nan, 0.5])
