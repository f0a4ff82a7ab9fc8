"""Multi-label classification: each text has any number of the labels, also none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.architectures.heads import HeadSpec, Pooling
from potstill.data.rows import Rows
from potstill.errors import DataError, RecipeError
from potstill.metrics.classification import ClassF1
from potstill.metrics.metric import Metric
from potstill.metrics.multi_label import MacroF1Labels, MicroF1, SubsetAccuracy
from potstill.metrics.per_class import ClassScores, scores_of_counts
from potstill.tasks.classification import F1_PREFIX, natural_order
from potstill.tasks.task import OfWholeTexts, mean_of_windows
from potstill.text.windows import Windows

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]

NAME = "multi-label"
USUAL_THRESHOLD = 0.5
_LABELS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class MultiLabel(OfWholeTexts):
    """Labels that do not exclude each other; answers are probabilities, (B, C)."""

    labels: tuple[str, ...]
    chosen_thresholds: Mapping[str, float] = field(default_factory=dict)  # by label, chosen on dev

    name = NAME
    loss = "yes-or-no"
    metric_names = ("micro_f1", "macro_f1", "subset_accuracy")

    @classmethod
    def from_rows(cls, rows: Rows) -> MultiLabel:
        """Find the labels in training rows.

        Raises:
            DataError: no row has any label.
        """
        labels = sorted({label for row in rows.column("label") for label in row}, key=natural_order)
        if not labels:
            raise DataError("no row has any label", where=f"{rows.source}, field 'label'")
        return cls(tuple(labels))

    @property
    def thresholds(self) -> dict[str, float]:
        """Return the probability from which on a label is answered, by label."""
        return dict(self.chosen_thresholds)

    def head(self, pooling: Pooling) -> HeadSpec:
        """Return the head that answers this task."""
        return HeadSpec(
            kind="classification",
            labels=self.labels,
            pooling=pooling,
            problem="multi_label_classification",
        )

    def targets(self, rows: Rows, windows: Windows) -> Floats:
        """Return 1 for each label of a window's row, else 0, (W, C)."""
        return self.gold(rows)[windows.rows].astype(np.float32)

    def unknown_targets(self, windows: Windows) -> Floats:
        """Return nan for each window and label."""
        return np.full((len(windows.texts), len(self.labels)), np.nan, dtype=np.float32)

    def gold(self, rows: Rows) -> Bools:
        """Return which labels each row has, (B, C).

        Raises:
            DataError: a label that was not in the training rows, with its line.
        """
        index_of = {label: index for index, label in enumerate(self.labels)}
        has_BC = np.zeros((len(rows), len(self.labels)), dtype=bool)
        for row, labels in enumerate(rows.column("label")):
            for label in labels:
                if label not in index_of:
                    raise DataError(
                        f"label {label!r} is none of the model's",
                        where=f"{rows.where(row)}, field 'label'",
                        allowed=", ".join(self.labels[:_LABELS_SHOWN]),
                    )
                has_BC[row, index_of[label]] = True
        return has_BC

    def answers(self, outputs: Floats, windows: Windows, rows: Rows) -> Floats:
        """Return the probability of each label, (B, C), from the mean logits of a row's windows."""
        del rows
        logits_BC = mean_of_windows(outputs, windows).astype(np.float64)
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits_BC)))  # sigmoid without overflow

    def as_gold(self, answers: Floats) -> Bools:
        """Return the labels answered."""
        return self._said(answers)

    def primary(self, *, has_gold: bool) -> str:
        """Return micro F1."""
        del has_gold
        return "micro_f1"

    def metric(self, name: str) -> Metric:
        """Return a metric by its name: micro_f1, macro_f1, subset_accuracy, or f1:LABEL.

        Raises:
            RecipeError: no such metric, or no such label.
        """
        if name.removeprefix(F1_PREFIX) in self.labels and name.startswith(F1_PREFIX):
            return ClassF1(1, name=name)
        plain: dict[str, Metric] = {
            "micro_f1": MicroF1(),
            "macro_f1": MacroF1Labels(len(self.labels)),
            "subset_accuracy": SubsetAccuracy(),
        }
        if name not in plain:
            raise RecipeError(f"primary is {name!r}", allowed=f"{', '.join(plain)}, f1:LABEL")
        return plain[name]

    def statistics(self, metric: Metric, answers: Floats, gold: Bools) -> Floats:
        """Return the metric's statistics of each row."""
        said = self._said(answers)
        if isinstance(metric, ClassF1):
            place = self.labels.index(metric.name.removeprefix(F1_PREFIX))
            return metric.statistics(said[:, place].astype(int), gold[:, place].astype(int))
        return metric.statistics(said, gold)

    def trivial(self, gold: Bools) -> tuple[Floats, str]:
        """Return the answer that has each label which most rows have."""
        most = gold.mean(axis=0) > USUAL_THRESHOLD
        named = [label for label, is_there in zip(self.labels, most, strict=True) if is_there]
        return np.tile(most.astype(float), (len(gold), 1)), ", ".join(named) or "no label"

    def breakdown(self, answers: Floats, gold: Bools) -> list[ClassScores]:
        """Return precision, recall and F1 of each label."""
        said = self._said(answers)
        return scores_of_counts(
            self.labels, (said & gold).sum(axis=0), said.sum(axis=0), gold.sum(axis=0)
        )

    def same(self, one: Floats, other: Floats) -> Bools:
        """Tell where both answer the same labels."""
        return np.asarray((self._said(one) == self._said(other)).all(axis=1))

    def right(self, answers: Floats, gold: Bools) -> Bools:
        """Tell where all labels are right."""
        return np.asarray((self._said(answers) == gold).all(axis=1))

    def sureness(self, answers: Floats) -> Floats:
        """Return how far the nearest label is from its threshold, 0 to 1."""
        return np.asarray(np.abs(answers - self._levels).min(axis=1))

    def shown(self, answers: Floats) -> list[str]:
        """Return the labels of each answer."""
        return [_listed(self._names(has)) for has in self._said(answers)]

    def shown_gold(self, rows: Rows) -> list[str]:
        """Return each row's labels."""
        return [_listed(labels) for labels in rows.column("label")]

    def items(self, answers: Floats, rows: Rows, truncated: Bools) -> list[dict[str, Any]]:
        """Return for each row the labels answered, the best one, and the probabilities of all."""
        del rows
        items = []
        for scores, has, is_cut in zip(answers, self._said(answers), truncated, strict=True):
            ranked = [
                {"label": self.labels[index], "score": float(scores[index])}
                for index in np.argsort(-scores, kind="stable")
            ]
            labels = self._names(has)
            items.append(
                {**ranked[0], "labels": labels, "scores": ranked, "truncated": bool(is_cut)}
            )
        return items

    def fitted(self, answers: Floats, gold: Bools) -> MultiLabel:
        """Return the task with the threshold of each label at which its F1 is best on these rows.

        A label that no row has, or whose F1 no threshold betters, keeps the usual one half.
        """
        found = {
            label: _best_threshold(answers[:, place], gold[:, place])
            for place, label in enumerate(self.labels)
        }
        return replace(self, chosen_thresholds=found)

    @property
    def _levels(self) -> Floats:
        return np.array(
            [self.chosen_thresholds.get(label, USUAL_THRESHOLD) for label in self.labels]
        )

    def _said(self, answers: Floats) -> Bools:
        return np.asarray(answers >= self._levels)

    def _names(self, has: Bools) -> list[str]:
        return [self.labels[index] for index in np.flatnonzero(has)]


def _best_threshold(scores: Floats, gold: Bools) -> float:
    """Return the threshold of the best F1: one half, or midway between two scores."""
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(gold[order])
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + max(int(gold.sum()), 1))
    usual = scores >= USUAL_THRESHOLD
    usual_f1 = 2 * (usual & gold).sum() / max(int(usual.sum() + gold.sum()), 1)
    is_end = np.append(ranked[1:] < ranked[:-1], True)  # not between equal scores
    best = int(np.argmax(np.where(is_end, f1, -1.0)))
    if not gold.any() or f1[best] <= usual_f1:
        return USUAL_THRESHOLD
    below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    return float((ranked[best] + below) / 2)


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels) or "(none)"
