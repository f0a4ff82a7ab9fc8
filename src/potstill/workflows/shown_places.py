"""Places as a report may tell them: as they were named, of somebody's disk the last part alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from potstill.workflows.model_names import shown_names


def shown_path(source: str) -> str:
    """Return a source as it was named; of a place on somebody's disk only the last part."""
    return Path(source).name if Path(source).is_absolute() else source


def shown_models(places: Sequence[str]) -> list[str]:
    """Return models as a command names them, more of their paths where they would be the same."""
    shown = [shown_path(place) for place in places]
    return shown if len(set(shown)) == len(shown) else shown_names(places)


def without_places(told: Any, places: Iterable[object]) -> Any:
    """Return plain values whose texts name these files and folders as `shown_path` does.

    Args:
        told: of objects, lists, texts and numbers.
        places: paths; what else rows can come from is passed over.
    """
    paths = [str(place) for place in places if isinstance(place, str | Path)]
    names = {path: shown_path(path) for path in paths if Path(path).is_absolute()}
    return _renamed(told, dict(sorted(names.items(), reverse=True)))  # longer ones go first


def _renamed(told: Any, names: Mapping[str, str]) -> Any:
    if isinstance(told, str):
        for path, name in names.items():
            told = told.replace(path, name)
        return told
    if isinstance(told, Mapping):
        return {key: _renamed(value, names) for key, value in told.items()}
    if isinstance(told, list | tuple):
        return [_renamed(value, names) for value in told]
    return told
