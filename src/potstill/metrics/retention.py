"""What a student keeps of its teacher, with intervals from paired resamples of the test rows.

S, T and M are the metric of student, teacher and majority answer. Each side is a list of the
statistics (B, S) of its models, one for each seed, all of the same rows; its value is their mean.

Where few rows differ resamples are surer than rows allow; see `few_rows` for what is counted then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.metrics.bootstrap import CountedInterval, Interval, joint_interval
from potstill.metrics.few_rows import FEW, LEAST_TO_TELL_APART, differing, seen_share, telling
from potstill.metrics.metric import Metric, point

Floats = NDArray[np.floating[Any]]
Side = Sequence[Floats]

# In a resample where the teacher is no better than the majority answer, the gain retained is
# without bound. It counts as very large or very small there; leaving such resamples out would
# make the interval narrower than the rows allow.
_LEAST_GAIN = 1e-12


def retention(metric: Metric, student: Side, teacher: Side, *, seed: int = 0) -> Interval:
    """Return S / T; nan where the teacher has nothing to keep."""
    found = joint_interval(metric, [student, teacher], _ratio, seed=seed)
    kept_of = _mean(metric, teacher)
    return _with_unseen(found, metric, student, teacher, lambda score: _ratio(score, kept_of))


def gain_retained(
    metric: Metric, student: Side, teacher: Side, majority: Floats, *, seed: int = 0
) -> Interval:
    """Return (S - M) / (T - M): 0 for a student that learned nothing, 1 for one like its teacher.

    It means something only where the teacher is above the majority answer: see `is_above`.
    """
    found = joint_interval(metric, [student, teacher, [majority]], _gain_ratio, seed=seed)
    kept_of, least = _mean(metric, teacher), _mean(metric, [majority])
    return _with_unseen(
        found, metric, student, teacher, lambda score: _gain_ratio(score, kept_of, least)
    )


def difference(metric: Metric, one: Side, other: Side, *, seed: int = 0) -> Interval:
    """Return the first side's value minus the second's.

    The interval holds 0 where fewer rows differ than could tell the sides apart.
    """
    found = joint_interval(metric, [one, other], np.subtract, seed=seed)
    if differing([*one, *other]) >= LEAST_TO_TELL_APART:
        return found
    return Interval(found.value, min(found.low, 0.0), max(found.high, 0.0))


def is_above(metric: Metric, one: Side, other: Side, *, seed: int = 0) -> bool:
    """Tell whether the first side is significantly greater: the interval lies above 0."""
    return difference(metric, one, other, seed=seed).low > 0


def _with_unseen(
    found: Interval,
    metric: Metric,
    student: Side,
    teacher: Side,
    kept: Callable[[Floats], Floats],
) -> Interval:
    """Leave room for losses and gains on rows of a kind that was not drawn.

    Args:
        found: the interval of the resamples.
        metric: what both are measured by.
        student: its models' statistics.
        teacher: its models' statistics.
        kept: a score of the student to what it keeps by it.
    """
    if differing([*student, *teacher]) >= FEW:
        return found
    score, seen = _mean(metric, student), seen_share(telling([*student, *teacher]))
    low, high = float(kept(score * seen)), max(found.high, float(kept(score / seen)))
    if low < found.low:
        return CountedInterval(found.value, low, high)
    return Interval(found.value, found.low, high)


def _mean(metric: Metric, side: Side) -> Floats:
    return np.asarray(np.mean([point(metric, statistics_BS) for statistics_BS in side]))


def _ratio(student: Floats, teacher: Floats) -> Floats:
    empty = np.full(np.shape(teacher), np.nan)
    quotient: Floats = np.divide(student, teacher, out=empty, where=np.asarray(teacher) != 0)
    return quotient


def _gain_ratio(student: Floats, teacher: Floats, majority: Floats) -> Floats:
    gain: Floats = (student - majority) / np.maximum(teacher - majority, _LEAST_GAIN)
    return gain
