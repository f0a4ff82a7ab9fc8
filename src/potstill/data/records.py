"""From records (one mapping a row, keys may differ) to columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from potstill.data.rows import Rows
from potstill.errors import DataError


def rows_from_records(
    numbered: Iterable[tuple[int, object]], *, source: str, unit: Literal["line", "row"]
) -> Rows:
    """Turn (number, record) pairs into rows.

    The columns are the union of all keys, in the order in which they first appear; a value that a
    record lacks is None.

    Raises:
        DataError: a record is no mapping, has no field, or a key that is not a string.
    """
    numbers: list[int] = []
    records: list[Mapping[str, Any]] = []
    names: dict[str, None] = {}
    for number, record in numbered:
        if not isinstance(record, Mapping) or not record:
            raise _not_a_record(record, f"{source}, {unit} {number}")
        numbers.append(number)
        records.append(record)
        names.update(dict.fromkeys(record))
    _require_strings(names, source)
    columns = {name: [record.get(name) for record in records] for name in names}
    return Rows(columns, source, line_numbers=numbers if unit == "line" else None)


def _not_a_record(record: object, where: str) -> DataError:
    found = "an object without fields" if record == {} else f"of type {type(record).__name__}"
    return DataError(
        f"the row is {found}",
        where=where,
        allowed='an object with named fields, such as {"text": "...", "label": "..."}',
    )


def _require_strings(names: Iterable[object], source: str) -> None:
    for name in names:
        if not isinstance(name, str):
            raise DataError(
                f"the field name {name!r} is of type {type(name).__name__}",
                where=source,
                allowed="field names that are strings",
            )
