"""What a student keeps of its teacher, with intervals from paired resamples of the test rows.

S, T and M are the metric of student, teacher and majority answer. Each side is a list of the
statistics (B, S) of its models, one for each seed, all of the same rows; its value is their mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.metrics.bootstrap import Interval, joint_interval
from potstill.metrics.metric import Metric

Floats = NDArray[np.floating[Any]]
Side = Sequence[Floats]

# In a resample where the teacher is no better than the majority answer, the gain retained is
# without bound. It counts as very large or very small there; leaving such resamples out would
# make the interval narrower than the rows allow.
_LEAST_GAIN = 1e-12


def retention(metric: Metric, student: Side, teacher: Side, *, seed: int = 0) -> Interval:
    """Return S / T; nan where the teacher has nothing to keep."""
    return joint_interval(metric, [student, teacher], _ratio, seed=seed)


def gain_retained(
    metric: Metric, student: Side, teacher: Side, majority: Floats, *, seed: int = 0
) -> Interval:
    """Return (S - M) / (T - M): 0 for a student that learned nothing, 1 for one like its teacher.

    It means something only where the teacher is above the majority answer: see `is_above`.
    """
    return joint_interval(metric, [student, teacher, [majority]], _gain_ratio, seed=seed)


def difference(metric: Metric, one: Side, other: Side, *, seed: int = 0) -> Interval:
    """Return the first side's value minus the second's."""
    return joint_interval(metric, [one, other], np.subtract, seed=seed)


def is_above(metric: Metric, one: Side, other: Side, *, seed: int = 0) -> bool:
    """Tell whether the first side is significantly greater: the interval lies above 0."""
    return difference(metric, one, other, seed=seed).low > 0


def _ratio(student: Floats, teacher: Floats) -> Floats:
    empty = np.full(np.shape(teacher), np.nan)
    quotient: Floats = np.divide(student, teacher, out=empty, where=np.asarray(teacher) != 0)
    return quotient


def _gain_ratio(student: Floats, teacher: Floats, majority: Floats) -> Floats:
    gain: Floats = (student - majority) / np.maximum(teacher - majority, _LEAST_GAIN)
    return gain
