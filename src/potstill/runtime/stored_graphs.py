"""Graphs that lie in a bundle: which of them serve here, and whether they are what they claim."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.folder import ModelFolder
from potstill.bundle.runtime_files import (
    INT8,
    graph_files,
    last_layer_file,
    stored_precisions,
    verified_file,
)
from potstill.bundle.safetensors_header import read_header
from potstill.bundle.weights import WeightFiles, read_tensors
from potstill.errors import ModelError, RecipeError
from potstill.runtime.choice import choice_of
from potstill.runtime.graph import input_names, leaves_last_layer
from potstill.runtime.outputs import OutputShapes
from potstill.runtime.processors import AVX2, processor_here, runs_here

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]  # weight (C, D), bias (C,)


def usable_precisions(folder: ModelFolder, engine: str, written: Sequence[str]) -> list[str]:
    """Return what this model can be asked for on this processor, what to take unasked last.

    Args:
        folder: the model.
        engine: that answers.
        written: precisions whose graph the engine writes from weights, the best last.

    Raises:
        ModelError: the bundle holds neither weights nor a graph for this engine.
    """
    stored, choice = stored_precisions(folder.path, engine), choice_of(folder)
    chosen = choice.precision if choice is not None and choice.name == engine else None
    if not folder.has_weights and chosen is not None:  # the graph may be missing: its reader tells
        return [*(name for name in stored if name != chosen), chosen]
    if not folder.has_weights:
        if not stored:
            folder.require_complete()
        return stored
    if chosen in stored:
        return [*written, *(name for name in stored if name != chosen), chosen]
    return [*stored, *written]


def require_usable(precision: str, usable: Sequence[str], engine: str) -> str:
    """Return the precision to take.

    Raises:
        RecipeError: one is asked for that cannot be used.
    """
    chosen = usable[-1] if precision == "auto" else precision
    if chosen not in usable:
        raise RecipeError(
            f"precision is {precision!r} on cpu",
            allowed=f"{', '.join(['auto', *usable])} with the {engine} engine on this processor",
        )
    return chosen


def stored_graph(
    folder: ModelFolder, engine: str, precision: str, outputs: Collection[str]
) -> tuple[Path, Layer | None]:
    """Return the file of a stored graph and the layer that it leaves out, their hashes checked.

    Raises:
        RecipeError: it does not give these outputs.
        ModelError: a file is missing or altered, or was made for another processor.
    """
    head = folder.answering_head
    first = OutputShapes(folder.config, head).names[0]
    given = {first, *(["vectors"] if head.kind == "embedding" else [])}
    if not given.issuperset(outputs):
        raise RecipeError(
            f"the {precision} graph of this bundle does not give {', '.join(outputs)}",
            allowed=", ".join(sorted(given)),
        )
    _require_processor(folder, precision)
    files = [
        verified_file(folder.path, name, folder.manifest) for name in graph_files(engine, precision)
    ]
    layer = None
    if leaves_last_layer(head):
        name = last_layer_file(engine)
        layer = _read_last_layer(verified_file(folder.path, name, folder.manifest))
    return files[0], layer


def require_inputs(names: Collection[str], folder: ModelFolder, file: Path) -> None:
    """Check that a stored graph takes what engines give.

    Raises:
        ModelError: another version of potstill wrote it.
    """
    if set(names) != set(input_names(folder.config)):
        raise ModelError(
            "this graph was written by another version of potstill",
            where=str(file),
            cure="quantize its source again",
        )


def is_right_here(folder: ModelFolder, precision: str) -> bool:
    """Tell whether a stored graph was made for processors like this one, or for any."""
    return precision != INT8 or runs_here(_made_for(folder))


def _made_for(folder: ModelFolder) -> str | None:
    return folder.manifest.engine.get("processor") if folder.manifest else None


def _require_processor(folder: ModelFolder, precision: str) -> None:
    if not is_right_here(folder, precision):
        raise ModelError(
            f"its int8 graph was made for {_made_for(folder)} processors and can answer wrongly "
            f"on this one ({processor_here()})",
            where=str(folder.path),
            cure=f"quantize its source again with --for {AVX2}",
        )


def _read_last_layer(file: Path) -> Layer:
    header = read_header(file)
    found = dict(read_tensors(WeightFiles((file,), header, file.stat().st_size)))
    return found["weight"], found["bias"]
