"""`embed`: a file of rows to a file of vectors, some thousand rows at a time."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from potstill.data import fields
from potstill.data.ahead import made_ahead
from potstill.data.columns import Columns, select_columns
from potstill.data.readers import read_rows
from potstill.data.rows import Rows
from potstill.errors import DataError, RunError
from potstill.files import told_in_one_line
from potstill.runtime.model import Model, load
from potstill.search.stored_vectors import VectorHead, require_vector_file, vector_file
from potstill.search.vector_forms import Floats, Form, cut, int8_ranges, require_form
from potstill.workflows.outputs import require_nothing_lost

Tell = Callable[[int, int], None]  # rows done, rows of all

_TEXTS_AT_ONCE = 4_096  # enough to sort by length, little beside the model's own memory
_ID = "id"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedOptions:
    """How texts are read and run, and how vectors are stored."""

    text_column: str = "text"
    dimensions: int | None = None  # the first of each vector, normed again; None: all, as they are
    form: Form = "float32"
    max_length: int | None = None  # tokens; None: what the folder says
    engine: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    device: str = "auto"
    allow_pickle: bool = False


def embed(
    model: str,
    source: str,
    output: Path,
    options: EmbedOptions,
    tell: Tell | None = None,
) -> dict[str, Any]:
    """Write one vector a row, whole or not at all.

    What is in memory at once are the texts and the vectors of some thousand rows. For int8, whose
    ranges are known at the end, all vectors wait on the disk as float32, beside the output.

    Args:
        model: folder or hub name.
        source: file of rows; for .parquet its column "id", if there is one, names the vectors.
        output: .npy, .safetensors or .parquet, see `search.stored_vectors`.
        options: see there.
        tell: called while rows are done.

    Raises:
        InputError: wrong model, rows, form or output.
        RunError: the model gives a vector that is not finite.
        StorageError: the disk is full.
    """
    require_form(options.form)
    require_vector_file(output, options.form)
    require_nothing_lost(output, written="vectors", rows=source, models=[model])
    all_rows = read_rows(source)
    columns = Columns(text=options.text_column)
    rows = select_columns(all_rows, columns, required=("text",), optional=())
    ids = _ids(all_rows) if output.suffix == ".parquet" else None
    loaded = load(
        model,
        engine=options.engine,
        device=options.device,
        precision=options.precision,
        threads=options.threads,
        max_length=options.max_length,
        allow_pickle=options.allow_pickle,
    )
    width = loaded.embed([]).shape[1]
    head = VectorHead(
        rows=len(rows),
        dimensions=_checked_dimensions(options, width),
        form=options.form,
        ids=ids,
        fingerprint=None if output.suffix == ".npy" else loaded.fingerprint,
    )
    encoding = _Encoding(loaded, rows, options.dimensions, tell)
    _write(output, head, encoding.parts())
    return {
        "output": str(output),
        "rows": head.rows,
        "width": width,
        "dimensions": head.dimensions,
        "form": head.form,
        "truncated": encoding.truncated,
        "engine": loaded.engine.name,
        "precision": loaded.engine.precision,
        "engine_reason": loaded.engine.reason,
        "warnings": loaded.folder.warnings(),
    }


class _Encoding:
    """The vectors of all rows, made part by part; it counts the texts that were cut."""

    def __init__(self, model: Model, rows: Rows, dimensions: int | None, tell: Tell | None) -> None:
        self._model, self._rows = model, rows
        self._dimensions, self._tell = dimensions, tell
        self.truncated = 0

    def parts(self) -> Iterator[Floats]:
        """Give the vectors in the order of the rows."""
        texts = self._rows.column("text")
        starts = range(0, len(texts), _TEXTS_AT_ONCE)
        read = (self._model.encode(texts[at : at + _TEXTS_AT_ONCE]) for at in starts)
        for start, encoded in zip(starts, made_ahead(read), strict=True):
            vectors_BD = self._model.engine.run(encoded.batch, ["vectors"])["vectors"]
            self._require_finite(vectors_BD, start)
            self.truncated += int(np.count_nonzero(encoded.truncated))
            yield vectors_BD if self._dimensions is None else cut(vectors_BD, self._dimensions)
            if self._tell is not None:
                self._tell(start + len(vectors_BD), len(texts))

    def _require_finite(self, vectors_BD: Floats, start: int) -> None:
        is_finite_B = np.isfinite(vectors_BD).all(axis=1)
        if not is_finite_B.all():
            raise RunError(
                "the model gives a vector that is not finite",
                where=self._rows.where(start + int(is_finite_B.argmin())),
                cure="try --precision fp32; if it stays, the weights are damaged",
            )


def _write(output: Path, head: VectorHead, parts: Iterable[Floats]) -> None:
    with contextlib.ExitStack() as stack:
        if head.form == "int8":
            stack.enter_context(told_in_one_line(output))
            # without a name where the system can: a killed run leaves nothing behind
            spool = stack.enter_context(tempfile.TemporaryFile(dir=output.parent))
            extremes_2D = _spool(spool, parts)
            head = replace(head, ranges=int8_ranges(extremes_2D))
            parts = _spooled(spool, head.dimensions)
        append = stack.enter_context(vector_file(output, head))
        for part in parts:
            append(part)


def _spool(spool: BinaryIO, parts: Iterable[Floats]) -> Floats:
    """Write vectors to a file and return the least and the greatest value of each dimension."""
    extremes: list[Floats] = []
    for part in parts:
        spool.write(np.ascontiguousarray(part, dtype=np.float32).data)
        seen = np.concatenate([*extremes, part])
        extremes = [np.stack([seen.min(axis=0), seen.max(axis=0)])]
    return extremes[0]


def _spooled(spool: BinaryIO, dimensions: int) -> Iterator[Floats]:
    spool.seek(0)
    part_bytes = _TEXTS_AT_ONCE * dimensions * np.dtype(np.float32).itemsize
    while content := spool.read(part_bytes):
        yield np.frombuffer(content, dtype=np.float32).reshape(-1, dimensions)


def _checked_dimensions(options: EmbedOptions, width: int) -> int:
    """Return how many dimensions are stored.

    Raises:
        RecipeError: more than there are, or a number that the form cannot hold.
    """
    if options.dimensions is None:
        dimensions = width
    else:
        dimensions = cut(np.zeros((0, width), dtype=np.float32), options.dimensions).shape[1]
    require_form(options.form, dimensions)
    return dimensions


def _ids(rows: Rows) -> list[str] | None:
    """Return the names of rows, None where they have none.

    Raises:
        DataError: a row without name, or one that is neither a text nor a whole number.
    """
    if _ID not in rows:
        return None
    return [_checked_id(rows, index, value) for index, value in enumerate(rows.column(_ID))]


def _checked_id(rows: Rows, index: int, value: Any) -> str:
    try:
        return fields.text(str(value) if type(value) is int else value)
    except DataError as fault:
        raise DataError(
            fault.what,
            where=rows.where(index, _ID),
            allowed="a string or a whole number",
            cure="name every row, or none: without the column vectors are named by their number",
        ) from None
