"""Rows: the small columnar table that every reader gives, which knows where each row came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from potstill.errors import DataError

_COLUMNS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Rows:
    """A table whose rows can be named in a message: file, line, field."""

    columns: Mapping[str, list[Any]]  # name to values, all of one length
    source: str  # the file as the user named it, or "list", "DataFrame", "Dataset", "hub:..."
    line_numbers: list[int] | None = None  # line on which each row starts, from 1; None: no lines
    row_numbers: list[int] | None = None  # place of each row in the source; None: 1, 2, 3, ...

    def __post_init__(self) -> None:
        """Hold the law of the type; a breach is a bug of ours."""
        lengths = {len(values) for values in self.columns.values()}
        assert len(lengths) <= 1, "columns have one length"
        for numbers in (self.line_numbers, self.row_numbers):
            assert numbers is None or len(numbers) == len(self), "one number for each row"
        assert self.line_numbers is None or self.row_numbers is None, "a row has one place"

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(next(iter(self.columns.values()), []))

    def __contains__(self, name: str) -> bool:
        """Say whether there is a column of that name."""
        return name in self.columns

    def column(self, name: str) -> list[Any]:
        """Return the values of one column.

        Raises:
            DataError: there is no such column; the message lists those that are there.
        """
        if name not in self.columns:
            raise DataError(
                f"there is no column {name!r} (the columns are: {self.column_list()})",
                where=self.source,
            )
        return self.columns[name]

    def column_list(self) -> str:
        """Return the names of the columns for a message, cut after the first twenty."""
        shown = list(self.columns)[:_COLUMNS_SHOWN]
        hidden = len(self.columns) - len(shown)
        return ", ".join(shown) + (f" and {hidden} more" if hidden else "")

    def with_columns(self, columns: Mapping[str, list[Any]]) -> Rows:
        """Return the rows with more columns, or others under the same names."""
        return replace(self, columns={**self.columns, **columns})

    def take(self, indices: Sequence[int]) -> Rows:
        """Return the chosen rows, in the order given; each still knows where it came from."""
        columns = {name: [values[i] for i in indices] for name, values in self.columns.items()}
        if self.line_numbers is not None:
            lines = [self.line_numbers[i] for i in indices]
            return replace(self, columns=columns, line_numbers=lines)
        before = self.row_numbers or range(1, len(self) + 1)
        return replace(self, columns=columns, row_numbers=[before[i] for i in indices])

    def where(self, row_index: int, field: str | None = None) -> str:
        """Name a row for a message: "train.jsonl, line 17, field 'label'".

        Rows of sources without lines are counted from 1: "list, row 3".
        """
        if self.line_numbers is not None:
            place = f"line {self.line_numbers[row_index]}"
        elif self.row_numbers is not None:
            place = f"row {self.row_numbers[row_index]}"
        else:
            place = f"row {row_index + 1}"
        return f"{self.source}, {place}" + (f", field {field!r}" if field is not None else "")


def joined(parts: Sequence[Rows], *, without: str = "") -> Rows:
    """Return the rows of several sources one after another, with the columns that all of them have.

    Rows in which one of these is an empty text or no value are left out; 0, False and an empty list
    are values.

    Args:
        parts: at least one.
        without: a column that is left out.

    Raises:
        DataError: they have no column in common.
    """
    told = ", ".join(part.source for part in parts)
    names = [
        name
        for name in parts[0].columns
        if name != without and all(name in part.columns for part in parts)
    ]
    if not names:
        raise DataError("these sources have no column in common", where=told)
    columns = ([value for part in parts for value in part.column(name)] for name in names)
    rows = [row for row in zip(*columns, strict=True) if not any(map(_is_empty, row))]
    return Rows({name: [row[place] for row in rows] for place, name in enumerate(names)}, told)


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value)
