"""The documents of a corpus, one after another: from plain text, JSONL, Parquet or the hub.

A document is a line of plain text, or the text column of a row. Nothing but what is being read is
held in memory; archives (`.gz`, `.xz`, `.zst`) of text and JSONL are unpacked on the way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from potstill.data import fields
from potstill.data.decompression import ARCHIVES, archive_faults_told, plain_stream
from potstill.data.hub_stream import hub_stream
from potstill.data.jsonl import not_json
from potstill.data.opening import decoded, numbered_lines, opened
from potstill.errors import DataError, MissingExtraError
from potstill.hub_names import PREFIX, is_hub

Kind = Literal["text", "jsonl", "parquet", "hub"]

KINDS: dict[str, Kind] = {".txt": "text", ".text": "text", ".jsonl": "jsonl", ".parquet": "parquet"}
_PARQUET_ROWS = 1024
_LINES_TOLD = 256  # to ask a file for its place is a call of the system


class Document(NamedTuple):
    """One document and where it stands."""

    place: int  # number of its line or row, from 1
    text: str  # of blanks alone where the line is blank: who counts, counts it


class CorpusSource:
    """One file or one data set of the hub, read as a stream of documents.

    Raises:
        DataError: the name ends in no format that can be read.
    """

    def __init__(
        self, source: str | PathLike[str], *, column: str = "text", revision: str = ""
    ) -> None:
        """Name the source; nothing is read yet.

        Args:
            source: a path that ends in .txt, .text or .jsonl (each also with .gz, .xz or .zst
                behind it) or .parquet; or `hub:NAME[/CONFIG][:SPLIT]`.
            column: of JSONL, Parquet and the hub.
            revision: the commit at which the hub is read; "": where it stands.
        """
        self.source = str(source)
        self.kind = _kind_of(self.source)
        self.column = column
        self.revision = revision
        self.bytes_read = 0  # of the file as it lies on the disk; of the hub: of texts

    @property
    def name(self) -> str:
        """Return what a manifest calls it: of a place on somebody's disk only the last part."""
        return self.source if self.kind == "hub" else Path(self.source).name

    @property
    def size_bytes(self) -> int:
        """Return the size of the file, 0 for the hub."""
        return 0 if self.kind == "hub" else Path(self.source).stat().st_size

    def where(self, place: int) -> str:
        """Name a document for a message: "wiki.txt.xz, line 17"."""
        unit = "line" if self.kind in {"text", "jsonl"} else "row"
        return f"{self.source}, {unit} {place}"

    def documents(self, *, after: int = 0) -> Iterator[Document]:
        """Yield the documents behind line or row `after`, in their order.

        A text that is null in JSONL, Parquet or the hub is the empty text.

        Raises:
            DataError: not UTF-8, not JSON, a torn archive, a missing column, a value that is no
                string, an empty file; file and line are named.
            MissingExtraError: the format needs a package that is not installed.
        """
        match self.kind:
            case "hub":
                return self._of_hub(after)
            case "parquet":
                return self._of_parquet(after)
            case "jsonl":
                return self._of_lines(after, self._of_json)
            case "text":
                return self._of_lines(after, self._of_text)

    def _of_lines(self, after: int, text_of: Callable[[bytes, int], str]) -> Iterator[Document]:
        number = 0
        path = Path(self.source)
        with opened(path) as packed:
            archive = plain_stream(packed, path.suffix.lower(), self.source)
            with archive_faults_told(lambda: self.where(number + 1)):
                for number, line in numbered_lines(archive, self.source):
                    if number <= after:
                        continue
                    if number % _LINES_TOLD == 0:
                        self.bytes_read = packed.tell()
                    yield Document(number, "" if line.isspace() else text_of(line, number))
            self.bytes_read = packed.tell()
        if not number:
            raise DataError("the file is empty", where=self.source)

    def _of_text(self, line: bytes, number: int) -> str:
        # the place of a fault is put together only where there is one: a corpus has many lines
        try:
            return line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError:
            return decoded(line, self.where(number))

    def _of_json(self, line: bytes, number: int) -> str:
        import orjson  # here, so that rows from memory need numpy alone

        try:
            row = orjson.loads(line)
        except json.JSONDecodeError as error:  # the base class of orjson's own
            raise not_json(line, error, self.where(number)) from None
        if not isinstance(row, dict):
            raise DataError(
                f"the row is of type {type(row).__name__}",
                where=self.where(number),
                allowed=f'an object with named fields, such as {{"{self.column}": "..."}}',
            )
        return self._text_in(row, number)

    def _of_parquet(self, after: int) -> Iterator[Document]:
        try:
            import pyarrow
        except ImportError as error:
            raise MissingExtraError(
                "pyarrow", extra="parquet", needed_for=f"reading {self.source}"
            ) from error
        with opened(Path(self.source)) as stream:
            try:
                yield from self._of_row_groups(stream, after)
            except (pyarrow.ArrowException, UnicodeDecodeError) as error:
                raise DataError(f"not a whole Parquet file: {error}", where=self.source) from error

    def _of_row_groups(self, stream: BinaryIO, after: int) -> Iterator[Document]:
        import pyarrow.parquet

        file = pyarrow.parquet.ParquetFile(stream)
        names = file.schema_arrow.names
        if names.count(self.column) > 1:
            raise DataError(f"the column {self.column!r} stands twice", where=self.source)
        if self.column not in names:
            raise self._no_column(names, self.source)
        if not file.metadata.num_rows:
            raise DataError("there are no rows", where=self.source)
        number = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if number + rows <= after:
                number += rows
                continue
            batches = file.iter_batches(_PARQUET_ROWS, row_groups=[group], columns=[self.column])
            for batch in batches:
                for value in batch.column(0).to_pylist():
                    number += 1
                    if number > after:
                        yield Document(number, self._checked(value, number))
                self.bytes_read = self.size_bytes * number // file.metadata.num_rows

    def _of_hub(self, after: int) -> Iterator[Document]:
        rows = hub_stream(self.source, revision=self.revision, column=self.column, after=after)
        number = after
        for number, row in rows:
            text = self._text_in(row, number)
            self.bytes_read += len(text.encode())
            yield Document(number, text)
        if not number:
            raise DataError("there are no rows", where=self.source)

    def _text_in(self, row: Mapping[str, Any], number: int) -> str:
        if self.column not in row:
            raise self._no_column(list(row), self.where(number))
        return self._checked(row[self.column], number)

    def _checked(self, value: Any, number: int) -> str:
        if value is None:
            return ""
        try:
            return fields.text(value)
        except DataError as fault:
            where = f"{self.where(number)}, field {self.column!r}"
            raise DataError(
                fault.what, where=where, allowed=fault.allowed, cure=fault.cure
            ) from None

    def _no_column(self, names: list[str], where: str) -> DataError:
        close = get_close_matches(self.column, names, n=1)
        return DataError(
            f"there is no column {self.column!r} (the columns are: {', '.join(names)})",
            where=where,
            cure=f"did you mean {close[0]!r}?" if close else "name the column that holds the text",
        )


def _kind_of(source: str) -> Kind:
    if is_hub(source):
        return "hub"
    path = Path(source)
    suffix = path.suffix.lower()
    packed = suffix in ARCHIVES
    kind = KINDS.get(Path(path.stem).suffix.lower() if packed else suffix)
    if kind is None or (packed and kind == "parquet"):
        raise _not_readable(path)
    return kind


def _not_readable(path: Path) -> DataError:
    if path.is_dir():
        what = "this is a folder, not a file of documents"
    elif path.suffix:
        what = f"no documents can be read from files that end in {''.join(path.suffixes[-2:])}"
    else:
        what = "the name of a file of documents ends in its format"
    return DataError(
        what,
        where=str(path),
        allowed=f"{', '.join(KINDS)}, text and JSONL also with {', '.join(ARCHIVES)} behind; "
        f"{PREFIX}NAME",
    )
