"""What quantizing is tested on: a classifier with opinions, and rows that it answers rightly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

import potstill
from potstill.bundle.manifest import Manifest, write_manifest
from tests.folders import write_tiny_model
from tests.tiny import WORDS

TEXTS = [
    " ".join(np.random.default_rng(seed).choice(WORDS[5:24], 3 + seed % 9)) for seed in range(120)
]


def write_source(folder: Path) -> Path:
    """Write a classifier that gives each of its answers to some of the texts."""
    write_tiny_model(folder, "classification", task="classification")
    weights = load_file(folder / "model.safetensors")
    for name, array in weights.items():
        if array.ndim == 2:  # as drawn, all texts would look alike to it
            weights[name] = 10.0 * array
    _save(folder, weights)
    model = potstill.load(folder, precision="fp32", threads=1)
    logits = model.engine.run(model.encode(TEXTS).batch)["logits"]
    weights["classifier.bias"] -= np.median(logits, axis=0)
    _save(folder, weights)
    return folder


def write_answered_rows(source: Path, file: Path) -> Path:
    """Write rows that the source answers without a fault."""
    answers = potstill.load(source, precision="fp32").predict(TEXTS)
    lines = [
        json.dumps({"text": text, "label": answer["label"]})
        for text, answer in zip(TEXTS, answers, strict=True)
    ]
    file.write_text("\n".join(lines) + "\n")
    return file


def _save(folder: Path, weights: dict[str, np.ndarray]) -> None:
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    manifest = json.loads((folder / "potstill.json").read_text())
    write_manifest(folder, Manifest(task=manifest["task"], pooling=manifest["pooling"]))
