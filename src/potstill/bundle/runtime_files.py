"""Graphs made ready for one engine: beside a model's weights, or in their place.

`openvino/<precision>.xml` is a graph, `.bin` its numbers; `onnx/<precision>.onnx` holds both.
`last_layer.safetensors` beside them is the last layer of a head that gives one number, which stays
in fp32 outside of the graph. Each file's hash stands in the manifest, and is checked when an engine
reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from potstill.bundle.manifest import Manifest, is_runtime_file
from potstill.errors import ModelError
from potstill.files import sha256_of_file

OPENVINO, ONNX = "openvino", "onnx"
INT8 = "int8"  # weights and activations: products of whole numbers
INT8_WEIGHTS, INT4 = "int8-weights", "int4"  # weights alone

# What `quantize` writes, by engine; what else lies there was exported for other programs.
STORED: Mapping[str, tuple[str, ...]] = {OPENVINO: (INT8, INT8_WEIGHTS, INT4), ONNX: (INT8,)}
QUALITY_OF_COPY = ("quantized", "quantized_gate")  # what `quantize` measures on test rows
HOW_IT_WAS_MADE = ("tried", "sensitivity")  # in a manifest's engine, beside the choice
_OF_GRAPHS = (*HOW_IT_WAS_MADE, "processor")
_LINEAGE_OF_GRAPHS = ("quantized_from", "quantization", "calibrated_on")
_ENDINGS: Mapping[str, tuple[str, ...]] = {OPENVINO: (".xml", ".bin"), ONNX: (".onnx",)}


def graph_files(engine: str, precision: str) -> list[str]:
    """Return the names of a graph's files inside its bundle, the one to open first."""
    return [f"{engine}/{precision}{ending}" for ending in _ENDINGS[engine]]


def last_layer_file(engine: str) -> str:
    """Return the name of the last layer that an engine's graphs leave out."""
    return f"{engine}/last_layer.safetensors"


def stored_precisions(path: Path, engine: str) -> list[str]:
    """Return the precisions whose graphs lie in a folder."""
    names = (name for name in STORED[engine] if (path / graph_files(engine, name)[0]).is_file())
    return sorted(names)


def without_graphs(manifest: Manifest) -> Manifest:
    """Return what a manifest says of a bundle's weights, for a copy that its graphs do not follow.

    A choice of theirs, what they were made of and how good they were would be said of the weights.
    """
    engine, lineage = dict(manifest.engine), dict(manifest.lineage)
    if engine.get("precision") in STORED.get(str(engine.get("name")), ()):
        engine = {}
    for name in _OF_GRAPHS:  # of a graph beside the weights that tune passed over
        engine.pop(name, None)
    measured = dict(manifest.measurements)
    if lineage.get("quantization") in [name for names in STORED.values() for name in names]:
        lineage = {name: lineage[name] for name in lineage if name not in _LINEAGE_OF_GRAPHS}
        measured = without_quality(manifest)
    return replace(manifest, engine=engine, lineage=lineage, measurements=measured)


def without_quality(manifest: Manifest) -> dict[str, Any]:
    """Return what a manifest has measured, but for how good an earlier quantized copy was."""
    measured = manifest.measurements
    return {name: measured[name] for name in measured if name not in QUALITY_OF_COPY}


def graph_bytes(path: Path, engine: str, precision: str) -> int | None:
    """Return the bytes of a stored graph with the layer that it leaves out; None: there is none."""
    if engine not in STORED or precision not in stored_precisions(path, engine):
        return None
    names = [*graph_files(engine, precision), last_layer_file(engine)]
    return sum((path / name).stat().st_size for name in names if (path / name).is_file())


def runtime_files(path: Path) -> list[str]:
    """Return the names of all files that only an engine reads."""
    names = (file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    return sorted(name for name in names if is_runtime_file(name))


def verified_file(path: Path, name: str, manifest: Manifest | None) -> Path:
    """Return a runtime file whose hash is the manifest's.

    Raises:
        ModelError: it is missing, was altered or cut, or no manifest speaks of it.
    """
    file = path / name
    cure = "copy the bundle again, or make the file anew with potstill quantize"
    if not file.is_file():
        raise ModelError("the file is missing from the bundle", where=str(file), cure=cure)
    expected = manifest.files.get(name) if manifest else None
    if expected is None:
        raise ModelError("potstill.json does not name this file", where=str(file), cure=cure)
    if sha256_of_file(file) != expected:
        raise ModelError(
            "the file was changed after the bundle was written", where=str(file), cure=cure
        )
    return file
