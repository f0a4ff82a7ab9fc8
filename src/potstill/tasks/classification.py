"""Classification: each text has one of two or more classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.architectures.heads import HeadSpec, Pooling
from potstill.data.rows import Rows
from potstill.errors import DataError, RecipeError
from potstill.metrics.classification import Accuracy, ClassF1, MacroF1, Matthews
from potstill.metrics.mean_of import SIGN, mean_of
from potstill.metrics.metric import Metric
from potstill.metrics.per_class import ClassScores, scores_per_class
from potstill.tasks.task import OfWholeTexts, mean_of_windows
from potstill.text.windows import Windows

Floats = NDArray[np.floating[Any]]
Int64 = NDArray[np.int64]

NAME = "classification"
F1_PREFIX = "f1:"  # of one class: f1:spam
PLAIN_METRICS: Mapping[str, Callable[[int], Metric]] = {
    "accuracy": lambda classes: Accuracy(),  # noqa: ARG005 - all are made from the classes' number
    "macro_f1": MacroF1,
    "matthews": Matthews,
}
_LABELS_SHOWN = 20
_FEW_CLASSES = 50  # up to as many each row may have one of its own
_MOST_CLASSES = 0.9  # a row; above it nearly every label is one of its own, as an id or a text is


@dataclass(frozen=True, slots=True)
class Classification(OfWholeTexts):
    """A set of classes, in the order of the head's outputs."""

    labels: tuple[str, ...]

    name = NAME
    loss = "classes"
    metric_names = ("accuracy", "macro_f1", "matthews")

    @classmethod
    def from_rows(cls, rows: Rows) -> Classification:
        """Find the classes in training rows; numbers are sorted as numbers.

        Raises:
            DataError: fewer than two classes, or so many that labels must be something else: few
                texts of each intent are a task, a column of ids is none.
        """
        labels = sorted(set(rows.column("label")), key=natural_order)
        if len(labels) < 2:
            raise DataError(
                f"there is only one class, {labels[0]!r}" if labels else "there is no row",
                where=f"{rows.source}, field 'label'",
                allowed="two or more classes",
            )
        if len(labels) > max(_FEW_CLASSES, _MOST_CLASSES * len(rows)):
            raise DataError(
                f"{len(labels)} classes in {len(rows)} rows",
                where=f"{rows.source}, field 'label'",
                allowed=f"at most {_MOST_CLASSES:.0%} as many classes as rows",
                cure="name the column of classes with --label-column, or give more rows of each",
            )
        return cls(tuple(labels))

    def head(self, pooling: Pooling) -> HeadSpec:
        """Return the head that answers this task."""
        return HeadSpec(kind="classification", labels=self.labels, pooling=pooling)

    def targets(self, rows: Rows, windows: Windows) -> Int64:
        """Return each window's class as its index, (W,): that of its row."""
        return np.take(self.gold(rows), windows.rows)

    def unknown_targets(self, windows: Windows) -> Int64:
        """Return -1 for each window."""
        return np.full(len(windows.texts), -1, dtype=np.int64)

    def gold(self, rows: Rows) -> Int64:
        """Return each row's class as its index, (B,).

        Raises:
            DataError: a label that was not in the training rows, with its line.
        """
        return class_indices(self.labels, rows)

    def answers(self, outputs: Floats, windows: Windows, rows: Rows) -> Floats:
        """Return the logits of each row, (B, C): the mean over its windows."""
        del rows
        return mean_of_windows(outputs, windows)

    def as_gold(self, answers: Floats) -> Int64:
        """Return the class answered, (B,)."""
        return np.asarray(answers.argmax(axis=-1), dtype=np.int64)

    def items(
        self, answers: Floats, rows: Rows, truncated: NDArray[np.bool_]
    ) -> list[dict[str, Any]]:
        """Return for each row the best class, its probability and those of all."""
        del rows
        items = []
        for scores, is_cut in zip(probabilities(answers), truncated, strict=True):
            ranked = [
                {"label": self.labels[index], "score": float(scores[index])}
                for index in np.argsort(-scores, kind="stable")
            ]
            items.append({**ranked[0], "scores": ranked, "truncated": bool(is_cut)})
        return items

    def primary(self, *, has_gold: bool) -> str:
        """Return accuracy."""
        del has_gold
        return "accuracy"

    def metric(self, name: str) -> Metric:
        """Return a metric by its name: accuracy, macro_f1, matthews, or f1:LABEL of one class.

        Several with a plus between are the mean of them.

        Raises:
            RecipeError: no such metric, or no such label.
        """
        if SIGN in name and name.removeprefix(F1_PREFIX) not in self.labels:
            nothing = np.zeros(1, dtype=np.int64)
            parts = [self.metric(part) for part in name.split(SIGN)]
            return mean_of(parts, example=(nothing, nothing))
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

    def statistics(self, metric: Metric, answers: Floats, gold: Int64) -> Floats:
        """Return the metric's statistics of each row."""
        return metric.statistics(answers.argmax(axis=-1), gold)

    def trivial(self, gold: Int64) -> tuple[Floats, str]:
        """Return the answer that is always the most frequent class."""
        majority = int(np.bincount(gold, minlength=len(self.labels)).argmax())
        answers = np.zeros((len(gold), len(self.labels)))
        answers[:, majority] = 1.0
        return answers, self.labels[majority]

    def breakdown(self, answers: Floats, gold: Int64) -> list[ClassScores]:
        """Return precision, recall and F1 of each class."""
        return scores_per_class(answers.argmax(axis=-1), gold, self.labels)

    def same(self, one: Floats, other: Floats) -> NDArray[np.bool_]:
        """Tell where both answer the same class."""
        return np.asarray(one.argmax(axis=-1) == other.argmax(axis=-1))

    def right(self, answers: Floats, gold: Int64) -> NDArray[np.bool_]:
        """Tell where the class is the true one."""
        return np.asarray(answers.argmax(axis=-1) == gold)

    def sureness(self, answers: Floats) -> Floats:
        """Return the probability of each answer minus that of the next, 0 to 1."""
        ordered_BC = np.sort(probabilities(answers), axis=-1)
        return np.asarray(ordered_BC[:, -1] - ordered_BC[:, -2])

    def shown(self, answers: Floats) -> list[str]:
        """Return the class of each answer."""
        return [self.labels[index] for index in answers.argmax(axis=-1)]

    def shown_gold(self, rows: Rows) -> list[str]:
        """Return each row's class."""
        return list(rows.column("label"))


