"""Texts alone, of any file of rows: to calibrate, to check or to measure on."""

from __future__ import annotations

from potstill.data.readers import read_rows
from potstill.errors import DataError


def plain_texts(source: object, column: str, *, limit: int | None = None) -> list[str]:
    """Read one column as texts.

    Args:
        source: anything that `read_rows` takes.
        column: the column's name.
        limit: the most rows; None: all.

    Raises:
        DataError: no such column, or no row.
    """
    rows = read_rows(source, limit=limit)
    if column not in rows or not len(rows):
        raise DataError(
            f"no text in a column {column!r}",
            where=rows.source,
            allowed=", ".join(rows.columns) or "rows",
            cure="name it with --text-column",
        )
    return [str(text) for text in rows.column(column)]
