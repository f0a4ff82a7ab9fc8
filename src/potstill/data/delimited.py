"""Read CSV and TSV: a header, then one record a row, quoted as RFC 4180 says."""

from __future__ import annotations

import contextlib
import csv
import threading
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from potstill.data.opening import decoded, numbered_lines, opened
from potstill.data.rows import Rows
from potstill.errors import DataError

if TYPE_CHECKING:
    from _csv import Reader

_LARGEST_FIELD_CHARACTERS = 2**31 - 1  # the C long of every platform holds it
_field_size_lock = threading.Lock()


def read_csv(path: Path, *, limit: int | None = None) -> Rows:
    """Read the first `limit` records of a comma-separated file, or all of them.

    Every value is a string, an empty field is "". Blank lines are skipped. A record that spans
    several lines is known by its first.

    Raises:
        DataError: with file and line of the first fault.
    """
    return _read(path, delimiter=",", limit=limit)


def read_tsv(path: Path, *, limit: int | None = None) -> Rows:
    """Read the first `limit` records of a tab-separated file; otherwise as `read_csv`."""
    return _read(path, delimiter="\t", limit=limit)


def _read(path: Path, *, delimiter: str, limit: int | None) -> Rows:
    source = str(path)
    with opened(path) as stream, _long_fields_allowed():
        reader = csv.reader(_text_lines(stream, source), delimiter=delimiter, strict=True)
        records = _records(reader, source)
        header_line, header = next(records, (1, []))
        _require_distinct(header, f"{source}, line {header_line}")
        numbered = list(islice(_whole_records(records, header, source), limit))
    values = [list(column) for column in zip(*(record for _, record in numbered), strict=True)]
    columns = dict(zip(header, values or [[] for _ in header], strict=True))
    return Rows(columns, source, line_numbers=[number for number, _ in numbered])


@contextlib.contextmanager
def _long_fields_allowed() -> Iterator[None]:
    """Lift csv's limit of 128 Ki characters a field, which is one for the whole process."""
    with _field_size_lock:
        before = csv.field_size_limit(_LARGEST_FIELD_CHARACTERS)
        try:
            yield
        finally:
            csv.field_size_limit(before)


def _text_lines(stream: BinaryIO, source: str) -> Iterator[str]:
    for number, line in numbered_lines(stream, source):
        where = f"{source}, line {number}"
        if b"\0" in line:
            raise DataError(
                f"byte {line.index(0) + 1} of the line is NUL",
                where=where,
                cure="remove the NUL bytes: tr -d '\\000' < OLD > NEW",
            )
        yield decoded(line, where)


def _records(reader: Reader, source: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with the line on which it starts."""
    while True:
        start = reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise _not_a_record(error, f"{source}, line {start}") from None
        if record is None:
            return
        if record:
            yield start, record


def _not_a_record(error: csv.Error, where: str) -> DataError:
    is_carriage_return = "new-line character" in str(error)
    return DataError(
        "a carriage return stands outside of quotes in the record that starts here"
        if is_carriage_return
        else f"the quoting is broken in the record that starts here: {error}",
        where=where,
        allowed='a field with quotes or line breaks stands in "...", quotes in it doubled',
    )


def _require_distinct(header: list[str], where: str) -> None:
    repeated = [name for name, count in Counter(header).items() if count > 1]
    if repeated:
        raise DataError(
            f"the header names {', '.join(map(repr, repeated))} more than once",
            where=where,
            cure="give each column a name of its own",
        )


def _whole_records(
    records: Iterator[tuple[int, list[str]]], header: list[str], source: str
) -> Iterator[tuple[int, list[str]]]:
    for number, record in records:
        if len(record) != len(header):
            raise DataError(
                f"the record has {len(record)} fields, the header has {len(header)}",
                where=f"{source}, line {number}",
                cure='put fields that hold the separator in "..."',
            )
        yield number, record
