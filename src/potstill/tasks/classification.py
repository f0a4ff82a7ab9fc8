"""Classification: each text has one of two or more classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.architectures.heads import HeadSpec, Pooling
from potstill.data.rows import Rows
from potstill.errors import DataError, RecipeError
from potstill.metrics.classification import Accuracy, ClassF1, MacroF1, Matthews
from potstill.metrics.metric import Metric

Floats = NDArray[np.floating[Any]]
Int64 = NDArray[np.int64]

F1_PREFIX = "f1:"  # of one class: f1:spam
PLAIN_METRICS: Mapping[str, Callable[[int], Metric]] = {
    "accuracy": lambda classes: Accuracy(),  # noqa: ARG005 - all are made from the classes' number
    "macro_f1": MacroF1,
    "matthews": Matthews,
}
_LABELS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Classification:
    """A set of classes, in the order of the head's outputs."""

    labels: tuple[str, ...]

    @classmethod
    def from_rows(cls, rows: Rows) -> Classification:
        """Find the classes in training rows; numbers are sorted as numbers.

        Raises:
            DataError: fewer than two classes, or so many that labels must be something else.
        """
        labels = sorted(set(rows.column("label")), key=_natural_order)
        if len(labels) < 2:
            raise DataError(
                f"there is only one class, {labels[0]!r}" if labels else "there is no row",
                where=f"{rows.source}, field 'label'",
                allowed="two or more classes",
            )
        if len(labels) > max(50, len(rows) // 2):
            raise DataError(
                f"{len(labels)} classes in {len(rows)} rows",
                where=f"{rows.source}, field 'label'",
                cure="name the column of classes with --label-column",
            )
        return cls(tuple(labels))

    def head(self, pooling: Pooling) -> HeadSpec:
        """Return the head that answers this task."""
        return HeadSpec(kind="classification", labels=self.labels, pooling=pooling)

    def targets(self, rows: Rows) -> Int64:
        """Return each row's class as its index, (B,).

        Raises:
            DataError: a label that was not in the training rows, with its line.
        """
        index_of = {label: index for index, label in enumerate(self.labels)}
        targets = np.zeros(len(rows), dtype=np.int64)
        for row, label in enumerate(rows.column("label")):
            if label not in index_of:
                raise DataError(
                    f"label {label!r} is none of the model's",
                    where=f"{rows.where(row)}, field 'label'",
                    allowed=", ".join(self.labels[:_LABELS_SHOWN]),
                )
            targets[row] = index_of[label]
        return targets

    def answers(self, logits_BC: Floats, truncated: NDArray[np.bool_]) -> list[dict[str, Any]]:
        """Return one item a text: the best class, its probability and those of all."""
        scores_BC = probabilities(logits_BC)
        items = []
        for scores, is_cut in zip(scores_BC, truncated, strict=True):
            ranked = [
                {"label": self.labels[index], "score": float(scores[index])}
                for index in np.argsort(-scores, kind="stable")
            ]
            items.append({**ranked[0], "scores": ranked, "truncated": bool(is_cut)})
        return items

    def metric(self, name: str) -> Metric:
        """Return a metric by its name: accuracy, macro_f1, matthews, or f1:LABEL of one class.

        Raises:
            RecipeError: no such metric, or no such label.
        """
        if name.startswith(F1_PREFIX):
            label = name.removeprefix(F1_PREFIX)
            if label not in self.labels:
                raise RecipeError(
                    f"primary is {name!r}, but there is no label {label!r}",
                    allowed=", ".join(F1_PREFIX + known for known in self.labels[:_LABELS_SHOWN]),
                )
            return ClassF1(self.labels.index(label), name=name)
        if name not in PLAIN_METRICS:
            raise RecipeError(
                f"primary is {name!r}", allowed=f"{', '.join(PLAIN_METRICS)}, {F1_PREFIX}LABEL"
            )
        return PLAIN_METRICS[name](len(self.labels))

    def score(self, logits_BC: Floats, targets_B: Int64, *, primary: str = "accuracy") -> float:
        """Return one metric of all rows."""
        metric = self.metric(primary)
        statistics_BS = metric.statistics(logits_BC.argmax(axis=-1), targets_B)
        return float(metric.value(statistics_BS.sum(axis=0)))


def probabilities(logits_BC: Floats) -> Floats:
    """Return the softmax of each row, stable for any finite logits, in float64."""
    shifted_BC = logits_BC.astype(np.float64)
    shifted_BC -= shifted_BC.max(axis=-1, keepdims=True, initial=-np.inf)
    powers_BC = np.exp(shifted_BC)
    normed: Floats = powers_BC / powers_BC.sum(axis=-1, keepdims=True)
    return normed


def _natural_order(label: str) -> tuple[int, float, str]:
    """Sort "2" before "10", and numbers before names."""
    try:
        number = float(label)
    except ValueError:
        number = math.nan
    # nan is a name too: it is neither less nor greater than any number.
    return (1, 0.0, label) if math.isnan(number) else (0, number, label)
