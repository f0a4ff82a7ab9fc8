"""What a bundle's manifest says of its task, so that it is answered later as it was judged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from potstill.architectures.heads import HeadSpec
from potstill.bundle.folder import ModelFolder
from potstill.bundle.sentence_transformers import VectorRecipe
from potstill.data.rows import Rows
from potstill.runtime.answering import PAIRED
from potstill.tasks.question_answering import QuestionAnswering
from potstill.tasks.task import CUT, Lengths, Task


def task_facts(task: Task, head: HeadSpec, lengths: Lengths, rows: Rows) -> dict[str, Any]:
    """Return the fields of a `Manifest` that tell the task, its thresholds and its windows.

    Args:
        task: with the thresholds chosen.
        head: of the model.
        lengths: as the training read its rows.
        rows: dev rows, which have the form of the others.
    """
    settings: dict[str, Any] = {}
    if isinstance(task, QuestionAnswering):
        settings["may_be_empty"] = task.may_be_empty
    if task.name in PAIRED and "text_pair" in rows:
        settings["pairs"] = True
    has_windows = lengths.long_texts != CUT
    # "cut" is said where the kind's own way is another: what is not said is read that way.
    is_said = has_windows or task.long_texts != CUT
    return {
        "task": task.name,
        "pooling": head.pooling,
        "max_length": lengths.max_length,
        "long_texts": lengths.long_texts if is_said else None,
        "overlap": lengths.shared_tokens if has_windows else None,
        "thresholds": task.thresholds,
        "settings": settings,
    }


def embedding_head(folder: ModelFolder) -> HeadSpec:
    """Return how a model's hidden states become vectors; a bare encoder's mean is normed."""
    own = folder.answering_head
    if own.kind == "embedding":
        return own
    return HeadSpec(kind="embedding", pooling="mean", normalize=True)


def vector_recipe_of(folder: ModelFolder, head: HeadSpec) -> VectorRecipe | None:
    """Return how a model's vectors are declared: as those of its origin, with its own head."""
    if head.kind != "embedding":
        return None
    return replace(
        folder.vectors or VectorRecipe(),
        pooling=head.pooling,
        normalize=head.normalize,
        width=head.width,
        unheeded=(),
    )
