"""Metrics of single-label classification.

Legend: B rows, C classes, S statistics of a row. Predictions and targets are class indices, (B,).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Share of rows whose class is right."""

    name: str = "accuracy"

    def statistics(self, predicted: Int64, targets: Int64) -> Floats:
        """Return (right, 1) for each row, (B, 2)."""
        is_right_B = predicted == targets
        return np.stack([is_right_B, np.ones_like(is_right_B)], axis=-1).astype(np.float64)

    def value(self, sums: Floats) -> Floats:
        """Return right / rows; nan for no row."""
        return _ratio(sums[..., 0], sums[..., 1], empty=np.nan)

    def of(self, predicted: Int64, targets: Int64) -> float:
        """Return the metric of all rows."""
        return float(self.value(self.statistics(predicted, targets).sum(axis=0)))


def _ratio(numerator: Floats, denominator: Floats, *, empty: float) -> Floats:
    """Divide, giving `empty` where the denominator is 0."""
    filled = np.full(np.broadcast(numerator, denominator).shape, empty, dtype=np.float64)
    return np.divide(numerator, denominator, out=filled, where=denominator != 0)
