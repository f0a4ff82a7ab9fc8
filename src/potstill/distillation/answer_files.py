"""What another system said of our rows, read from a file: probabilities, logits or vectors.

Legend: R rows, C labels, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.safetensors_header import read_header
from potstill.bundle.weights import WeightFiles, read_tensors
from potstill.data.jsonl import read_jsonl
from potstill.data.opening import opened
from potstill.data.rows import Rows
from potstill.errors import DataError

Floats = NDArray[np.float32]

SUFFIXES = (".npy", ".jsonl", ".safetensors")
_TENSORS = ("embeddings", "logits", "probabilities")
_SCORES = '[{"label": …, "score": …}] or {LABEL: score}'
_SUM_TOLERANCE = 1e-3
_LEAST_SHARE = 1e-7  # a share of 0 has no logarithm


def read_answers(path: Path, *, rows: int, labels: tuple[str, ...]) -> Floats:
    """Read one answer a row, in the order of the rows.

    Args:
        path: .npy or .safetensors with (R, C) logits or probabilities, or (R, D) vectors; or .jsonl
            as `predict --output` writes it.
        rows: how many there must be.
        labels: the C labels in order; none: vectors of any width.

    Returns:
        Logits (R, C) or vectors (R, D); probabilities come back as their logarithms, which are
        logits of the same softmax.

    Raises:
        DataError: not readable, or of another number of rows or labels, or not finite.
    """
    if path.suffix not in SUFFIXES:
        raise DataError(
            f"no reader of answers for files that end in {path.suffix or 'nothing'}",
            where=str(path),
            allowed=", ".join(SUFFIXES),
        )
    found = _from_jsonl(path, labels) if path.suffix == ".jsonl" else _from_array(path)
    return _checked(found, path, rows, labels)


def _from_array(path: Path) -> NDArray[Any]:
    if path.suffix == ".safetensors":
        return _from_safetensors(path)
    try:
        with opened(path) as stream:
            found: NDArray[Any] = np.load(stream, allow_pickle=False)
    except ValueError as error:
        raise DataError(f"not an array of numpy: {error}", where=str(path)) from None
    return found


def _from_safetensors(path: Path) -> NDArray[Any]:
    entries = read_header(path)
    name = next((name for name in _TENSORS if name in entries), None)
    if name is None:
        raise DataError(
            f"the tensors are {', '.join(entries) or 'none'}",
            where=str(path),
            allowed=f"one of {', '.join(_TENSORS)}",
        )
    files = WeightFiles((path,), entries, path.stat().st_size)
    ((_, array),) = read_tensors(files, [name])
    return array


def _from_jsonl(path: Path, labels: tuple[str, ...]) -> NDArray[Any]:
    rows = read_jsonl(path)
    if "scores" in rows:
        return np.array([_by_label(rows, row, labels) for row in range(len(rows))])
    name = next((name for name in ("logits", "embedding") if name in rows), None)
    if name is None:
        raise DataError(
            f"there is no answer in the columns {rows.column_list()}",
            where=str(path),
            allowed='"scores", "logits" or "embedding"',
        )
    lists = rows.column(name)
    for row, each in enumerate(lists):
        is_like_first = isinstance(each, list) and len(each) == len(lists[0] or [])
        if not is_like_first or not all(_is_number(value) for value in each):
            raise DataError(
                "this is no list of numbers of the first row's length",
                where=rows.where(row, name),
            )
    return np.array(lists, dtype=np.float64)


def _by_label(rows: Rows, row: int, labels: tuple[str, ...]) -> list[float]:
    """Return the scores of one row in the order of our labels."""
    scores = rows.column("scores")[row]
    if isinstance(scores, Sequence) and all(isinstance(each, Mapping) for each in scores):
        scores = {str(each.get("label")): each.get("score") for each in scores}
    where = rows.where(row, "scores")
    if not isinstance(scores, Mapping):
        raise DataError("these are no scores", where=where, allowed=_SCORES)
    lacks = [label for label in labels if not _is_number(scores.get(label))]
    adds = [label for label in scores if label not in labels]
    if lacks or adds:
        raise DataError(
            f"there is no score of {lacks[0]!r}"
            if lacks
            else f"the rows have no label {adds[0]!r}",
            where=where,
            allowed=f"a score of each of {', '.join(labels)}",
        )
    return [float(scores[label]) for label in labels]


def _checked(found: NDArray[Any], path: Path, rows: int, labels: tuple[str, ...]) -> Floats:
    where = str(path)
    if found.ndim == 1 and np.issubdtype(found.dtype, np.integer):
        raise DataError(
            "these are numbers of classes, one a row",
            where=where,
            allowed="probabilities or logits of all classes",
            cure="a class alone is a hard label: put it into the column label",
        )
    if found.ndim != 2 or not np.issubdtype(found.dtype, np.number):
        raise DataError(
            f"the array has the shape {found.shape} and holds {found.dtype}",
            where=where,
            allowed="one row of numbers for each row of text",
        )
    if len(found) != rows:
        raise DataError(
            f"there are {len(found):,} answers for {rows:,} rows",
            where=where,
            allowed="one answer for each row, in the order of the file of rows",
        )
    if labels and found.shape[1] != len(labels):
        raise DataError(
            f"there are {found.shape[1]} columns for {len(labels)} labels",
            where=where,
            allowed=", ".join(labels),
        )
    values = found.astype(np.float64)
    if not np.isfinite(values).all():
        (row,) = np.flatnonzero(~np.isfinite(values).all(axis=1))[:1]
        raise DataError("a value is not finite", where=f"{where}, row {row + 1}")
    if labels and _are_shares(values):
        values = np.log(np.maximum(values, _LEAST_SHARE))
    return values.astype(np.float32)


def _are_shares(values: NDArray[np.float64]) -> bool:
    """Tell whether each row holds probabilities that sum to 1."""
    return bool(
        (values >= 0).all() and np.allclose(values.sum(axis=1), 1.0, atol=_SUM_TOLERANCE, rtol=0)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
