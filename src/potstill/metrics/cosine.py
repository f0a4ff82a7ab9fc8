"""How near a model's vectors are to another's of the same texts.

Legend: B rows, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class MeanCosine:
    """Mean cosine of two vectors a row, (B, D) each."""

    name: str = "cosine"

    def statistics(self, predicted: Floats, targets: Floats) -> Floats:
        """Return (cosine, 1) for each row, (B, 2); 0 where a vector has no length."""
        products = (predicted.astype(np.float64) * targets).sum(axis=-1)
        lengths = np.linalg.norm(predicted, axis=-1) * np.linalg.norm(targets, axis=-1)
        cosines = np.divide(products, lengths, out=np.zeros(len(products)), where=lengths > 0)
        return np.stack([cosines, np.ones_like(cosines)], axis=-1)

    def value(self, sums: Floats) -> Floats:
        """Return the mean; nan for no row."""
        empty = np.full(np.shape(sums[..., 1]), np.nan)
        return np.asarray(np.divide(sums[..., 0], sums[..., 1], out=empty, where=sums[..., 1] != 0))
