"""How well answers fit labelled rows: metrics with intervals, the majority answer, each class.

Legend: B rows, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.metrics.bootstrap import Interval, interval
from potstill.metrics.per_class import ClassScores, scores_per_class
from potstill.tasks.classification import PLAIN_METRICS, Classification

Int64 = NDArray[np.int64]

FEW_ROWS = 30  # below it an interval by resampling is too narrow itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a model is worth on some rows."""

    examples: int
    metrics: Mapping[str, Interval]
    primary: str
    majority_label: str  # the most frequent class of these rows
    majority: Mapping[str, float]  # the same metrics of answering it always
    per_class: list[ClassScores]
    warnings: list[str]

    def to_json(self) -> dict[str, Any]:
        """Return the answer of `evaluate --json`, without the model's name."""
        return {
            "examples": self.examples,
            "metrics": {name: asdict(found) for name, found in self.metrics.items()},
            "primary": self.primary,
            "majority": {"label": self.majority_label, "metrics": dict(self.majority)},
            "per_class": [scores.to_json() for scores in self.per_class],
            "warnings": self.warnings,
        }


def evaluate_classification(
    task: Classification,
    logits_BC: NDArray[np.floating[Any]],
    targets_B: Int64,
    *,
    primary: str,
    seed: int = 0,
) -> Evaluation:
    """Judge answers to rows whose classes are known.

    Args:
        task: the classes.
        logits_BC: the answers.
        targets_B: the classes given.
        primary: the metric that counts; it is among the metrics told.
        seed: of the resamples.

    Raises:
        RecipeError: `primary` is no metric.
    """
    predicted_B = logits_BC.argmax(axis=-1)
    majority_class = int(np.bincount(targets_B, minlength=len(task.labels)).argmax())
    majority_B = majority_answer(targets_B)
    metrics: dict[str, Interval] = {}
    majority: dict[str, float] = {}
    for name in dict.fromkeys([primary, *PLAIN_METRICS]):
        metric = task.metric(name)
        metrics[name] = interval(metric, metric.statistics(predicted_B, targets_B), seed=seed)
        sums = metric.statistics(majority_B, targets_B).sum(axis=0)
        majority[name] = float(metric.value(sums))
    return Evaluation(
        examples=len(targets_B),
        metrics=metrics,
        primary=primary,
        majority_label=task.labels[majority_class],
        majority=majority,
        per_class=scores_per_class(predicted_B, targets_B, task.labels),
        warnings=_warnings(task, targets_B),
    )


def majority_answer(targets_B: Int64) -> Int64:
    """Return the answer that is always the most frequent class, (B,)."""
    return np.full(len(targets_B), np.bincount(targets_B).argmax())


def _warnings(task: Classification, targets_B: Int64) -> list[str]:
    warnings = []
    if len(targets_B) < FEW_ROWS:
        warnings.append(
            f"{len(targets_B)} row{'s' * (len(targets_B) > 1)} cannot prove anything: give "
            f"{FEW_ROWS} at the least, some hundreds for an interval of a few points"
        )
    present = set(targets_B.tolist())
    if len(present) == 1:
        warnings.append(
            f"all rows are of the class {task.labels[present.pop()]!r}: the majority answer is "
            "always right on them"
        )
    return warnings
