"""Read JSONL: one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from potstill.data.opening import decoded, numbered_lines, opened
from potstill.data.records import rows_from_records
from potstill.data.rows import Rows
from potstill.errors import DataError


def read_jsonl(path: Path, *, limit: int | None = None) -> Rows:
    """Read the first `limit` objects, or all of them.

    Blank lines are skipped; keys may differ from line to line (see `rows_from_records`); of a key
    that stands twice in one object the last value wins.

    Raises:
        DataError: with file, line and column of the first fault.
    """
    source = str(path)
    with opened(path) as stream:
        return rows_from_records(
            islice(_numbered_values(stream, source), limit), source=source, unit="line"
        )


def _numbered_values(stream: BinaryIO, source: str) -> Iterator[tuple[int, object]]:
    import orjson  # here, so that rows from memory need numpy alone

    for number, line in numbered_lines(stream, source):
        if line.isspace() or not line:
            continue
        try:
            yield number, orjson.loads(line)
        except json.JSONDecodeError as error:  # the base class of orjson's own
            raise not_json(line, error, f"{source}, line {number}") from None


def not_json(line: bytes, error: json.JSONDecodeError, where: str) -> DataError:
    """Return the one line for what is not JSON, or not even text."""
    decoded(line, where)  # a wrong encoding is told as such
    if "surrogate" in error.msg:
        return DataError(
            "a lone surrogate (half of a UTF-16 pair) stands in a string",
            where=f"{where}, column {error.colno}",
            cure="write both halves, or \\ufffd in its place",
        )
    return DataError(
        f"not valid JSON: {error.msg}",
        where=f"{where}, column {error.colno}",
        allowed="one whole JSON object a line",
    )
