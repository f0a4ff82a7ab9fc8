"""Graphs made ready for one engine: beside a model's weights, or in their place.

`openvino/<precision>.xml` is a graph, `.bin` its numbers; `openvino/last_layer.safetensors` is the
last layer of a head that gives one number, which stays in fp32 outside of the graph. Each file's
hash stands in the manifest, and is checked when an engine reads it.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from potstill.bundle.manifest import Manifest, is_runtime_file
from potstill.errors import ModelError
from potstill.files import sha256_of_file

OPENVINO = "openvino"
LAST_LAYER = f"{OPENVINO}/last_layer.safetensors"


def graph_file(precision: str) -> str:
    """Return the name of a graph inside its bundle."""
    return f"{OPENVINO}/{precision}.xml"


def weights_file(graph: str) -> str:
    """Return the name of the file that holds a graph's numbers."""
    return str(PurePosixPath(graph).with_suffix(".bin"))


def stored_precisions(path: Path) -> list[str]:
    """Return the precisions whose graphs lie in a folder."""
    return sorted(file.stem for file in (path / OPENVINO).glob("*.xml"))


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
