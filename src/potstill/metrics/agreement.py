"""How often two models answer the same, whether right or wrong (label loyalty).

Legend: B rows.
Sources: Xu et al. 2021, arXiv 2109.03228, "label loyalty"; Wilson 1927, JASA 22 (the interval of a
share: it has a width where all rows are alike, too).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from potstill.metrics.bootstrap import Interval

_NORMAL = 1.959964  # standard deviations that hold 95 %


def share_of(is_same_B: NDArray[np.bool_]) -> Interval:
    """Return the share of rows on which two models answer the same, (B,)."""
    rows, share = len(is_same_B), float(np.mean(is_same_B))
    weight = _NORMAL**2 / rows
    middle = (share + weight / 2) / (1 + weight)
    half = math.sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight)
    return Interval(share, max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half)))
