"""From what a user names (a folder or hub name) to a described folder: the door of all verbs."""

from __future__ import annotations

from pathlib import Path

from potstill.bundle.folder import ModelFolder, open_folder
from potstill.bundle.hub import resolve
from potstill.bundle.pickles import convert_pickles
from potstill.errors import OutputError
from potstill.locks import locked

CONVERTED_SUFFIX = "-safetensors"


def open_model(name_or_path: str | Path, *, allow_pickle: bool = False) -> ModelFolder:
    """Describe a model folder, downloading a "hub:NAME" first.

    Args:
        name_or_path: a Hugging Face folder, a sentence-transformers folder, a bundle or a hub name.
        allow_pickle: convert a folder that holds pickles alone, once, in a child process; the
            copy stands beside it as NAME-safetensors and is used from then on.

    Raises:
        ModelError: the folder cannot be used.
        OutputError: the copy cannot be written.
    """
    path = resolve(name_or_path)
    if allow_pickle and path.is_dir() and not any(path.glob("*.safetensors")):
        path = _converted(path)
    return open_folder(path)


def _converted(path: Path) -> Path:
    """Return the copy beside a folder, made by whoever comes first; under torchrun all come."""
    copy = path.absolute().with_name(path.absolute().name + CONVERTED_SUFFIX)
    if copy.is_dir():
        return copy
    with locked(copy.with_name(f".{copy.name}.making"), waiting=_wait_silently):
        if copy.is_dir():
            return copy
        try:
            return convert_pickles(path, into=copy)
        except OutputError:
            if copy.is_dir():  # on a disk that knows no locks another was quicker
                return copy
            raise


def _wait_silently(holder: str) -> None:
    del holder
