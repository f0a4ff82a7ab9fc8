"""Tiny model folders on disk."""

from __future__ import annotations

from pathlib import Path

from potstill.bundle.manifest import Manifest
from potstill.bundle.write import BundleContent, write_bundle
from potstill.models import TaskModel
from potstill.models.loading import tensors_of
from potstill.text.tokenizer_files import load_tokenizer
from tests.tiny import tiny_config, tiny_head, write_tiny_tokenizer


def write_tiny_model(
    folder: Path,
    kind: str = "none",
    *,
    task: str | None = None,
    family: str = "bert",
    initializer_range: float = 0.02,
    **head: object,
) -> Path:
    """Write a tiny model with its tokenizer as a bundle of ours."""
    config = tiny_config(family, initializer_range=initializer_range)
    model = TaskModel(config, tiny_head(kind, **head))
    model.initialize(seed=7)
    words = folder.with_name(folder.name + "-words")
    write_tiny_tokenizer(words)
    content = BundleContent(
        config=model.config,
        head=model.spec,
        tensors=tensors_of(model),
        tokenizer=load_tokenizer(words, family="bert"),
        manifest=Manifest(
            task=task, pooling=model.spec.pooling if kind == "classification" else None
        ),
    )
    write_bundle(folder, content)
    return folder
