"""Regression: each text, or pair of texts, has a number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.architectures.heads import HeadSpec, Pooling
from potstill.data.rows import Rows
from potstill.errors import DataError, RecipeError
from potstill.metrics.correlation import Pearson, Spearman
from potstill.metrics.mean_of import SIGN, mean_of
from potstill.metrics.metric import Metric
from potstill.metrics.per_class import ClassScores
from potstill.tasks.task import OfWholeTexts, mean_of_windows
from potstill.text.windows import Windows

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]

NAME = "regression"
_NEAR = 0.1  # of the span of all answers: nearer ones count as the same


@dataclass(frozen=True, slots=True)
class Regression(OfWholeTexts):
    """A number a row; answers are numbers, (B,)."""

    labels: tuple[str, ...] = ("score",)
    center: float = 0.0  # mean and deviation of the training numbers: the network is trained on
    scale: float = 1.0  # what is left without them, and its last layer takes them in at the end

    name = NAME
    loss = "numbers"
    metric_names = ("spearman", "pearson")

    @classmethod
    def from_rows(cls, rows: Rows) -> Regression:
        """Find the center and spread of the numbers.

        Raises:
            DataError: all are the same.
        """
        numbers = np.asarray(rows.column("label"), dtype=np.float64)
        if not len(numbers) or numbers.min() == numbers.max():
            raise DataError(
                f"every row has the number {numbers[0]:g}" if len(numbers) else "there is no row",
                where=f"{rows.source}, field 'label'",
                allowed="numbers that differ",
            )
        return cls(center=float(numbers.mean()), scale=float(numbers.std()))

    def head(self, pooling: Pooling) -> HeadSpec:
        """Return the head that answers this task."""
        return HeadSpec(
            kind="classification", labels=self.labels, pooling=pooling, problem="regression"
        )

    def targets(self, rows: Rows, windows: Windows) -> Floats:
        """Return the number of each window's row, (W,)."""
        return self.gold(rows)[windows.rows]

    def unknown_targets(self, windows: Windows) -> Floats:
        """Return nan for each window."""
        return np.full(len(windows.texts), np.nan)

    def gold(self, rows: Rows) -> Floats:
        """Return each row's number, (B,)."""
        return np.asarray(rows.column("label"), dtype=np.float64)

    def answers(self, outputs: Floats, windows: Windows, rows: Rows) -> Floats:
        """Return a number a row: the mean over its windows."""
        del rows
        return mean_of_windows(outputs, windows)[:, 0].astype(np.float64)

    def as_gold(self, answers: Floats) -> Floats:
        """Return the numbers."""
        return answers

    def primary(self, *, has_gold: bool) -> str:
        """Return the mean of both correlations: ranks alone would not see a bad scale."""
        del has_gold
        return "pearson+spearman"

    def metric(self, name: str) -> Metric:
        """Return spearman or pearson, or with a plus between the mean of both.

        Raises:
            RecipeError: no such metric.
        """
        if SIGN in name:
            parts = [self.metric(part) for part in name.split(SIGN)]
            return mean_of(parts, example=(np.arange(2.0), np.arange(2.0)))
        known: dict[str, Metric] = {"spearman": Spearman(), "pearson": Pearson()}
        if name not in known:
            raise RecipeError(f"primary is {name!r}", allowed=", ".join(known))
        return known[name]

    def statistics(self, metric: Metric, answers: Floats, gold: Floats) -> Floats:
        """Return the metric's statistics of each row."""
        return metric.statistics(answers, gold)

    def trivial(self, gold: Floats) -> tuple[Floats, str]:
        """Return the mean of these rows for each of them."""
        return np.full(len(gold), gold.mean()), f"the mean, {gold.mean():.3g}"

    def breakdown(self, answers: Floats, gold: Floats) -> list[ClassScores]:
        """Return nothing: numbers have no classes."""
        del answers, gold
        return []

    def same(self, one: Floats, other: Floats) -> Bools:
        """Tell where both are nearer than a tenth of the span of the first one's answers."""
        return np.asarray(np.abs(one - other) <= _NEAR * np.ptp(one))

    def right(self, answers: Floats, gold: Floats) -> Bools:
        """Tell where the answer is nearer than a tenth of the span of the true numbers."""
        return np.asarray(np.abs(answers - gold) <= _NEAR * np.ptp(gold))

    def sureness(self, answers: Floats) -> Floats:
        """Return 1 for each: a number alone does not tell how sure it is."""
        return np.ones(len(answers))

    def shown(self, answers: Floats) -> list[str]:
        """Return the numbers."""
        return [f"{answer:.3f}" for answer in answers]

    def shown_gold(self, rows: Rows) -> list[str]:
        """Return each row's number."""
        return [f"{number:g}" for number in rows.column("label")]

    def items(self, answers: Floats, rows: Rows, truncated: Bools) -> list[dict[str, Any]]:
        """Return the number of each row."""
        del rows
        return [
            {"score": float(answer), "truncated": bool(is_cut)}
            for answer, is_cut in zip(answers, truncated, strict=True)
        ]
