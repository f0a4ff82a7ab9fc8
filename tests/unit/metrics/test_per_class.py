"""Precision, recall and F1 of each class are scikit-learn's, absent classes included."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support

from potstill.metrics.per_class import scores_per_class

LABELS = ("a", "b", "c", "d")
CLASSES = st.integers(0, len(LABELS) - 1)
PAIRS = st.lists(st.tuples(CLASSES, CLASSES), min_size=1, max_size=40)


@settings(deadline=None)
@given(PAIRS)
def test_they_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    predicted, targets = np.array(pairs).T
    found = scores_per_class(predicted, targets, LABELS)
    expected = precision_recall_fscore_support(
        targets, predicted, labels=range(len(LABELS)), zero_division=0
    )
    ours = np.array([(each.precision, each.recall, each.f1, each.support) for each in found]).T
    np.testing.assert_allclose(ours, np.stack(expected), atol=1e-12)
    assert [each.label for each in found] == list(LABELS)
