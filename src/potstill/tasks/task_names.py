"""The names of tasks: ours, and those of Hugging Face's pipelines, which mean the same."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from potstill.errors import RecipeError

TASK_NAMES = (
    "classification",
    "multi-label",
    "regression",
    "token-classification",
    "question-answering",
    "embedding",
    "ranking",
    "masked-lm",
)
PIPELINE_NAMES: Mapping[str, str] = {
    "text-classification": "classification",
    "sentiment-analysis": "classification",
    "ner": "token-classification",
    "fill-mask": "masked-lm",
    "feature-extraction": "embedding",
    "text-ranking": "ranking",
    "sentence-similarity": "embedding",
}


def task_named(name: str) -> str:
    """Return our name of a task; Hugging Face's pipeline names are understood too.

    Raises:
        RecipeError: no such task; the closest name is told.
    """
    ours = {known: known for known in TASK_NAMES} | dict(PIPELINE_NAMES)
    if isinstance(name, str) and name in ours:  # a library's caller may give anything
        return ours[name]
    close = get_close_matches(str(name).lower(), ours, n=1)
    raise RecipeError(
        f"task is {name!r}",
        allowed=", ".join(ours),
        cure=f"did you mean {close[0]}?" if close else None,
    )
