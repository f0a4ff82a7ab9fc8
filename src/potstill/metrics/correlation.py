"""Correlations of answered and true numbers.

Both read how often each row is drawn: ranks change with every resample, and a resample whose rows
are all equal shows itself only in double precision.

Legend: B rows, r resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Pearson:
    """Linear correlation, -1 to 1; 0 where one side is constant."""

    name: str = "pearson"

    def statistics(self, predicted: Floats, targets: Floats) -> Floats:
        """Return (1, x, y, x², y², xy) for each row, (B, 6), of standardized numbers.

        A correlation does not change with scale and origin; sums lose least near 0 and 1.
        """
        x, y = _standardized(predicted), _standardized(targets)
        return np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], axis=-1)

    def value(self, sums: Floats) -> Floats:
        """Return the correlation."""
        n, x, y, xx, yy, xy = np.moveaxis(np.asarray(sums, dtype=np.float64), -1, 0)
        spread_x, spread_y = _spread(n * xx, x * x), _spread(n * yy, y * y)
        return _correlation(n * xy - x * y, spread_x, spread_y)

    def value_of_counts(self, counts_rB: Floats, statistics_BS: Floats) -> Floats:
        """Return the correlation of each resample, (r,), by sums in double precision."""
        return self.value(counts_rB.astype(np.float64) @ statistics_BS)


@dataclass(frozen=True, slots=True)
class Spearman:
    """Correlation of ranks, -1 to 1; equal numbers share their mean rank, 0 if all are equal."""

    name: str = "spearman"

    def statistics(self, predicted: Floats, targets: Floats) -> Floats:
        """Return both numbers of each row, (B, 2)."""
        return np.stack([predicted, targets], axis=-1).astype(np.float64)

    def value(self, sums: Floats) -> Floats:
        """Refuse: a bug of ours."""
        del sums
        raise AssertionError("ranks have no sums: use value_of_counts")

    def value_of_counts(self, counts_rB: Floats, statistics_BS: Floats) -> Floats:
        """Return the correlation of each resample, (r,), exactly as if its rows stood there."""
        counts_rB = counts_rB.astype(np.float64)
        mean_r1 = (counts_rB.sum(axis=1, keepdims=True) + 1) / 2  # of all ranks, whatever the ties
        x, y = (_mean_ranks(counts_rB, statistics_BS[:, side]) - mean_r1 for side in (0, 1))
        products = (counts_rB * x * y).sum(axis=1)
        return _correlation(
            products, (counts_rB * x * x).sum(axis=1), (counts_rB * y * y).sum(axis=1)
        )


def _mean_ranks(counts_rB: Floats, values_B: Floats) -> Floats:
    """Return each row's mean rank in each resample, (r, B); those of equal values are equal."""
    order = np.argsort(values_B, kind="stable")
    ordered = values_B[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    group_B = np.repeat(np.arange(len(starts)), np.diff([*starts, len(ordered)]))
    sizes_rG = np.add.reduceat(counts_rB[:, order], starts, axis=1)
    mean_rG = np.cumsum(sizes_rG, axis=1) - (sizes_rG - 1) / 2
    ranks_rB = np.empty_like(counts_rB)
    ranks_rB[:, order] = mean_rG[:, group_B]
    return ranks_rB


def _standardized(values: Floats) -> Floats:
    values = np.asarray(values, dtype=np.float64)
    centered = values - values.mean()
    deviation = centered.std()
    return centered / deviation if deviation > 0 else np.zeros(len(centered))


def _spread(squares: Floats, square_of_sum: Floats) -> Floats:
    """Return their difference; 0 where it is rounding alone."""
    spread = squares - square_of_sum
    return np.where(spread > 1e-12 * squares, spread, 0.0)


def _correlation(products: Floats, spread_x: Floats, spread_y: Floats) -> Floats:
    """Return products over the root of both spreads, 0 where there is none."""
    root = np.sqrt(spread_x) * np.sqrt(spread_y)
    quotient = np.divide(products, root, out=np.zeros(np.shape(root)), where=root > 0)
    return np.asarray(np.clip(quotient, -1.0, 1.0))
