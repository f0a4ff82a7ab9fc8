"""Precision, recall and F1 of every class.

Legend: B rows, C classes. Predictions and targets are class indices, (B,).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ClassScores:
    """How one class is found; 0 where a share is of nothing."""

    label: str
    precision: float  # of the rows answered with the class
    recall: float  # of the rows that are of the class
    f1: float
    support: int  # rows that are of the class

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def scores_per_class(
    predicted: Int64, targets: Int64, labels: tuple[str, ...]
) -> list[ClassScores]:
    """Return the scores of each class, in the order of the labels."""
    classes = len(labels)
    hits = np.bincount(targets[predicted == targets], minlength=classes)
    answered = np.bincount(predicted, minlength=classes)
    return scores_of_counts(labels, hits, answered, np.bincount(targets, minlength=classes))


def scores_of_counts(
    labels: Sequence[str], hits: Int64, answered: Int64, actual: Int64
) -> list[ClassScores]:
    """Return the scores of each label from how often it was hit, answered and there, (C,) each."""
    return [
        ClassScores(
            label,
            precision=_share(hits[index], answered[index]),
            recall=_share(hits[index], actual[index]),
            f1=_share(2 * hits[index], answered[index] + actual[index]),
            support=int(actual[index]),
        )
        for index, label in enumerate(labels)
    ]


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0
