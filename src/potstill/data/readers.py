"""Read rows from whatever the user names: a file, the hub, or a table in memory."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any, Protocol

from potstill.data.conll import read_conll
from potstill.data.delimited import read_csv, read_tsv
from potstill.data.hub_rows import read_hub
from potstill.data.in_memory import (
    Dataset,
    Frame,
    rows_from_dataset,
    rows_from_frame,
    rows_from_list,
)
from potstill.data.jsonl import read_jsonl
from potstill.data.parquet import read_parquet
from potstill.data.rows import Rows
from potstill.data.squad import read_squad
from potstill.errors import DataError, RecipeError
from potstill.hub_names import is_hub


def read_rows(source: object, *, limit: int | None = None) -> Rows:
    """Read the first `limit` rows of `source`, or all of them.

    Args:
        source: a path that ends in .jsonl, .csv, .tsv or .parquet, in .json (SQuAD), or in .conll,
            .bio or .iob2 (CoNLL columns); `hub:NAME[/CONFIG][:SPLIT]`; a list of dicts; a pandas
            DataFrame; a `datasets.Dataset`; or Rows.
        limit: 1 or more; None for all rows.

    Raises:
        DataError: nothing can be read from `source`; file, line and field are named.
        MissingExtraError: the format needs a package that is not installed.
        RecipeError: `limit` is below 1.
    """
    if limit is not None and limit < 1:
        raise RecipeError(f"limit is {limit}", allowed="1 or more, or none for all rows")
    rows = _dispatched(source, limit)
    if not len(rows):
        raise DataError("there are no rows", where=rows.source)
    return rows


class Reader(Protocol):
    """A function that reads one format."""

    def __call__(self, path: Path, *, limit: int | None = None) -> Rows:
        """Read the first `limit` rows, or all of them."""
        ...


READERS: dict[str, Reader] = {
    ".jsonl": read_jsonl,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".parquet": read_parquet,
    ".json": read_squad,
    ".conll": read_conll,
    ".bio": read_conll,
    ".iob2": read_conll,
}


def _dispatched(source: Any, limit: int | None) -> Rows:
    match source:
        case Rows():
            return source if limit is None else source.take(range(min(limit, len(source))))
        case str() if is_hub(source):
            return read_hub(source, limit=limit)
        case str() | PathLike():
            return _read_file(Path(source), limit)
        case list() | tuple():
            return rows_from_list(source, limit=limit)
        case Frame():
            return rows_from_frame(source, limit=limit)
        case Dataset():
            return rows_from_dataset(source, limit=limit)
        case _:
            raise _no_rows_in(source)


def _read_file(path: Path, limit: int | None) -> Rows:
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise _no_reader(path)
    return reader(path, limit=limit)


def _no_reader(path: Path) -> DataError:
    cure = None
    if path.is_dir():
        what = "this is a folder, not a file of rows"
        cure = "name one file in it"
    elif path.suffix:
        what = f"no reader for files that end in {path.suffix}"
    else:
        what = "the name of a file of rows ends in its format"
    return DataError(what, where=str(path), allowed=", ".join(READERS), cure=cure)


def _no_rows_in(source: object) -> DataError:
    splits = [str(name) for name in source] if isinstance(source, dict) else []
    return DataError(
        f"rows cannot be read from a {type(source).__name__}",
        allowed=f"a path ({', '.join(READERS)}), hub:NAME, a list of dicts, a pandas DataFrame, "
        "a datasets.Dataset",
        cure=f"choose one of its splits: {', '.join(splits)}" if splits else None,
    )
