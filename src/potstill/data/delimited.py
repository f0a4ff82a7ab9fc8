"""Read CSV and TSV: a header, then one record a row.

CSV is quoted as RFC 4180 says. TSV has no quoting of its own: quotation marks belong to the text in
GLUE's files, while spreadsheets and Python's csv put them around a field. A row is one line
whichever it is, so that a mark that opens a text never swallows the rows that follow.
"""

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
_QUOTED = 'a field with quotes or line breaks stands in "...", quotes in it doubled'
_ONE_LINE = "one record a line, with a tab between fields"
_OTHER_FORMATS = "write texts that hold line breaks or tabs to a .jsonl or .csv file"


def read_csv(path: Path, *, limit: int | None = None) -> Rows:
    """Read the first `limit` records of a comma-separated file, or all of them.

    Every value is a string, an empty field is "". Blank lines are skipped. A record that spans
    several lines is known by its first.

    Raises:
        DataError: with file and line of the first fault.
    """
    source = str(path)
    with opened(path) as stream, _long_fields_allowed():
        reader = csv.reader(_text_lines(stream, source), strict=True)
        return _table(_records(reader, source), source, limit)


def read_tsv(path: Path, *, limit: int | None = None) -> Rows:
    """Read the first `limit` records of a tab-separated file, each of them a line.

    Marks around a whole field are left out and those doubled in it made single, all others are part
    of the text. Otherwise as `read_csv`.

    Raises:
        DataError: with file and line of the first fault; a field that seems to go on in the next
            line is one.
    """
    source = str(path)
    with opened(path) as stream, _long_fields_allowed():
        return _table(_lines_as_records(_text_lines(stream, source), source), source, limit)


def _table(records: Iterator[tuple[int, list[str]]], source: str, limit: int | None) -> Rows:
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
    if "new-line character" in str(error):
        return _stray_carriage_return(where)
    return DataError(
        f"the quoting is broken in the record that starts here: {error}",
        where=where,
        allowed=_QUOTED,
    )


def _stray_carriage_return(where: str) -> DataError:
    return DataError(
        "a carriage return stands outside of quotes in the record that starts here",
        where=where,
        allowed=_QUOTED,
    )


def _lines_as_records(lines: Iterator[str], source: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the fields of each line of a tab-separated file that is not empty."""
    width = 0  # of the header
    open_line = 0  # on which a mark was opened that the following lines may close
    for number, line in enumerate(lines, start=1):
        text = line.removesuffix("\n").removesuffix("\r")
        if not text:
            continue
        where = f"{source}, line {number}"
        fields = _fields(text, width, where)
        if width and len(fields) != width:
            raise _of_another_width(fields, width, where)
        width = width or len(fields)
        if width == 1:  # a line more or less shows in no count of fields
            if open_line and _closes_mark(text):
                raise _over_lines(open_line, number, source)
            open_line = _open_line(text, number, open_line)
        yield number, fields


def _fields(line: str, width: int, where: str) -> list[str]:
    """Cut a line at its tabs; where those are too many, some may stand in marks."""
    raw = line.split("\t")
    if 0 < width < len(raw):
        with contextlib.suppress(csv.Error):
            fields = next(csv.reader([line], delimiter="\t", strict=True))
            if len(fields) == width:
                return fields
    fields = [_without_marks(field) for field in raw]
    if any("\r" in field and field == was for field, was in zip(fields, raw, strict=True)):
        raise _stray_carriage_return(where)
    return fields


def _without_marks(field: str) -> str:
    """Return what a field's marks stand around; a field whose marks are part of the text, as is."""
    is_in_marks = len(field) > 1 and field[0] == field[-1] == '"'
    if not is_in_marks or '"' in field[1:-1].replace('""', ""):
        return field
    return field[1:-1].replace('""', '"')


def _opens_mark(field: str) -> bool:
    return field.startswith('"') and '"' not in field[1:].replace('""', "")


def _closes_mark(line: str) -> bool:
    """Tell whether the first mark in a line that is not doubled ends it."""
    single = line.replace('""', "")
    return '"' in single and single.index('"') == len(single) - 1


def _open_line(line: str, number: int, before: int) -> int:
    """Return the line with a mark that the next one may close, 0 for none."""
    if before and '"' not in line.replace('""', ""):
        return before
    return number if _opens_mark(line) else 0


def _of_another_width(fields: list[str], width: int, where: str) -> DataError:
    told = f"the record has {len(fields)} fields, the header has {width}"
    if _opens_mark(fields[-1]):
        told += ", and a quotation mark is opened that does not close on the line"
    return DataError(told, where=where, allowed=_ONE_LINE, cure=_OTHER_FORMATS)


def _over_lines(first: int, last: int, source: str) -> DataError:
    return DataError(
        f"a quotation mark is opened that closes at the end of line {last}: one text or several",
        where=f"{source}, line {first}",
        allowed=_ONE_LINE,
        cure=_OTHER_FORMATS,
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
