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
_LOGITS, _PROBABILITIES, _SCORES = "logits", "probabilities", "scores"
_LABEL_TENSORS, _VECTOR_TENSORS = (_LOGITS, _PROBABILITIES), ("embeddings",)
_LABEL_COLUMNS, _VECTOR_COLUMNS = (_LOGITS, _SCORES), ("embedding",)
_FORMS_OF_SCORES = '[{"label": …, "score": …}] or {LABEL: score}'
_SUM_TOLERANCE = 1e-3
_LEAST_SHARE = 1e-7  # a share of 0 has no logarithm
_LABELS_SHOWN = 20


def read_answers(
    path: Path, *, rows: int, labels: tuple[str, ...], yes_or_no: bool = False
) -> Floats:
    """Read one answer a row, in the order of the rows.

    What is named logits or probabilities is taken for it. An array or scores without such a name
    are probabilities if all lie between 0 and 1 and each row sums to 1, and logits if some do not
    lie there; what is neither is refused. One number a row stays as it is.

    Args:
        path: .npy or .safetensors with (R, C) logits or probabilities, or (R, D) vectors; or .jsonl
            with scores as `predict --output` writes them, with logits, or with an embedding.
        rows: how many there must be.
        labels: the C labels in order; none: vectors of any width.
        yes_or_no: labels do not exclude each other, so probabilities stand alone and sum to
            anything (multi-label, ranking).

    Returns:
        Logits (R, C) or vectors (R, D). Probabilities come back as logits of the same softmax, or
        with `yes_or_no` of the same logistic function.

    Raises:
        DataError: not readable, or of another number of rows or labels, or not finite.
        ModelError: a .safetensors file that is damaged.
    """
    readers = {".npy": _from_npy, ".jsonl": _from_jsonl, ".safetensors": _from_safetensors}
    assert tuple(readers) == SUFFIXES, "one reader for each suffix"
    if path.suffix not in readers:
        raise DataError(
            f"no reader of answers for files that end in {path.suffix or 'nothing'}",
            where=str(path),
            allowed=", ".join(SUFFIXES),
        )
    found, name = readers[path.suffix](path, labels)
    values = _checked(found, str(path), rows, labels)
    if labels:
        values = _as_logits(values, name, str(path), yes_or_no=yes_or_no)
    return values.astype(np.float32)


def _from_npy(path: Path, labels: tuple[str, ...]) -> tuple[NDArray[Any], None]:
    del labels
    try:
        with opened(path) as stream:
            # not np.load, which would open archives and pickles too
            found: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    except (ValueError, EOFError, MemoryError) as error:
        raise DataError(
            f"not an array of numpy: {error}",
            where=str(path),
            cure="write it with numpy.save",
        ) from None
    return found, None


def _from_safetensors(path: Path, labels: tuple[str, ...]) -> tuple[NDArray[Any], str]:
    with opened(path):  # tells what is no file before its header is read
        entries = read_header(path)
    known = _LABEL_TENSORS if labels else _VECTOR_TENSORS
    name = next((name for name in known if name in entries), None)
    if name is None:
        raise DataError(
            f"the tensors are {', '.join(entries) or 'none'}",
            where=str(path),
            allowed=" or ".join(known),
        )
    files = WeightFiles((path,), entries, path.stat().st_size)
    ((_, array),) = read_tensors(files, [name])
    return array, name


def _from_jsonl(path: Path, labels: tuple[str, ...]) -> tuple[NDArray[Any], str]:
    rows = read_jsonl(path)
    known = _LABEL_COLUMNS if labels else _VECTOR_COLUMNS
    name = next((name for name in known if name in rows), None)
    if name is None:
        raise DataError(
            f"there is no answer in the columns {rows.column_list()}",
            where=str(path),
            allowed=" or ".join(known),
        )
    if name == _SCORES:
        return np.array([_by_label(rows, row, labels) for row in range(len(rows))]), name
    lists = rows.column(name)
    for row, each in enumerate(lists):
        if not isinstance(each, list) or not all(map(_is_number, each)):
            raise DataError("this is no list of numbers", where=rows.where(row, name))
        if len(each) != len(lists[0]):
            raise DataError(
                f"there are {len(each)} numbers, in the first row {len(lists[0])}",
                where=rows.where(row, name),
            )
    return np.array(lists, dtype=np.float64), name


