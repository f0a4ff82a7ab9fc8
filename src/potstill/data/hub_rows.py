"""Rows of a data set on the Hugging Face hub: `hub:NAME[/CONFIG][:SPLIT]` (extra `hub`)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from potstill.data.in_memory import rows_from_dataset
from potstill.data.rows import Rows
from potstill.errors import DataError, MissingExtraError
from potstill.hub_names import PREFIX

_FORM = "hub:NAME, hub:OWNER/NAME, hub:OWNER/NAME/CONFIG, each with :SPLIT at its end if wanted"
_NOTHING_IS_SENT = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0"}


def read_hub(source: str, *, limit: int | None = None) -> Rows:
    """Read the first `limit` rows of a split, or all of them.

    A split must be named where the data set has several: none is taken by guess. With
    HF_HUB_OFFLINE=1 only what is already in the cache is found.

    Raises:
        MissingExtraError: `datasets` is not installed.
        DataError: the name has another form, or the hub, the data set or the split is not there.
    """
    name = hub_name(source)
    datasets = datasets_library(source)
    loaded = load_dataset_named(datasets, name)
    dataset = loaded if name.split else only_split(loaded, source)
    return rows_from_dataset(dataset, source=source, limit=limit)


@dataclass(frozen=True, slots=True)
class HubName:
    """What a name of the hub may mean."""

    source: str  # as the user wrote it
    readings: tuple[tuple[str, str | None], ...]  # (path, configuration), the likeliest first
    split: str | None


def hub_name(source: str) -> HubName:
    """Read `hub:NAME[/CONFIG][:SPLIT]`.

    Raises:
        DataError: another form.
    """
    path, _, split = source.removeprefix(PREFIX).partition(":")
    readings: tuple[tuple[str, str | None], ...]
    match path.split("/"):
        case [name] if name:
            readings = ((name, None),)
        case [first, second] if first and second:
            # OWNER/NAME, or NAME/CONFIG of the old sets that have no owner, such as glue/sst2
            readings = ((path, None), (first, second))
        case [owner, name, configuration] if owner and name and configuration:
            readings = ((f"{owner}/{name}", configuration),)
        case _:
            raise DataError("this is no name of a data set", where=source, allowed=_FORM)
    return HubName(source, readings, split or None)


def datasets_library(source: str) -> Any:
    """Return the library `datasets`, told to send nothing.

    Raises:
        MissingExtraError: it is not installed.
    """
    for variable, value in _NOTHING_IS_SENT.items():
        os.environ.setdefault(variable, value)
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("datasets", extra="hub", needed_for=f"reading {source}") from error
    return datasets


def load_dataset_named(datasets: Any, name: HubName) -> Any:
    """Load by the first reading of the name that is there."""
    faults: list[Exception] = []
    for path, configuration in name.readings:
        try:
            return datasets.load_dataset(path, configuration, split=name.split)
        except OSError as error:  # not found, or out of reach
            faults.append(error)
        except Exception as error:  # the library has no common class for its errors
            raise not_loaded(error, name) from error
    raise not_loaded(faults[0], name) from faults[0]


def not_loaded(error: Exception, name: HubName) -> DataError:
    """Return the one line for a data set that could not be loaded."""
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in {"1", "TRUE", "YES", "ON"}:
        cure = "HF_HUB_OFFLINE is set: unset it, or load the data set once while on line"
    elif isinstance(error, FileNotFoundError):
        cure = "check the name; for a private data set run: hf auth login"
    elif isinstance(error, OSError):
        cure = "check the network and run the same command again, or name a local file"
    else:
        cure = f"the form is {_FORM}"
    return DataError(f"the data set cannot be loaded: {error}", where=name.source, cure=cure)


def only_split(loaded: Mapping[str, Any], source: str) -> Any:
    """Return the one split of a data set.

    Raises:
        DataError: it has several.
    """
    if len(loaded) != 1:
        splits = ", ".join(loaded)
        raise DataError(
            f"the data set has several splits: {splits}",
            where=source,
            cure=f"name one, such as {source}:{next(iter(loaded), 'train')}",
        )
    return next(iter(loaded.values()))
