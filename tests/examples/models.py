"""Tiny models of several tasks, as the examples are given them."""

from __future__ import annotations

import json
from pathlib import Path

from tests.folders import write_tiny_model

HEADS = {  # by task, where it is not of the same name
    "multi-label": {"kind": "classification", "problem": "multi_label_classification"},
    "regression": {"kind": "classification", "labels": ("score",), "problem": "regression"},
    "ranking": {"kind": "classification", "labels": ("score",)},
}
# Task, settings of the bundle, and how the examples refuse it.
OF_OTHER_TASKS = [
    ("token-classification", {}, "the task of this model is token-classification; allowed: "),
    ("question-answering", {}, "the task of this model is question-answering; allowed: "),
    ("ranking", {}, "the task of this model is ranking; allowed: "),
    ("classification", {"pairs": True}, "this model reads pairs of texts; allowed: "),
]


def write_model(place: Path, task: str, **told: object) -> Path:
    """Write a model of a task; its potstill.json says what is told besides."""
    head = {"kind": task, **HEADS.get(task, {})}
    folder = write_tiny_model(place / "source", task=task, **head)
    manifest = folder / "potstill.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | told))
    return folder
