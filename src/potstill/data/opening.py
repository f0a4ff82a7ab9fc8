"""Open a file of rows, and say plainly why it cannot be read: place, encoding, permission."""

from __future__ import annotations

import codecs
import contextlib
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO

from potstill.errors import DataError

_OTHER_ENCODINGS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for reading bytes.

    Raises:
        DataError: missing, a folder, empty, not permitted, or the disk failed while it was read.
    """
    try:
        _require_content(path)
        with path.open("rb") as stream:
            yield stream
    except PermissionError as error:
        raise DataError(
            "no permission to read the file", where=str(path), cure=f"chmod u+r {path}"
        ) from error
    except OSError as error:
        raise DataError(
            f"the file cannot be read: {error.strerror or error}", where=str(path)
        ) from error


def numbered_lines(stream: BinaryIO, source: str) -> Iterator[tuple[int, bytes]]:
    r"""Yield each line with its number from 1; a UTF-8 byte order mark at the start is skipped.

    Lines end at `\n` alone, so that U+2028 and its kin stay inside a text.

    Raises:
        DataError: the file is UTF-16 or UTF-32.
    """
    for number, line in enumerate(stream, start=1):
        if number == 1:
            _require_utf8(line, source)
            yield number, line.removeprefix(codecs.BOM_UTF8)
        else:
            yield number, line


def decoded(line: bytes, where: str) -> str:
    """Decode one line.

    Raises:
        DataError: a byte is not UTF-8; the message names its place in the line, from 1.
    """
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"byte {error.start + 1} of the line (0x{line[error.start]:02x}) is not UTF-8",
            where=where,
            allowed="files in UTF-8",
            cure="save the file as UTF-8: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW",
        ) from None


def _require_content(path: Path) -> None:
    if path.is_dir():
        raise DataError(
            "this is a folder, not a file of rows", where=str(path), cure="name one file in it"
        )
    if not path.exists():
        raise DataError("there is no such file", where=str(path), cure=_did_you_mean(path))
    if path.is_file() and path.stat().st_size == 0:
        raise DataError("the file is empty", where=str(path))


def _did_you_mean(path: Path) -> str:
    names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    close = get_close_matches(path.name, names, n=1)
    return f"did you mean {path.with_name(close[0])}?" if close else "check the path"


def _require_utf8(first_line: bytes, source: str) -> None:
    encoding = next(
        (name for mark, name in _OTHER_ENCODINGS if first_line.startswith(mark)),
        "UTF-16" if _alternates_with_zeros(first_line) else None,
    )
    if encoding:
        raise DataError(
            f"the file is {encoding}",
            where=source,
            allowed="files in UTF-8",
            cure=f"save the file as UTF-8: iconv -f {encoding} -t UTF-8 OLD > NEW",
        )


def _alternates_with_zeros(line: bytes) -> bool:
    """Recognise UTF-16 without a mark: rows begin with ASCII, whose every other byte is 0."""
    is_zero = [byte == 0 for byte in line[:4]]
    return is_zero in ([False, True, False, True], [True, False, True, False])
