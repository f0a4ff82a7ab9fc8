"""Metrics of labels that do not exclude each other.

Legend: B rows, C labels. Predictions and targets are true where a row has a label, (B, C).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.metrics.metric import quotient

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class MicroF1:
    """F1 over all labels of all rows together."""

    name: str = "micro_f1"

    def statistics(self, predicted: Bools, targets: Bools) -> Floats:
        """Return (right, predicted, actual) labels of each row, (B, 3)."""
        parts = (predicted & targets, predicted, targets)
        return np.stack([part.sum(axis=1) for part in parts], axis=-1).astype(np.float64)

    def value(self, sums: Floats) -> Floats:
        """Return 2 right / (predicted + actual); 0 where there is neither."""
        return _f1(sums)


@dataclass(frozen=True, slots=True)
class MacroF1Labels:
    """Mean of the F1 of each label, however rare; 0 for one that is neither there nor answered."""

    classes: int  # C
    name: str = "macro_f1"

    def statistics(self, predicted: Bools, targets: Bools) -> Floats:
        """Return (right, predicted, actual) of every label for each row, (B, 3 C)."""
        parts = (predicted & targets, predicted, targets)
        return np.stack(parts, axis=-1).reshape(len(targets), -1).astype(np.float64)

    def value(self, sums: Floats) -> Floats:
        """Return the mean over the labels."""
        by_label = sums.reshape(*sums.shape[:-1], self.classes, 3)
        return np.asarray(_f1(by_label).mean(axis=-1))


@dataclass(frozen=True, slots=True)
class SubsetAccuracy:
    """Share of rows whose labels are all right."""

    name: str = "subset_accuracy"

    def statistics(self, predicted: Bools, targets: Bools) -> Floats:
        """Return (right, 1) for each row, (B, 2)."""
        is_right = (predicted == targets).all(axis=1)
        return np.stack([is_right, np.ones_like(is_right)], axis=-1).astype(np.float64)

    def value(self, sums: Floats) -> Floats:
        """Return right / rows; nan for no row."""
        return quotient(sums[..., 0], sums[..., 1], empty=np.nan)


def _f1(sums: Floats) -> Floats:
    """Return F1 of (right, predicted, actual) on the last axis."""
    return quotient(2 * sums[..., 0], sums[..., 1] + sums[..., 2], empty=0.0)
