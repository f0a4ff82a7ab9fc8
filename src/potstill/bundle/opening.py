"""From what a user names (a folder or hub name) to a described folder: the door of all verbs."""

from __future__ import annotations

from pathlib import Path

from potstill.bundle.folder import ModelFolder, open_folder
from potstill.bundle.hub import resolve
from potstill.bundle.pickles import convert_pickles

CONVERTED_SUFFIX = "-safetensors"


def open_model(name_or_path: str | Path, *, allow_pickle: bool = False) -> ModelFolder:
    """Describe a model folder, downloading a "hub:NAME" first.

    Args:
        name_or_path: a Hugging Face folder, a sentence-transformers folder, a bundle or a hub name.
        allow_pickle: convert a folder that holds pickles alone, once, in a child process; the
            copy stands beside it as NAME-safetensors and is used from then on.

    Raises:
        ModelError: the folder cannot be used.
    """
    path = resolve(name_or_path)
    if allow_pickle and path.is_dir() and not any(path.glob("*.safetensors")):
        converted = path.absolute().with_name(path.absolute().name + CONVERTED_SUFFIX)
        path = converted if converted.is_dir() else convert_pickles(path, into=converted)
    return open_folder(path)
