"""The kinds of tasks by name: made from training rows, or again from what a model folder says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from potstill.architectures.heads import HeadSpec
from potstill.data.rows import Rows
from potstill.tasks.classification import Classification
from potstill.tasks.embedding import Embedding
from potstill.tasks.multi_label import MultiLabel
from potstill.tasks.question_answering import NULL, QuestionAnswering
from potstill.tasks.ranking import Ranking
from potstill.tasks.regression import Regression
from potstill.tasks.task import Task
from potstill.tasks.token_classification import TokenClassification

ANSWERABLE = (
    *("classification", "multi-label", "regression", "token-classification"),
    *("question-answering", "embedding", "ranking"),
)

_FROM_ROWS: Mapping[str, Callable[[Rows], Task]] = {
    "classification": Classification.from_rows,
    "multi-label": MultiLabel.from_rows,
    "regression": Regression.from_rows,
    "token-classification": TokenClassification.from_rows,
    "question-answering": QuestionAnswering.from_rows,
    "ranking": Ranking.from_rows,
    "embedding": Embedding.from_rows,
}


_OF_LABELS: Mapping[str, Callable[[tuple[str, ...]], Task]] = {
    "classification": Classification,
    "regression": Regression,
    "ranking": Ranking,
    "token-classification": TokenClassification,
}


def task_from_rows(name: str, rows: Rows) -> Task:
    """Return the task that training rows pose.

    Raises:
        DataError: rows that pose none: one class, equal numbers, no entity, no answer.
    """
    return _FROM_ROWS[name](rows)


def task_of_model(
    name: str, head: HeadSpec, thresholds: Mapping[str, float], settings: Mapping[str, Any]
) -> Task:
    """Return the task that a model answers.

    Args:
        name: its kind, one of `ANSWERABLE`.
        head: labels, and of an embedding model the way to its vectors.
        thresholds: chosen on dev; see `Task.thresholds`.
        settings: what else a bundle of ours says of its task.
    """
    if name == QuestionAnswering.name:
        # A foreign model does not tell; that every question has an answer is SQuAD 1.1's world.
        may_be_empty = NULL in thresholds or bool(settings.get("may_be_empty", False))
        return QuestionAnswering(may_be_empty=may_be_empty, chosen_thresholds=thresholds)
    if name == MultiLabel.name:
        return MultiLabel(head.labels, thresholds)
    if name == Embedding.name:
        return Embedding(head)
    return _OF_LABELS[name](head.labels)
