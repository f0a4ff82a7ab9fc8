"""From what a user names (a folder or hub name) to a described folder: the door of all verbs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from potstill.bundle.folder import ModelFolder, open_folder
from potstill.bundle.hub import resolve
from potstill.bundle.json_files import read_json_object, write_json
from potstill.bundle.manifest import MANIFEST_NAME
from potstill.bundle.pickles import convert_pickles, hashes_of_sources
from potstill.errors import ModelError, OutputError
from potstill.files import flush_file, move_into_place, told_in_one_line, workspace_beside
from potstill.locks import locked

CONVERTED_SUFFIX = "-safetensors"
RECORD = "converted.json"  # in the copy: of which folder, of which state of its files, what is ours


def open_model(name_or_path: str | Path, *, allow_pickle: bool = False) -> ModelFolder:
    """Describe a model folder, downloading a "hub:NAME" first.

    Args:
        name_or_path: a Hugging Face folder, a sentence-transformers folder, a bundle or a hub name.
        allow_pickle: convert a folder that holds pickles alone, in a child process; the copy stands
            beside it as NAME-safetensors and is used until the folder's files change.

    Raises:
        ModelError: the folder cannot be used, or another one stands where its copy would.
        OutputError: the copy cannot be written.
    """
    path = resolve(name_or_path)
    if allow_pickle and _holds_pickles_alone(path):
        path = _converted(path)
    return open_folder(path)


def _holds_pickles_alone(path: Path) -> bool:
    """Tell it from a bundle that holds graphs in place of weights, which needs no converting."""
    return any(path.glob("*.bin")) and not any(path.glob("*.safetensors"))


def _converted(path: Path) -> Path:
    """Return the copy beside a folder, made by whoever comes first; under torchrun all come."""
    path = path.absolute()
    copy = path.with_name(path.name + CONVERTED_SUFFIX)
    sources = hashes_of_sources(path)
    if _is_made_of(copy, path.name, sources):
        return copy
    with locked(copy.with_name(f".{copy.name}.making"), waiting=_wait_silently):
        if _is_made_of(copy, path.name, sources):
            return copy
        try:
            _make(copy, path, sources)
        except OutputError:
            if _is_made_of(copy, path.name, sources):  # without locks another was quicker
                return copy
            raise
    _warn(f"{path}: its pickles were converted; the copy that is used is {copy}")
    return copy


def _is_made_of(copy: Path, name: str, sources: Mapping[str, str]) -> bool:
    """Tell whether a copy is of these files; False also where there is none yet.

    Raises:
        ModelError: what stands there is no copy of this folder.
    """
    if not os.path.lexists(copy) or (copy.is_dir() and not any(copy.iterdir())):
        return False
    record = _record_of(copy)
    if record.get("from") != name:
        raise ModelError(
            f"{copy.name} is no copy of {name} that --allow-pickle made, and stands in its place",
            where=str(copy),
            cure="move it away, or name it instead if it is the model that you mean",
        )
    return record.get("sources") == sources


def _record_of(copy: Path) -> dict[str, Any]:
    """Return what a copy says of itself; nothing where it is not ours."""
    try:
        return read_json_object(copy / RECORD) if (copy / RECORD).is_file() else {}
    except ModelError:
        return {}


def _make(copy: Path, path: Path, sources: Mapping[str, str]) -> None:
    """Convert a folder; a copy of an earlier state gives way when the new one is whole."""
    with workspace_beside(copy) as place:
        made = convert_pickles(path, into=place / copy.name)
        ours = sorted(file.relative_to(made).as_posix() for file in _files_in(made))
        write_json(made / RECORD, {"from": path.name, "sources": sources, "files": ours})
        before = place / "before"
        with told_in_one_line(copy):
            if copy.is_dir():
                _take_over(copy, made)
                copy.rename(before)
            try:
                move_into_place(made, copy)
            except BaseException:
                if before.exists() and not copy.exists():
                    before.rename(copy)
                raise


def _take_over(before: Path, made: Path) -> None:
    """Copy into a new copy what a user has put into the earlier one.

    Its manifest is left behind: what it tells was measured of other weights.
    """
    told = _record_of(before).get("files")
    ours = {RECORD, MANIFEST_NAME, *(map(str, told) if isinstance(told, list) else ())}
    for file in _files_in(before):
        name = file.relative_to(before).as_posix()
        if name not in ours and not (made / name).exists():
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, made / name)
            flush_file(made / name)


def _files_in(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


def _warn(line: str) -> None:
    import logging  # seldom needed, and a start counts

    logging.getLogger(__name__).warning(line)


def _wait_silently(holder: str) -> None:
    del holder
