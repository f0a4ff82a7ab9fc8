"""Files of vectors: written some rows at a time, whole or absent, and read back as floats.

    .npy          (K, D) float32, float16, or (K, B) uint8 of "binary"; nothing else has room
    .safetensors  the same as tensor "embeddings", and int8 with tensors "lowest" and "step", (D,);
                  its metadata tell form, dimensions and the model's fingerprint
    .parquet      columns "id" and "embedding", a list a row; the same metadata in its schema

Legend: K vectors of a file, D dimensions, B bytes of a packed vector.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from potstill.bundle.safetensors_header import compose_header
from potstill.data.opening import opened
from potstill.errors import DataError, MissingExtraError, OutputError
from potstill.files import flush_folder, require_writable_file, told_in_one_line
from potstill.search.vector_forms import (
    Floats,
    Form,
    Int8Ranges,
    from_form,
    int8_ranges,
    require_finite,
    require_form,
    to_form,
)
from potstill.shapes import expect

Append = Callable[[Floats], None]

_TENSOR, _LOWEST, _STEP = "embeddings", "lowest", "step"
_ID, _COLUMN = "id", "embedding"
_FINGERPRINT = "fingerprint"
_PART_SUFFIX = ".potstill-part"
_ROWS_AT_ONCE = 8_192
_DTYPES: Mapping[Form, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "int8": np.dtype("i1"),
    "binary": np.dtype("u1"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorHead:
    """What is known of a file of vectors before the first of them."""

    rows: int
    dimensions: int
    form: Form = "float32"
    ranges: Int8Ranges | None = None  # of int8, and of no other form
    ids: Sequence[str] | None = None  # kept by .parquet alone; None: the rows' numbers, from 0
    fingerprint: str | None = None  # of the model; .npy has no room for it

    @property
    def shape(self) -> tuple[int, int]:
        """Return the shape of the array that is stored."""
        width = self.dimensions // 8 if self.form == "binary" else self.dimensions
        return self.rows, width

    def facts(self) -> dict[str, str]:
        """Return the metadata."""
        told = {"form": self.form, "dimensions": str(self.dimensions)}
        return told | ({_FINGERPRINT: self.fingerprint} if self.fingerprint else {})


@dataclass(frozen=True, slots=True)
class StoredVectors:
    """What a file of vectors holds."""

    vectors_KD: Floats  # memory-mapped where the file is float32 in .npy
    ids: tuple[str, ...] | None = None
    fingerprint: str | None = None  # of the model that made them


def write_vectors(
    path: Path,
    vectors_KD: Floats,
    *,
    form: Form = "float32",
    ids: Sequence[str] | None = None,
    fingerprint: str | None = None,
) -> None:
    """Write vectors in one call; int8 takes its ranges from them.

    Raises:
        InputError: a form, vectors, ids or a place that cannot be used.
        StorageError: the disk is full.
    """
    sizes = expect(vectors_KD, "K D", name="vectors")
    if ids is not None and len(ids) != sizes["K"]:
        raise DataError(f"{len(ids)} ids for {sizes['K']} vectors", allowed="one id a vector")
    require_form(form, sizes["D"])
    require_vector_file(path, form)
    require_finite(vectors_KD)
    head = VectorHead(
        rows=sizes["K"],
        dimensions=sizes["D"],
        form=form,
        ranges=int8_ranges(vectors_KD) if form == "int8" else None,
        ids=ids,
        fingerprint=fingerprint,
    )
    with vector_file(path, head) as append:
        for start in range(0, head.rows, _ROWS_AT_ONCE):
            append(vectors_KD[start : start + _ROWS_AT_ONCE])


def require_vector_file(path: Path, form: Form) -> None:
    """Check, before any work, that vectors of this form can be written to `path`.

    Raises:
        OutputError: another kind of file, one without room for the form, or a wrong place.
        MissingExtraError: .parquet without pyarrow.
    """
    if path.suffix not in _WRITERS:
        raise OutputError(
            f"unknown kind of file {path.suffix!r}", where=str(path), allowed=", ".join(_WRITERS)
        )
    if form == "int8" and path.suffix == ".npy":
        raise OutputError(
            "a .npy file has no room for the ranges that int8 is read with",
            where=str(path),
            allowed=".safetensors, .parquet",
            cure=f"name it {path.with_suffix('.safetensors').name}",
        )
    if path.suffix == ".parquet":
        _pyarrow(f"writing {path}")
    require_writable_file(path)


@contextlib.contextmanager
def vector_file(path: Path, head: VectorHead) -> Iterator[Append]:
    """Give a function that appends float32 vectors; the file is there, whole, at the end.

    Nothing is memory-mapped: on a full disk a mapped page kills the process, a write tells.

    Raises:
        OutputError: the place cannot be written.
        StorageError: the disk is full.
    """
    written = 0
    with _file_whole_or_absent(path) as stream, _WRITERS[path.suffix](stream, head) as append:

        def append_some(vectors_BD: Floats) -> None:
            nonlocal written
            written += len(vectors_BD)
            append(to_form(vectors_BD, head.form, head.ranges))

        yield append_some
        assert written == head.rows, f"{written} vectors of {head.rows}: this is a bug"


def read_vectors(path: Path) -> StoredVectors:
    """Read a file of vectors, ours or another's of the same layout.

    Raises:
        DataError: no such file, damaged, or of another layout.
        MissingExtraError: .parquet without pyarrow.
    """
    if path.suffix not in _READERS:
        raise DataError(
            f"unknown kind of file {path.suffix!r}", where=str(path), allowed=", ".join(_READERS)
        )
    with opened(path) as stream:
        return _READERS[path.suffix](path, stream)


@contextlib.contextmanager
def _file_whole_or_absent(path: Path) -> Iterator[BinaryIO]:
    part = path.with_name(path.name + _PART_SUFFIX)
    with told_in_one_line(path):
        try:
            with part.open("wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        flush_folder(path.parent)


@contextlib.contextmanager
def _npy_writer(stream: BinaryIO, head: VectorHead) -> Iterator[Callable[[NDArray[Any]], None]]:
    dtype = _DTYPES[head.form]
    descriptor = npy.dtype_to_descr(dtype)
    told = {"descr": descriptor, "fortran_order": False, "shape": head.shape}
    npy.write_array_header_1_0(stream, told)
    yield lambda stored: _write_raw(stream, stored, dtype)


@contextlib.contextmanager
def _safetensors_writer(
    stream: BinaryIO, head: VectorHead
) -> Iterator[Callable[[NDArray[Any]], None]]:
    dtype = _DTYPES[head.form]
    tensors: dict[str, NDArray[Any]] = {}
    if head.ranges is not None:  # first: they are the wider values, so all of the file is aligned
        tensors = {_LOWEST: head.ranges.lowest_D, _STEP: head.ranges.step_D}
    # one number seen as the whole array: the header needs its shape, and the memory is spared
    all_rows = np.broadcast_to(np.zeros((), dtype), head.shape)
    stream.write(compose_header({**tensors, _TENSOR: all_rows}, head.facts()))
    for tensor in tensors.values():
        _write_raw(stream, tensor, _DTYPES["float32"])
    yield lambda stored: _write_raw(stream, stored, dtype)


def _write_raw(stream: BinaryIO, array: NDArray[Any], dtype: np.dtype[Any]) -> None:
    stream.write(np.ascontiguousarray(array, dtype=dtype).data)


@contextlib.contextmanager
def _parquet_writer(stream: BinaryIO, head: VectorHead) -> Iterator[Callable[[NDArray[Any]], None]]:
    pyarrow = _pyarrow("writing .parquet")
    from pyarrow.parquet import ParquetWriter

    facts = head.facts() | _ranges_as_text(head.ranges)
    values = pyarrow.from_numpy_dtype(_DTYPES[head.form])
    fields = [(_ID, pyarrow.string()), (_COLUMN, pyarrow.list_(values))]
    schema = pyarrow.schema(fields, metadata=facts)
    ids = map(str, range(head.rows)) if head.ids is None else iter(head.ids)
    with ParquetWriter(stream, schema) as writer:

        def append(stored: NDArray[Any]) -> None:
            starts = np.arange(len(stored) + 1, dtype=np.int32) * stored.shape[1]
            lists = pyarrow.ListArray.from_arrays(starts, pyarrow.array(stored.ravel()))
            names = pyarrow.array([next(ids) for _ in stored], pyarrow.string())
            writer.write_table(pyarrow.Table.from_arrays([names, lists], schema=schema))

        yield append


def _ranges_as_text(ranges: Int8Ranges | None) -> dict[str, str]:
    if ranges is None:
        return {}
    return {_LOWEST: _as_text(ranges.lowest_D), _STEP: _as_text(ranges.step_D)}


def _as_text(values_D: Floats) -> str:
    return " ".join(map(str, values_D.tolist()))  # of each float the digits that give it back


def _from_text(text: bytes) -> Floats:
    return np.array(text.decode().split(), dtype=np.float64).astype(np.float32)


def _read_npy(path: Path, stream: BinaryIO) -> StoredVectors:
    del stream  # the file is mapped by its name
    try:
        stored = npy.open_memmap(path, mode="r")
    except (ValueError, SyntaxError, TypeError) as error:
        raise _damaged(path, f"not a whole .npy file of numbers: {error}") from error
    return StoredVectors(_floats(path, stored, None))


def _read_safetensors(path: Path, stream: BinaryIO) -> StoredVectors:
    del stream
    try:
        with safe_open(path, framework="np") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except (SafetensorError, TypeError) as error:
        raise _damaged(path, f"not a whole safetensors file of numbers: {error}") from error
    if _TENSOR not in tensors:
        found = ", ".join(sorted(tensors)) or "none"
        raise DataError(f"no tensor {_TENSOR!r} (the tensors are: {found})", where=str(path))
    ranges = None
    if _LOWEST in tensors and _STEP in tensors:
        ranges = Int8Ranges(tensors[_LOWEST], tensors[_STEP])
    vectors_KD = _floats(path, tensors[_TENSOR], ranges)
    return StoredVectors(vectors_KD, fingerprint=facts.get(_FINGERPRINT))


def _read_parquet(path: Path, stream: BinaryIO) -> StoredVectors:
    pyarrow = _pyarrow(f"reading {path}")
    from pyarrow.parquet import ParquetFile

    try:
        file = ParquetFile(stream)
        schema = file.schema_arrow
        if _COLUMN not in schema.names:
            found = ", ".join(schema.names)
            raise DataError(f"no column {_COLUMN!r} (the columns are: {found})", where=str(path))
        columns = [name for name in (_ID, _COLUMN) if name in schema.names]
        batches = list(file.iter_batches(columns=columns))
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise _damaged(path, f"not a whole Parquet file: {error}") from error
    facts = schema.metadata or {}
    ranges = None
    if _LOWEST.encode() in facts and _STEP.encode() in facts:
        ranges = Int8Ranges(_from_text(facts[_LOWEST.encode()]), _from_text(facts[_STEP.encode()]))
    parts = [_rows_of_lists(path, batch[_COLUMN]) for batch in batches]
    if len({part.shape[1] for part in parts}) != 1:
        raise DataError("no vectors, or of several lengths", where=str(path))
    ids = None
    if _ID in columns:
        ids = tuple(str(name) for batch in batches for name in batch[_ID].to_pylist())
    vectors_KD = _floats(path, np.concatenate(parts), ranges)
    fingerprint = facts.get(_FINGERPRINT.encode())
    return StoredVectors(vectors_KD, ids, fingerprint.decode() if fingerprint else None)


def _rows_of_lists(path: Path, lists: Any) -> NDArray[Any]:
    """Return the lists of one batch as an array, a row each."""
    from pyarrow import ArrowException, compute

    try:
        lengths = compute.unique(compute.list_value_length(lists)).to_pylist()
    except ArrowException:
        lengths = []  # no lists at all
    if len(lengths) != 1 or not lengths[0]:
        raise DataError(
            f"column {_COLUMN!r} does not hold lists of one length",
            where=str(path),
            allowed="one vector a row",
        )
    values = lists.flatten().to_numpy(zero_copy_only=False)
    rows_BD: NDArray[Any] = values.reshape(len(lists), -1)
    return rows_BD


def _floats(path: Path, stored: NDArray[Any], ranges: Int8Ranges | None) -> Floats:
    """Return the vectors that a stored array stands for; its dtype tells its form."""
    if stored.ndim != 2 or 0 in stored.shape[1:]:
        raise DataError(
            f"an array of shape {stored.shape}", where=str(path), allowed="one vector a row"
        )
    if stored.dtype.kind == "f":
        return from_form(stored, "float32")
    if stored.dtype == np.uint8:
        return from_form(stored, "binary")
    if stored.dtype != np.int8:
        raise DataError(
            f"vectors of {stored.dtype}",
            where=str(path),
            allowed="float16, float32, float64, int8 with its ranges, uint8 of packed bits",
        )
    if ranges is None or {ranges.lowest_D.shape, ranges.step_D.shape} != {stored.shape[1:]}:
        raise DataError(
            "int8 without the ranges of its dimensions",
            where=str(path),
            cure="write it with potstill embed --form int8",
        )
    return from_form(stored, "int8", ranges)


def _pyarrow(needed_for: str) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise MissingExtraError("pyarrow", extra="parquet", needed_for=needed_for) from error
    return pyarrow


def _damaged(path: Path, what: str) -> DataError:
    return DataError(what, where=str(path), cure="write or copy the file again")


_Writer = Callable[[BinaryIO, VectorHead], AbstractContextManager[Callable[[NDArray[Any]], None]]]

_WRITERS: Mapping[str, _Writer] = {
    ".npy": _npy_writer,
    ".safetensors": _safetensors_writer,
    ".parquet": _parquet_writer,
}
_READERS: Mapping[str, Callable[[Path, BinaryIO], StoredVectors]] = {
    ".npy": _read_npy,
    ".safetensors": _read_safetensors,
    ".parquet": _read_parquet,
}
