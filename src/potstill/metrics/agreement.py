"""How often two models answer the same, whether right or wrong (label loyalty).

Legend: B rows. Source: Xu et al. 2021, arXiv 2109.03228, "label loyalty".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from potstill.metrics.bootstrap import Interval, interval
from potstill.metrics.classification import Accuracy

Int64 = NDArray[np.int64]


def agreement(one: Int64, other: Int64, *, seed: int = 0) -> Interval:
    """Return the share of rows on which both classes, (B,) each, are equal.

    A share that is all or nothing in every resample has an interval of one point.
    """
    metric = Accuracy(name="agreement")
    return interval(metric, metric.statistics(one, other), seed=seed)
