"""Rows from tables that a program already holds: lists of dicts, pandas frames, datasets.

Frames and datasets are known by their attributes, so that neither library is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import numpy as np

from potstill.data.records import rows_from_records
from potstill.data.rows import Rows
from potstill.errors import DataError


@runtime_checkable
class Frame(Protocol):
    """What we ask of a pandas DataFrame."""

    @property
    def columns(self) -> Any:
        """Return the index of column names."""
        ...

    @property
    def iloc(self) -> Any:
        """Return the access to rows by place."""
        ...

    def isna(self) -> Any:
        """Return a frame of the same shape: is the value missing?"""
        ...


@runtime_checkable
class Dataset(Protocol):
    """What we ask of a `datasets.Dataset`."""

    @property
    def features(self) -> Any:
        """Return the kind of value of each column, by name."""
        ...

    @property
    def num_rows(self) -> int:
        """Return the number of rows."""
        ...

    def with_format(self, kind: str | None) -> Any:
        """Return the same rows as values of another library, None for Python's own."""
        ...


def rows_from_list(
    records: Sequence[Mapping[str, Any]], *, source: str = "list", limit: int | None = None
) -> Rows:
    """Take the first `limit` dicts of a list, or all of them; keys may differ from row to row."""
    numbered = enumerate(islice(records, limit), start=1)
    return rows_from_records(numbered, source=source, unit="row")


def rows_from_frame(frame: Frame, *, source: str = "DataFrame", limit: int | None = None) -> Rows:
    """Take the first `limit` rows of a pandas frame, or all of them; NaN, NaT and NA become None.

    Raises:
        DataError: a column's name stands twice.
    """
    if not frame.columns.is_unique:
        raise DataError("a column's name stands twice in the frame", where=source)
    head = frame.iloc[:limit]
    missing = head.isna()
    return Rows(
        {str(name): _native(head[name].tolist(), missing[name].tolist()) for name in frame.columns},
        source,
    )


def rows_from_dataset(
    dataset: Dataset, *, source: str = "Dataset", limit: int | None = None
) -> Rows:
    """Take the first `limit` rows of a `datasets.Dataset`, or all of them.

    Class labels become their names; -1, the library's sign for "no label", becomes None.
    """
    columns: Mapping[str, list[Any]] = dataset.with_format(None)[:limit]
    return Rows(
        {name: _named(values, dataset.features[name]) for name, values in columns.items()}, source
    )


def _native(values: list[Any], is_missing: list[bool]) -> list[Any]:
    return [
        None if missing else value.tolist() if isinstance(value, np.generic | np.ndarray) else value
        for value, missing in zip(values, is_missing, strict=True)
    ]


def _named(values: list[Any], feature: Any) -> list[Any]:
    """Give class labels their names, also those in lists (tags)."""
    names = getattr(feature, "names", None)
    if names is not None:
        return [None if value is None or value < 0 else names[value] for value in values]
    inner = getattr(feature, "feature", None)
    if getattr(inner, "names", None) is not None:
        return [None if value is None else _named(value, inner) for value in values]
    return values