def _by_label(rows: Rows, row: int, labels: tuple[str, ...]) -> list[float]:
    """Return the scores of one row in the order of our labels."""
    scores = rows.column(_SCORES)[row]
    if isinstance(scores, Sequence) and all(isinstance(each, Mapping) for each in scores):
        scores = {str(each.get("label")): each.get("score") for each in scores}
    where = rows.where(row, _SCORES)
    if not isinstance(scores, Mapping):
        raise DataError("these are no scores", where=where, allowed=_FORMS_OF_SCORES)
    lacks = [label for label in labels if not _is_number(scores.get(label))]
    adds = [label for label in scores if label not in labels]
    if lacks or adds:
        raise DataError(
            f"there is no score of {lacks[0]!r}"
            if lacks
            else f"the rows have no label {adds[0]!r}",
            where=where,
            allowed=f"a score of each of {', '.join(labels[:_LABELS_SHOWN])}",
        )
    return [float(scores[label]) for label in labels]


def _checked(
    found: NDArray[Any], where: str, rows: int, labels: tuple[str, ...]
) -> NDArray[np.float64]:
    """Return (R, C) or (R, D) finite numbers."""
    is_one_a_row = found.ndim == 1 or found.shape[1:] == (1,)
    if is_one_a_row and len(labels) > 1 and found.dtype.kind in "iu":
        raise DataError(
            "these are numbers of classes, one a row",
            where=where,
            allowed="probabilities or logits of all classes",
            cure="a class alone is a hard label: put it into the column label",
        )
    if not labels and found.dtype.kind in "iu":
        raise DataError(
            f"the vectors are of whole numbers ({found.dtype}), as if rounded to save room",
            where=where,
            allowed="vectors of fp32, fp16 or bf16",
        )
    if found.ndim == 1 and len(labels) == 1:
        found = found[:, None]
    if found.ndim != 2 or found.dtype.kind not in "fiu" or not found.shape[1]:
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
            allowed=f"a column for each of {', '.join(labels[:_LABELS_SHOWN])}, in this order",
        )
    values = found.astype(np.float64)
    # what is larger than fp32 can hold becomes infinite in it
    is_told_R = (np.abs(values) <= np.finfo(np.float32).max).all(axis=1)
    if not is_told_R.all():
        raise DataError("a value is not finite", where=f"{where}, row {is_told_R.argmin() + 1}")
    return values


def _as_logits(
    values_RC: NDArray[np.float64], name: str | None, where: str, *, yes_or_no: bool
) -> NDArray[np.float64]:
    """Return logits, whatever the values are; `name` is what the file calls them."""
    is_share_R = ((values_RC >= 0) & (values_RC <= 1)).all(axis=1)
    is_named = name == _PROBABILITIES
    if is_named and not is_share_R.all():
        raise DataError(
            "a probability does not lie between 0 and 1",
            where=f"{where}, row {is_share_R.argmin() + 1}",
            cure=f"call it {_LOGITS!r} if that is what it is",
        )
    if name == _LOGITS or not is_share_R.all():
        return values_RC
    if yes_or_no:
        shares_RC = np.clip(values_RC, _LEAST_SHARE, 1 - _LEAST_SHARE)
        return np.asarray(np.log(shares_RC) - np.log1p(-shares_RC))
    if values_RC.shape[1] == 1 and not is_named:
        return values_RC
    _require_sums(values_RC, where)
    return np.asarray(np.log(np.maximum(values_RC, _LEAST_SHARE)))


def _require_sums(values_RC: NDArray[np.float64], where: str) -> None:
    sums_R = values_RC.sum(axis=1)
    is_whole_R = np.abs(sums_R - 1) <= _SUM_TOLERANCE
    if not is_whole_R.all():
        row = int(is_whole_R.argmin())
        raise DataError(
            f"the values lie between 0 and 1 as probabilities do, but sum to {sums_R[row]:.4g}",
            where=f"{where}, row {row + 1}",
            allowed=f"a sum of 1 within {_SUM_TOLERANCE:g}",
            cure=f"write more digits, or logits under that name ({_LOGITS!r} in a .safetensors)",
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
