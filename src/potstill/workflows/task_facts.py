"""What a bundle's manifest says of its task, so that it is answered later as it was judged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from potstill.architectures.heads import HeadSpec
from potstill.bundle.folder import ModelFolder
from potstill.bundle.sentence_transformers import VectorRecipe
from potstill.tasks.question_answering import QuestionAnswering
from potstill.tasks.task import CUT, Lengths, Task


def task_facts(task: Task, head: HeadSpec, lengths: Lengths) -> dict[str, Any]:
    """Return the fields of a `Manifest` that tell the task, its thresholds and its windows."""
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
        "settings": {"may_be_empty": task.may_be_empty}
        if isinstance(task, QuestionAnswering)
        else {},
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