def class_indices(labels: Sequence[str], rows: Rows) -> Int64:
    """Return each row's label as its index, (B,).

    Raises:
        DataError: a label that is none of them, with its line.
    """
    index_of = {label: index for index, label in enumerate(labels)}
    indices = np.zeros(len(rows), dtype=np.int64)
    for row, label in enumerate(rows.column("label")):
        if label not in index_of:
            raise DataError(
                f"label {label!r} is none of the model's",
                where=f"{rows.where(row)}, field 'label'",
                allowed=", ".join(labels[:_LABELS_SHOWN]),
            )
        indices[row] = index_of[label]
    return indices


def probabilities(logits_BC: Floats) -> Floats:
    """Return the softmax of each row, stable for any finite logits, in float64."""
    shifted_BC = logits_BC.astype(np.float64)
    shifted_BC -= shifted_BC.max(axis=-1, keepdims=True, initial=-np.inf)
    powers_BC = np.exp(shifted_BC)
    normed: Floats = powers_BC / powers_BC.sum(axis=-1, keepdims=True)
    return normed


def natural_order(label: str) -> tuple[int, float, str]:
    """Sort "2" before "10", and numbers before names."""
    try:
        number = float(label)
    except ValueError:
        number = math.nan
    # nan is a name too: it is neither less nor greater than any number.
    return (1, 0.0, label) if math.isnan(number) else (0, number, label)
