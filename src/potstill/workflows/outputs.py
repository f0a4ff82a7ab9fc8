"""Files that a verb writes never take the place of what it reads, nor of a model's weights."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from potstill.errors import OutputError
from potstill.files import told_in_one_line
from potstill.hub_names import is_hub

_WEIGHTS_SUFFIX = ".safetensors"
_CONFIG = "config.json"
_CURE = "name another file"


def require_suffix(output: Path, allowed: Iterable[str], *, flag: str | None = None) -> None:
    """Check what kind of file is asked for.

    Args:
        output: where something will be written.
        allowed: endings of names, with their dots.
        flag: names the file, for the one who is refused, where a verb writes several.

    Raises:
        OutputError: the name ends otherwise.
    """
    if output.suffix not in allowed:
        raise OutputError(
            f"unknown kind of file {output.suffix!r}{f' for {flag}' if flag else ''}",
            where=str(output),
            allowed=", ".join(allowed),
        )


def require_nothing_lost(
    output: Path, *, written: str, rows: object = None, models: Iterable[object] = ()
) -> None:
    """Check, before any work, that a file to write stands for nothing that is read.

    Args:
        output: where something will be written.
        written: what that is, for the one who is refused.
        rows: where rows are read from; what is no file of this disk is passed over.
        models: folders or hub names.

    Raises:
        OutputError: it is the file of the rows, lies in a folder of the models, or is the weights
            of any model.
    """
    with told_in_one_line(output):
        if any(_is_same_file(output, file) for file in _on_this_disk([rows])):
            raise OutputError(
                f"the {written} would replace the rows", where=str(output), cure=_CURE
            )
        for folder in _on_this_disk(models):
            if _lies_in(output, folder):
                raise OutputError(
                    f"the {written} would be written into the folder of the model",
                    where=str(output),
                    cure="name a file elsewhere",
                )
        if _is_weights(output):
            raise OutputError(
                f"the {written} would replace the weights of a model",
                where=str(output),
                cure=_CURE,
            )


def _on_this_disk(named: Iterable[object]) -> Iterator[Path]:
    for each in named:
        if isinstance(each, str | os.PathLike) and not is_hub(each):
            yield Path(each)


def _is_same_file(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def _lies_in(file: Path, folder: Path) -> bool:
    """Tell whether a file, or what a link in its place shows, is below a folder."""
    place = folder.resolve()
    seen = (file.resolve(), file.parent.resolve() / file.name)
    return folder.is_dir() and any(each.is_relative_to(place) for each in seen)


def _is_weights(file: Path) -> bool:
    """Tell whether a model's weights stand there, in one file or a part of them."""
    real = file.resolve()
    return any(
        each.suffix == _WEIGHTS_SUFFIX and each.is_file() and (each.parent / _CONFIG).is_file()
        for each in (real, file)
    )
