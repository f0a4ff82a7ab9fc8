"""Intervals by resampling rows: of one model, and of two models on the same rows (paired).

A resample draws B rows with replacement, so it is a vector of counts, and a metric's sums over it
are counts times statistics: one matrix product for many resamples at a time. A metric that is no
function of sums, such as one of ranks, reads the counts themselves.

Legend: B rows, S statistics of a row, R resamples.
Source: Efron, Tibshirani 1993, "An Introduction to the Bootstrap", chapters 6, 13 and 16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.metrics.few_rows import seen_share, telling
from potstill.metrics.metric import CountMetric, Metric, point

Floats = NDArray[np.floating[Any]]

RESAMPLES = 10_000
_CHUNK_COUNTS = 2**22  # counts held at a time


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a resample draws, and how many there are: an interval is as sure as these are many."""

    count: int
    unit: str = "rows"  # in the plural; of a ranking "queries", whose candidates stay together

    def told(self, rows_of: str = "") -> str:
        """Return it in words: "400 dev rows"."""
        unit = {"rows": "row", "queries": "query"}[self.unit] if self.count == 1 else self.unit
        return " ".join(part for part in (f"{self.count:,}", rows_of, unit) if part)


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


class CountedInterval(Interval):
    """One whose low end leaves room for rows that were not drawn: see `few_rows`."""


def interval(
    metric: Metric, statistics_BS: Floats, *, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Return a metric of one model with its percentile interval.

    Of rows without a fault it leaves room for faults that were not drawn: see `few_rows`.
    """
    (values_R,) = _resampled(metric, [statistics_BS], seed=seed, resamples=resamples)
    found = _percentiles(point(metric, statistics_BS), values_R)
    if found.low == found.value == 1.0:
        return CountedInterval(found.value, seen_share(telling([statistics_BS])), found.high)
    return found


def joint_interval(
    metric: Metric,
    sides: Sequence[Sequence[Floats]],
    compare: Callable[..., Floats],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return a comparison of several sides, each the mean over models trained with other seeds.

    The rows are resampled, the seeds are not: the interval speaks of other test rows for these
    models, not of other trainings.

    Args:
        metric: what all are measured by.
        sides: of each side the statistics (B, S) of its models, all of the same rows.
        compare: a value of each side, element by element, to the comparison.
        seed: of the resamples.
        resamples: R.
    """
    flat = [statistics_BS for side in sides for statistics_BS in side]
    assert len({len(statistics_BS) for statistics_BS in flat}) == 1, "all are of the same rows"
    values = _resampled(metric, flat, seed=seed, resamples=resamples)
    points = [np.asarray(point(metric, statistics_BS)) for statistics_BS in flat]
    ends = np.cumsum([len(side) for side in sides])[:-1]
    return _percentiles(
        float(compare(*_side_means(points, ends))), compare(*_side_means(values, ends))
    )


def _side_means(values: Sequence[Floats], ends: NDArray[np.integer]) -> list[Floats]:
    """Return the mean of each side over its models."""
    return [part.mean(axis=0) for part in np.split(np.stack(values), ends)]


def _resampled(
    metric: Metric, sides: Sequence[Floats], *, seed: int, resamples: int
) -> list[Floats]:
    """Return the metric's values of each side, (R,), all on the same resampled rows."""
    results: list[list[Floats]] = [[] for _ in sides]
    for counts_rB in _counts(len(sides[0]), seed=seed, resamples=resamples):
        for result, statistics_BS in zip(results, sides, strict=True):
            result.append(_values(metric, counts_rB, statistics_BS))
    return [np.concatenate(result) for result in results]


def _values(metric: Metric, counts_rB: Floats, statistics_BS: Floats) -> Floats:
    if isinstance(metric, CountMetric):
        return metric.value_of_counts(counts_rB, statistics_BS)
    return metric.value((counts_rB @ statistics_BS.astype(np.float32)).astype(np.float64))


def _counts(rows: int, *, seed: int, resamples: int) -> Iterator[Floats]:
    """Yield how often each row is drawn, (some resamples, B), in fp32: exact below 2^24."""
    rng = np.random.default_rng(seed)
    at_once = max(1, _CHUNK_COUNTS // max(rows, 1))
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        drawn = rng.integers(0, rows, (size, rows), dtype=np.int32)
        drawn += (np.arange(size, dtype=np.int32) * rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows)
        yield counts.astype(np.float32)


def _percentiles(value: float, values_R: Floats) -> Interval:
    finite = values_R[np.isfinite(values_R)]
    if not finite.size:
        return Interval(value, float("nan"), float("nan"))
    low, high = np.percentile(finite, [2.5, 97.5])
    return Interval(value, float(low), float(high))
