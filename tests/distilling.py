"""Tiny distillations: teachers on disk and in memory, and the words of a quick command."""

from __future__ import annotations

from pathlib import Path

import torch

from potstill.architectures.config import Family
from potstill.architectures.heads import HeadSpec
from potstill.bundle.manifest import Manifest
from potstill.bundle.write import BundleContent, write_bundle
from potstill.models import TaskModel
from potstill.models.loading import tensors_of
from potstill.text.tokenizer_files import load_tokenizer
from tests.command_line import QUICK
from tests.tiny import tiny_config, write_tiny_tokenizer

LABELS = ("blame", "praise")
_DECIDED = 0.3  # deviation of drawn weights: wide enough that answers differ from text to text


def teacher_model(
    family: Family = "bert",
    *,
    layers: int = 4,
    labels: tuple[str, ...] = LABELS,
    pooling: str = "first",
    seed: int = 7,
    **config: object,
) -> TaskModel:
    """Return a frozen classifier whose answers differ, biases and token types included."""
    spec = HeadSpec(kind="classification", labels=labels, pooling=pooling)
    chosen = tiny_config(family, layers=layers, initializer_range=_DECIDED, **config)
    return _drawn(TaskModel(chosen, spec), seed)


def write_teacher(folder: Path, **options: object) -> Path:
    """Write such a classifier with its tokenizer as a bundle of ours."""
    return _write(folder, teacher_model(**options))


def write_encoder(folder: Path, *, layers: int = 4, seed: int = 11, **config: object) -> Path:
    """Write a bare encoder of the teacher's shape, as a teacher is tuned from."""
    return _write(folder, _drawn(TaskModel(tiny_config(layers=layers, **config)), seed))


def distilling(teacher: object, out: object, *more: object) -> list[object]:
    """Return the words of a quick distillation."""
    return ["distill", "--teacher", teacher, "--out", out, *QUICK, *more]


@torch.no_grad()
def _drawn(model: TaskModel, seed: int) -> TaskModel:
    model.initialize(seed)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.normal_(0.0, 0.2, generator=generator)
    return model.requires_grad_(requires_grad=False)


def _write(folder: Path, model: TaskModel) -> Path:
    words = folder.with_name(folder.name + "-words")
    write_tiny_tokenizer(words)
    is_classifier = model.spec.kind == "classification"
    task = "regression" if len(model.spec.labels) == 1 else "classification"
    content = BundleContent(
        config=model.config,
        head=model.spec,
        tensors=tensors_of(model),
        tokenizer=load_tokenizer(words, family="bert"),
        manifest=Manifest(
            task=task if is_classifier else None,
            pooling=model.spec.pooling if is_classifier else None,
        ),
    )
    write_bundle(folder, content)
    return folder
