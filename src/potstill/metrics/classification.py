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


@dataclass(frozen=True, slots=True)
class ClassF1:
    """F1 of one class: what a spam filter is judged by."""

    positive: int  # index of the class
    name: str = "f1"

    def statistics(self, predicted: Int64, targets: Int64) -> Floats:
        """Return (hit, predicted, actual) of the class for each row, (B, 3)."""
        is_predicted, is_actual = predicted == self.positive, targets == self.positive
        return np.stack([is_predicted & is_actual, is_predicted, is_actual], axis=-1).astype(float)

    def value(self, sums: Floats) -> Floats:
        """Return 2 hits / (predicted + actual); 0 where there is neither."""
        return _f1(sums)


@dataclass(frozen=True, slots=True)
class MacroF1:
    """Mean of the F1 of each class, whatever its size."""

    classes: int  # C
    name: str = "macro_f1"

    def statistics(self, predicted: Int64, targets: Int64) -> Floats:
        """Return (hit, predicted, actual) of every class for each row, (B, 3 C)."""
        predicted_BC = predicted[:, None] == np.arange(self.classes)
        actual_BC = targets[:, None] == np.arange(self.classes)
        parts = (predicted_BC & actual_BC, predicted_BC, actual_BC)
        return np.stack(parts, axis=-1).reshape(len(targets), -1).astype(np.float64)

    def value(self, sums: Floats) -> Floats:
        """Return the mean over the classes that are predicted or there; nan if none is.

        A resample that lacks a class altogether is judged by the others, as scikit-learn does.
        """
        by_class = sums.reshape(*sums.shape[:-1], self.classes, 3)
        is_there = by_class[..., 1:].sum(axis=-1) > 0
        total = np.where(is_there, _f1(by_class), 0.0).sum(axis=-1)
        return _ratio(total, is_there.sum(axis=-1), empty=np.nan)


@dataclass(frozen=True, slots=True)
class Matthews:
    """Matthews' correlation of prediction and truth, for any number of classes.

    Source: Gorodkin 2004, Computational Biology and Chemistry 28, equation 8.
    """

    classes: int  # C
    name: str = "matthews"

    def statistics(self, predicted: Int64, targets: Int64) -> Floats:
        """Return (1, right, predicted one-hot, actual one-hot) for each row, (B, 2 + 2 C)."""
        own = [np.ones(len(targets)), predicted == targets]
        one_hots = [labels[:, None] == np.arange(self.classes) for labels in (predicted, targets)]
        return np.concatenate([np.stack(own, axis=-1), *one_hots], axis=-1).astype(np.float64)

    def value(self, sums: Floats) -> Floats:
        """Return the correlation, -1 to 1; 0 where one side has a single class."""
        rows, right = sums[..., 0], sums[..., 1]
        predicted, actual = sums[..., 2 : 2 + self.classes], sums[..., 2 + self.classes :]
        covariance = right * rows - (predicted * actual).sum(axis=-1)
        spread = (rows**2 - (predicted**2).sum(axis=-1)) * (rows**2 - (actual**2).sum(axis=-1))
        return _ratio(covariance, np.sqrt(spread), empty=0.0)


def _f1(sums: Floats) -> Floats:
    """Return F1 of (hits, predicted, actual) on the last axis."""
    return _ratio(2 * sums[..., 0], sums[..., 1] + sums[..., 2], empty=0.0)


def _ratio(numerator: Floats, denominator: Floats, *, empty: float) -> Floats:
    """Divide, giving `empty` where the denominator is 0."""
    filled = np.full(np.broadcast(numerator, denominator).shape, empty, dtype=np.float64)
    return np.divide(numerator, denominator, out=filled, where=denominator != 0)
