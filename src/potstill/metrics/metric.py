"""What a metric is: a few numbers for each row, and a value of their sum.

Because the value depends on the sum alone, any resampling of rows is a product of counts and
statistics, which makes ten thousand bootstrap resamples cheap.

Legend: B rows, S statistics of a row.
"""

from __future__ import annotations

from typing import Any, Protocol

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
