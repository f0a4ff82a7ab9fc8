"""potstill.json: what a bundle knows beyond Hugging Face's files, and what it is made of."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from potstill.bundle.json_files import read_json_object, write_json
from potstill.errors import ModelError
from potstill.files import sha256_of_file

MANIFEST_NAME = "potstill.json"
SCHEMA_VERSION = 1

# The files by which a model's answers are determined; notes and runtime files are not among them.
_IDENTITY_NAMES = {
    "config.json",
    "modules.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
}

_RUNTIME_FOLDERS = ("openvino/", "onnx/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The content of potstill.json."""

    schema_version: int = SCHEMA_VERSION
    task: str | None = None
    pooling: str | None = None
    primary: str | None = None  # the metric that choices were made by, None where none was
    max_length: int | None = None  # tokens of a text, special ones included
    long_texts: str | None = None  # cut, or read in windows
    overlap: int | None = None  # tokens that two windows share
    thresholds: Mapping[str, float] = field(default_factory=dict)  # of answers, chosen on dev
    settings: Mapping[str, Any] = field(default_factory=dict)  # what else the task is asked
    lineage: Mapping[str, Any] = field(default_factory=dict)  # from which model and recipe
    measurements: Mapping[str, Any] = field(default_factory=dict)
    engine: Mapping[str, Any] = field(default_factory=dict)  # the choice, and what was tried for it
    files: Mapping[str, str] = field(default_factory=dict)  # name -> sha256


_TEXT, _NUMBER = (str, type(None)), (int, type(None))
_KINDS: Mapping[str, tuple[type, ...]] = {
    "schema_version": (int,),
    "task": _TEXT,
    "pooling": _TEXT,
    "primary": _TEXT,
    "max_length": _NUMBER,
    "long_texts": _TEXT,
    "overlap": _NUMBER,
    "thresholds": (dict,),
    "settings": (dict,),
    "lineage": (dict,),
    "measurements": (dict,),
    "engine": (dict,),
    "files": (dict,),
}


def read_manifest(folder: Path) -> Manifest | None:
    """Read potstill.json; None if the folder has none.

    Raises:
        ModelError: not readable, or written by a newer potstill.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        return None
    content = read_json_object(path)
    version = content.get("schema_version")
    if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
        raise ModelError(
            f"schema_version is {version!r}",
            where=str(path),
            allowed=f"1 to {SCHEMA_VERSION}",
            cure="pip install --upgrade potstill",
        )
    known = {name: content[name] for name in _KINDS if name in content}
    for name, value in known.items():
        if type(value) not in _KINDS[name]:
            raise ModelError(
                f"{name} is of type {type(value).__name__}",
                where=str(path),
                cure="copy the bundle again",
            )
    for name, level in known.get("thresholds", {}).items():
        if type(level) not in (int, float):
            raise ModelError(
                f"the threshold of {name!r} is of type {type(level).__name__}",
                where=str(path),
                allowed="a number",
            )
    return Manifest(**known)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write potstill.json with the hash of every file that stands in the folder now."""
    content = asdict(manifest)
    content["files"] = {
        name: sha256_of_file(folder / name) for name in _files_of(folder) if name != MANIFEST_NAME
    }
    write_json(folder / MANIFEST_NAME, content)


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Check the files that determine answers against the manifest's hashes.

    Raises:
        ModelError: a file is missing or was changed after the bundle was written.
    """
    for name, expected in manifest.files.items():
        fault = _fault_of(folder / name, expected) if is_identity_file(name) else None
        if fault is not None:
            raise ModelError(
                fault,
                where=str(folder / name),
                cure="copy the bundle again; after a change of your own, remove potstill.json",
            )


def altered_files(folder: Path, manifest: Manifest, *, has_notes: bool = True) -> list[str]:
    """Return which files are missing or are not those of the manifest, a line each.

    Args:
        folder: of the bundle.
        manifest: its own.
        has_notes: False of a copy that is whole without what no engine reads.
    """
    found = (
        (name, _fault_of(folder / name, expected))
        for name, expected in manifest.files.items()
        if has_notes or is_identity_file(name) or is_runtime_file(name)
    )
    return [f"{name}: {fault}" for name, fault in found if fault is not None]


def _fault_of(file: Path, expected: str) -> str | None:
    if not file.is_file():
        return "the file is missing from the bundle"
    if sha256_of_file(file) != expected:
        return "the file was changed after the bundle was written"
    return None


def fingerprint(folder: Path) -> str:
    """Return "sha256:…" over the sorted names and hashes of config, weights and tokenizer.

    In a bundle without weights the files of its engines stand for them.
    """
    names = list(_files_of(folder))
    has_weights = any(is_identity_file(name) and ".safetensors" in name for name in names)
    lines = (
        f"{name} {sha256_of_file(folder / name)}\n"
        for name in names
        if is_identity_file(name) or (is_runtime_file(name) and not has_weights)
    )
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def is_identity_file(name: str) -> bool:
    """Tell whether a file (path inside the folder) determines what the model answers."""
    return (
        name in _IDENTITY_NAMES
        or ("/" not in name and name.endswith((".safetensors", ".safetensors.index.json")))
        or name.endswith(("_Pooling/config.json", "_Dense/config.json", "_Dense/model.safetensors"))
    )


def copy_identity_files(source: Path, target: Path, *, with_weights: bool) -> None:
    """Copy what determines a model's answers into another folder, with or without its weights."""
    for name in _files_of(source):
        if is_identity_file(name) and (with_weights or ".safetensors" not in name):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target / name)


def is_runtime_file(name: str) -> bool:
    """Tell whether a file (path inside the folder) is one that only an engine reads."""
    return name.startswith(_RUNTIME_FOLDERS)


def _files_of(folder: Path) -> Iterable[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
