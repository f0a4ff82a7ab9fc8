"""The mean of several metrics of the same rows, or of one metric over several parts of them.

GLUE judges MRPC by the mean of F1 and accuracy, STS-B by that of two correlations, MNLI by that of
two test sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.metrics.metric import CountMetric, Metric

Floats = NDArray[np.floating[Any]]

SIGN = "+"  # between the names of metrics: accuracy+f1:1


@dataclass(frozen=True, slots=True)
class MeanOf:
    """The mean of metrics; statistics stand side by side."""

    metrics: tuple[Metric, ...]
    widths: tuple[int, ...]  # columns of each metric's statistics

    @property
    def name(self) -> str:
        """Return the names with a plus between."""
        return SIGN.join(metric.name for metric in self.metrics)

    def statistics(self, predicted: NDArray[Any], targets: NDArray[Any]) -> Floats:
        """Return the statistics of all metrics for each row, (B, sum of widths)."""
        return np.concatenate(
            [metric.statistics(predicted, targets) for metric in self.metrics], axis=1
        )

    def value(self, sums: Floats) -> Floats:
        """Return the mean of the values."""
        parts = np.split(sums, self._ends, axis=-1)
        values = [metric.value(part) for metric, part in zip(self.metrics, parts, strict=True)]
        return np.asarray(np.mean(values, axis=0))

    def value_of_counts(self, counts_rB: Floats, statistics_BS: Floats) -> Floats:
        """Return the mean for rows that are drawn so often, (r,)."""
        parts = np.split(statistics_BS, self._ends, axis=1)
        values = [
            metric.value_of_counts(counts_rB, part)
            if isinstance(metric, CountMetric)
            else metric.value((counts_rB @ part.astype(np.float32)).astype(np.float64))
            for metric, part in zip(self.metrics, parts, strict=True)
        ]
        return np.asarray(np.mean(values, axis=0))

    @property
    def _ends(self) -> list[int]:
        return [int(end) for end in np.cumsum(self.widths)[:-1]]


def mean_of(metrics: Sequence[Metric], *, example: tuple[Any, Any]) -> MeanOf:
    """Return the mean of metrics; the example (predicted, targets) tells their widths."""
    return MeanOf(tuple(metrics), tuple(metric.statistics(*example).shape[1] for metric in metrics))


def of_parts(statistics_BS: Floats, is_first_B: NDArray[np.bool_]) -> Floats:
    """Lay the statistics of two parts of the rows side by side, (B, 2 S); `MeanOf` reads them."""
    first = statistics_BS * is_first_B[:, None]
    return np.concatenate([first, statistics_BS - first], axis=1)
