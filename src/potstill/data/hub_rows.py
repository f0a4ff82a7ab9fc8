"""Rows of a data set on the Hugging Face hub: `hub:NAME[/CONFIG][:SPLIT]` (extra `hub`)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from potstill.data.in_memory import rows_from_dataset
from potstill.data.rows import Rows
from potstill.errors import DataError, MissingExtraError

PREFIX = "hub:"
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
    name = _parsed(source)
    datasets = _library(source)
    loaded = _loaded(datasets, name)
    dataset = loaded if name.split else _only_split(loaded, source)
    return rows_from_dataset(dataset, source=source, limit=limit)


@dataclass(frozen=True, slots=True)
class _HubName:
    source: str
    readings: tuple[tuple[str, str | None], ...]  # (path, configuration), the likeliest first
    split: str | None


def _parsed(source: str) -> _HubName:
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
    return _HubName(source, readings, split or None)


def _library(source: str) -> Any:
    for variable, value in _NOTHING_IS_SENT.items():
        os.environ.setdefault(variable, value)
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("datasets", extra="hub", needed_for=f"reading {source}") from error
    return datasets


def _loaded(datasets: Any, name: _HubName) -> Any:
    """Load by the first reading of the name that is there."""
    faults: list[Exception] = []
    for path, configuration in name.readings:
        try:
            return datasets.load_dataset(path, configuration, split=name.split)
        except OSError as error:  # not found, or out of reach
            faults.append(error)
        except Exception as error:  # the library has no common class for its errors
            raise _not_loaded(error, name) from error
    raise _not_loaded(faults[0], name) from faults[0]


def _not_loaded(error: Exception, name: _HubName) -> DataError:
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in {"1", "TRUE", "YES", "ON"}:
        cure = "HF_HUB_OFFLINE is set: unset it, or load the data set once while on line"
    elif isinstance(error, FileNotFoundError):
        cure = "check the name; for a private data set run: hf auth login"
    elif isinstance(error, OSError):
        cure = "check the network and run the same command again, or name a local file"
    else:
        cure = f"the form is {_FORM}"
    return DataError(f"the data set cannot be loaded: {error}", where=name.source, cure=cure)


def _only_split(loaded: Mapping[str, Any], source: str) -> Any:
    if len(loaded) != 1:
        splits = ", ".join(loaded)
        raise DataError(
            f"the data set has several splits: {splits}",
            where=source,
            cure=f"name one, such as {source}:{next(iter(loaded), 'train')}",
        )
    return next(iter(loaded.values()))
