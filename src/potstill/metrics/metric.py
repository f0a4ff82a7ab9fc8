"""What a metric is: a few numbers for each row, and a value of their sum.

Because the value depends on the sum alone, any resampling of rows is a product of counts and
statistics, which makes ten thousand bootstrap resamples cheap. The few metrics that no sum tells
read how often each row is drawn.

Legend: B rows, S statistics of a row.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


class Metric(Protocol):
    """One metric; greater is better for all of them."""

    @property
    def name(self) -> str:
        """Return its name in reports."""
        ...

    def statistics(self, predicted: NDArray[Any], targets: NDArray[Any]) -> Floats:
        """Return the statistics of each row, (B, S)."""
        ...

    def value(self, sums: Floats) -> Floats:
        """Return the metric for sums of statistics, (..., S) -> (...)."""
        ...


@runtime_checkable
class CountMetric(Protocol):
    """What a metric has besides if no sum tells it, or not precisely enough."""

    def value_of_counts(self, counts_rB: Floats, statistics_BS: Floats) -> Floats:
        """Return the metric of r resamples, (r,): counts (r, B) and statistics (B, S)."""
        ...


def point(metric: Metric, statistics_BS: Floats) -> float:
    """Return the metric of all rows."""
    if isinstance(metric, CountMetric):
        ones_1B = np.ones((1, len(statistics_BS)))
        return float(metric.value_of_counts(ones_1B, statistics_BS)[0])
    return float(metric.value(statistics_BS.sum(axis=0)))


def quotient(part: Floats, whole: Floats, *, empty: float) -> Floats:
    """Return part / whole, and `empty` where the whole is 0."""
    filled = np.full(np.shape(whole), empty, dtype=np.float64)
    return np.asarray(np.divide(part, whole, out=filled, where=np.asarray(whole) != 0))
