"""How often two models answer the same, whether right or wrong (label loyalty).

Legend: B rows. Source: Xu et al. 2021, arXiv 2109.03228, "label loyalty".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from potstill.metrics.bootstrap import Interval, interval
from potstill.metrics.classification import Accuracy


def share_of(is_same_B: NDArray[np.bool_], *, seed: int = 0) -> Interval:
    """Return the share of rows on which two models answer the same, (B,).

    A share that is all or nothing in every resample has an interval of one point.
    """
    metric = Accuracy(name="agreement")
    same = is_same_B.astype(np.int64)
    return interval(metric, metric.statistics(same, np.ones_like(same)), seed=seed)
