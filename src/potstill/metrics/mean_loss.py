"""A loss as it is reported: the mean over positions, of rows that have different numbers of them.

Legend: B rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.metrics.metric import quotient

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class MeanLoss:
    """Sum of losses over sum of positions. Resampled as a metric is, but less is better."""

    name: str = "loss"

    def statistics(self, predicted: Floats, targets: Floats) -> Floats:
        """Return (loss, positions) of each row, (B, 2): each row's sum, and over how many."""
        return np.stack([predicted, targets], axis=-1).astype(np.float64)

    def value(self, sums: Floats) -> Floats:
        """Return the mean over positions; nan for none."""
        return quotient(sums[..., 0], sums[..., 1], empty=np.nan)
