"""How well answers fit labelled rows: metrics with intervals, the trivial answer, each class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from potstill.errors import DataError
from potstill.metrics.bootstrap import Drawn, Interval, interval
from potstill.metrics.mean_of import SIGN
from potstill.metrics.metric import point
from potstill.metrics.per_class import ClassScores
from potstill.tasks.task import Task

FEW_ROWS = 30  # below it an interval by resampling is too narrow itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a model is worth on some rows."""

    examples: int
    metrics: Mapping[str, Interval]
    primary: str
    majority_label: str  # what the trivial answer is: the most frequent class, the mean
    majority: Mapping[str, float]  # the same metrics of giving it always
    per_class: list[ClassScores]
    warnings: list[str]
    drawn: Drawn  # what the intervals of the primary metric are drawn from

    def to_json(self) -> dict[str, Any]:
        """Return the answer of `evaluate --json`, without the model's name."""
        return {
            "examples": self.examples,
            **({"queries": self.drawn.count} if self.drawn.unit == "queries" else {}),
            "metrics": {name: asdict(found) for name, found in self.metrics.items()},
            "primary": self.primary,
            "majority": {"label": self.majority_label, "metrics": dict(self.majority)},
            "per_class": [scores.to_json() for scores in self.per_class],
            "warnings": self.warnings,
        }


def evaluate_answers(
    task: Task, answers: Any, gold: Any, *, rows: int, primary: str, seed: int = 0
) -> Evaluation:
    """Judge answers to rows of which the truth is known.

    Args:
        task: tells metrics and what a model answers that learned nothing.
        answers: one a row.
        gold: what is true.
        rows: how many.
        primary: the metric that counts; it is among the metrics told.
        seed: of the resamples.

    Raises:
        RecipeError: `primary` is no metric.
    """
    trivial, word = task.trivial(gold)
    metrics: dict[str, Interval] = {}
    majority: dict[str, float] = {}
    counts: dict[str, int] = {}  # of what a metric judges: rows, or of a ranking queries
    for name in dict.fromkeys([primary, *task.metric_names]):
        metric = task.metric(name)
        statistics = task.statistics(metric, answers, gold)
        counts[name] = len(statistics)
        found = interval(metric, statistics, seed=seed)
        if name != primary and math.isnan(found.value):
            continue  # a part without rows, such as questions without an answer
        metrics[name] = found
        majority[name] = point(metric, task.statistics(metric, trivial, gold))
    drawn = Drawn(counts[primary], "rows" if counts[primary] == rows else "queries")
    breakdown = task.breakdown(answers, gold)
    return Evaluation(
        examples=rows,
        metrics=metrics,
        primary=primary,
        majority_label=word,
        majority=majority,
        per_class=breakdown,
        warnings=[*warnings_of_few(drawn), *_warnings(breakdown, task.name)],
        drawn=drawn,
    )


def require_value(task: Task, primary: str, gold: Any, *, source: str) -> None:
    """Check that rows can be judged by a metric: nothing can be chosen by a score that is nan.

    Raises:
        DataError: they cannot, such as queries without a relevant document.
        RecipeError: `primary` is no metric.
    """
    metric = task.metric(primary)
    trivial, _ = task.trivial(gold)
    if math.isnan(point(metric, task.statistics(metric, trivial, gold))):
        raise DataError(
            f"{primary} has no value on these rows, since none of them counts for it",
            where=source,
            allowed="of a ranking some query with a relevant document; of has_answer_ and "
            "no_answer_ metrics some question of that kind",
        )


def is_metric_of_rows(task: Task, name: str | None) -> bool:
    """Tell whether a bundle's metric, which was chosen on dev rows, is one of labelled rows."""
    if name is None:
        return False
    return ":" in name or all(part in task.metric_names for part in name.split(SIGN))


def warnings_of_few(drawn: Drawn) -> list[str]:
    """Return what is to be said where intervals rest on too few rows or queries."""
    if drawn.count >= FEW_ROWS:
        return []
    return [
        f"{drawn.told()} cannot prove anything: give "
        f"{FEW_ROWS} at the least, some hundreds for an interval of a few points"
    ]


def _warnings(breakdown: Sequence[ClassScores], task: str) -> list[str]:
    present = [scores.label for scores in breakdown if scores.support]
    if task != "classification" or len(present) != 1:
        return []
    return [
        f"all rows are of the class {present[0]!r}: the majority answer is always right on them"
    ]
