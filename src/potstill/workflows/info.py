"""`info`: what a model folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from potstill.architectures.counting import count_parameters
from potstill.architectures.heads import hf_class_name
from potstill.bundle.folder import ModelFolder
from potstill.bundle.manifest import altered_files, fingerprint
from potstill.bundle.opening import open_model
from potstill.bundle.runtime_files import runtime_files
from potstill.errors import ModelError
from potstill.hub_names import is_hub
from potstill.runtime.choice import size_on_disk


def describe(name_or_path: str | Path, *, allow_pickle: bool = False) -> dict[str, Any]:
    """Describe a folder without loading its weights.

    Raises:
        ModelError: the folder cannot be used at all; what can be told in spite of a fault (a broken
            tokenizer, missing weights, an altered graph) is told as a warning.
    """
    folder = open_model(name_or_path, allow_pickle=allow_pickle)
    config, plan = folder.config, folder.plan
    manifest = folder.manifest
    return {
        "path": str(folder.path),
        "architecture": config.family,
        "layers": config.layers,
        "hidden_size": config.hidden_size,
        "heads": config.heads,
        "feed_forward_size": config.feed_forward_size,
        "vocabulary_size": config.vocabulary_size,
        "max_length": folder.max_length,
        "parameters": count_parameters(config, folder.head),
        "encoder_parameters": count_parameters(config),
        "size_bytes": size_on_disk(folder),
        "dtypes": sorted({entry.dtype for entry in folder.weights.entries.values()}),
        "task": folder.task,
        "labels": list(folder.head.labels),
        "pooling": _pooling(folder),
        "transformers": _transformers(folder),
        "lineage": dict(manifest.lineage) if manifest else {},
        "measurements": dict(manifest.measurements) if manifest else {},
        "weight_files": [file.name for file in folder.weights.files],
        "runtime_files": runtime_files(folder.path),
        "engine": dict(manifest.engine) if manifest else {},
        "ignored_weights": plan.ignored,
        "unknown_weights": plan.unknown,
        "fingerprint": fingerprint(folder.path),
        "warnings": [*folder.warnings(), *_altered(folder, name_or_path), *_faults(folder)],
    }


def _pooling(folder: ModelFolder) -> dict[str, Any] | None:
    if folder.head.kind == "classification":
        return {"pooling": folder.head.pooling, "normalize": False}
    if folder.vectors is not None:
        return {"pooling": folder.vectors.pooling, "normalize": folder.vectors.normalize}
    return None


def _transformers(folder: ModelFolder) -> dict[str, Any]:
    """Tell what plain transformers does with the folder."""
    if not folder.has_weights:
        return {
            "class": None,
            "complete": False,
            "note": "the bundle holds graphs for engines and no weights; transformers loads its "
            "config and tokenizer alone",
        }
    is_ours_alone = folder.head.is_mean_classifier
    return {
        "class": hf_class_name(folder.config.family, folder.head),
        "complete": not is_ours_alone,
        "note": "the mean-pooled classifier is potstill's alone; transformers loads the encoder"
        if is_ours_alone
        else "",
    }


def _altered(folder: ModelFolder, name: str | Path) -> list[str]:
    """Return which files are not those of the manifest; who opened it checked some of them only.

    From the hub come the files that engines read, and not a training's log or a report.
    """
    if folder.manifest is None:
        return []
    return altered_files(folder.path, folder.manifest, has_notes=not is_hub(name))


def _faults(folder: ModelFolder) -> list[str]:
    faults = []
    checks = (folder.require_complete,) if folder.has_weights else ()
    for check in (*checks, folder.tokenizer):
        try:
            check()
        except ModelError as error:
            faults.append(str(error))
    return faults
