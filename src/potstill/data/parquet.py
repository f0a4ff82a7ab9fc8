"""Read Parquet through pyarrow (extra `parquet`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from potstill.data.opening import opened
from potstill.data.rows import Rows
from potstill.errors import DataError, MissingExtraError

_BATCH_ROWS = 65_536


def read_parquet(path: Path, *, limit: int | None = None) -> Rows:
    """Read the first `limit` rows, or all of them.

    Raises:
        MissingExtraError: pyarrow is not installed.
        DataError: the file is not Parquet, is damaged, or names a column twice.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise MissingExtraError("pyarrow", extra="parquet", needed_for=f"reading {path}") from error
    with opened(path) as stream:
        try:
            return Rows(_columns(stream, limit, str(path)), str(path))
        except (pyarrow.ArrowException, UnicodeDecodeError) as error:
            raise DataError(f"not a whole Parquet file: {error}", where=str(path)) from error


def _columns(stream: BinaryIO, limit: int | None, source: str) -> dict[str, list[Any]]:
    import pyarrow
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(stream)
    names = file.schema_arrow.names
    if len(set(names)) < len(names):
        raise DataError(f"a column stands twice among {', '.join(names)}", where=source)
    table = pyarrow.Table.from_batches(_first_batches(file, limit), schema=file.schema_arrow)
    return {name: table[name].slice(0, limit).to_pylist() for name in names}


def _first_batches(file: Any, limit: int | None) -> Iterator[Any]:
    rows_read = 0
    for batch in file.iter_batches(batch_size=min(limit or _BATCH_ROWS, _BATCH_ROWS)):
        yield batch
        rows_read += batch.num_rows
        if limit is not None and rows_read >= limit:
            return
