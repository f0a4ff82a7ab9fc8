"""Texts alone, of any file of rows: to check or to measure on."""

from __future__ import annotations

from potstill.data.columns import Columns, count_empty_texts, select_columns
from potstill.data.readers import read_rows
from potstill.data.rows import Rows
from potstill.errors import DataError


def plain_texts(source: object, column: str, *, limit: int | None = None) -> list[str]:
    """Read one column as texts.

    Args:
        source: anything that `read_rows` takes.
        column: the column's name.
        limit: the most rows; None: all.

    Raises:
        DataError: no such column, a value that is no string, with its line, or no text at all.
    """
    read = read_rows(source, limit=limit)
    rows = select_columns(read, Columns(text=column), required=("text",), optional=())
    require_some_text(rows)
    texts: list[str] = rows.column("text")
    return texts


def require_some_text(rows: Rows) -> None:
    """Check that some row holds more than blanks.

    Raises:
        DataError: none does.
    """
    if count_empty_texts(rows) == len(rows):
        raise DataError(
            f"all {len(rows):,} texts are empty",
            where=rows.source,
            allowed="some rows with text",
        )
