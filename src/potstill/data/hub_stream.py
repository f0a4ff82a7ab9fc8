"""A data set of the hub as a stream of rows, held to one revision (extra `hub`)."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from potstill.data.hub_rows import (
    HubName,
    datasets_library,
    hub_name,
    load_dataset_named,
    not_loaded,
    only_split,
)


def hub_revision(source: str) -> str:
    """Return the commit at which a data set of the hub stands now.

    Raises:
        MissingExtraError: `datasets` is not installed.
        DataError: the name has another form, or the hub or the data set is not there.
    """
    name = hub_name(source)
    datasets_library(source)  # the switches that send nothing, and the one line if it is absent
    from huggingface_hub import HfApi

    faults: list[Exception] = []
    for path, _ in name.readings:
        try:
            return str(HfApi().dataset_info(path).sha)
        except Exception as error:  # several libraries below, no common class
            faults.append(error)
    raise not_loaded(faults[0], name) from faults[0]


def hub_stream(
    source: str, *, revision: str, column: str, after: int = 0
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield (number from 1, row) of a split; nothing but what is being read is held.

    Args:
        source: `hub:NAME[/CONFIG][:SPLIT]`.
        revision: of `hub_revision`.
        column: the one that is wanted; others are not fetched where the format allows it.
        after: rows to leave out at the start.

    Raises:
        DataError: the data set or the split is not there, or the hub went out of reach.
    """
    name = hub_name(source)
    dataset = _opened(name, revision)
    if column in (dataset.column_names or ()):
        dataset = dataset.select_columns([column])
    rows = iter(dataset.skip(after) if after else dataset)
    for number in itertools.count(after + 1):
        try:
            row = next(rows, None)
        except Exception as error:  # the library has no common class for its errors
            raise not_loaded(error, name) from error
        if row is None:
            return
        yield number, row


def _opened(name: HubName, revision: str) -> Any:
    """Open by the first reading of the name that is there, as `read_hub` does."""
    load = functools.partial(
        datasets_library(name.source).load_dataset, streaming=True, revision=revision or None
    )
    loaded = load_dataset_named(SimpleNamespace(load_dataset=load), name)
    return loaded if name.split else only_split(loaded, name.source)
