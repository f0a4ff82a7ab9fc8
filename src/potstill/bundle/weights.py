"""The weights of a model folder: safetensors files, found, read and written as numpy arrays.

The three names and the index are those that transformers writes and reads. bfloat16, which numpy
does not know, is widened to float32 (exact: the same number with more zero bits); arrays of
`rounded_to_bfloat16` are written as it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.foreign_weights import no_safetensors
from potstill.bundle.safetensors_header import (
    BFLOAT16,
    BFLOAT16_BITS,
    MAX_HEADER_BYTES,
    STORED_AS,
    TensorEntry,
    compose_header,
    read_header,
    shown,
    strict_json,
)
from potstill.errors import ModelError, OutOfMemory
from potstill.files import flush_folder, told_in_one_line, write_atomically

__all__ = [
    "TensorEntry",
    "WeightFiles",
    "find_weights",
    "has_weights",
    "read_tensors",
    "require_finite",
    "write_tensor_file",
    "write_weights",
    "read_index",
    "rounded_to_bfloat16",
    "widened_bfloat16",
    "WEIGHTS_FILE",
    "INDEX_FILE",
]

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

_SHARDS = "model-?????-of-?????.safetensors"
_PART_SUFFIX = ".potstill-part"
_WRITTEN_BY_TORCH = MappingProxyType({"format": "pt"})  # transformers 4 refuses a file without it


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """The safetensors files of one folder, their headers read and found sound."""

    files: tuple[Path, ...]  # one file, or the shards in the order of their names
    entries: dict[str, TensorEntry]  # by tensor name, in the order of files and bytes
    size_bytes: int  # of all files together


def find_weights(folder: Path) -> WeightFiles:
    """Return the weights of a model folder; reads headers, no tensor.

    Raises:
        ModelError: no safetensors there, or a file that is damaged or does not fit its index; the
            message names file, tensor and cure.
    """
    single, index = folder / WEIGHTS_FILE, folder / INDEX_FILE
    if os.path.lexists(single):  # a dead link is there too: the reader tells it as such
        return _weight_files([single], read_header(single))
    if os.path.lexists(index):
        return _read_shards(index)
    raise no_safetensors(folder)


def has_weights(folder: Path) -> bool:
    """Tell whether a folder holds weights, sound or not."""
    return any(os.path.lexists(folder / name) for name in (WEIGHTS_FILE, INDEX_FILE))


def read_tensors(
    weights: WeightFiles, names: Iterable[str] | None = None
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Give (name, array) one after another; each array is writable and belongs to the caller.

    Args:
        weights: from `find_weights`.
        names: the tensors wanted, in the order wanted; None: all, in the order of the files.

    Raises:
        ModelError: a name that the weights do not hold, or a file that changed since it was found.
        OutOfMemory: a tensor is larger than the memory.
    """
    wanted = list(weights.entries if names is None else names)
    for name in wanted:
        if name not in weights.entries:
            raise ModelError(
                f"no tensor named {shown(name)} among {len(weights.entries)}",
                where=str(weights.files[0].parent),
                cure="check that the folder holds the architecture that its config.json says",
            )
    return ((name, _read_tensor(name, weights.entries[name])) for name in wanted)


def require_finite(array: NDArray[Any], name: str, weights: WeightFiles) -> None:
    """Refuse what would answer without a word, and quantize to numbers that look healthy.

    Raises:
        ModelError: a number of the tensor is not finite.
    """
    extremes = (float(array.min()), float(array.max())) if array.size else ()  # nan is both
    if not all(map(math.isfinite, extremes)):
        raise ModelError(
            f"{shown(name)} holds numbers that are not finite",
            where=str(weights.files[0] if len(weights.files) == 1 else weights.files[0].parent),
            cure="copy the weights again, or take an earlier checkpoint: a training has diverged",
        )


def write_weights(
    folder: Path,
    tensors: Mapping[str, NDArray[Any]],
    *,
    max_shard_bytes: int = 5_000_000_000,
    metadata: Mapping[str, str] = _WRITTEN_BY_TORCH,
) -> WeightFiles:
    """Write tensors as `model.safetensors`, or as shards with their index, as transformers does.

    The same input gives the same bytes, in whatever order it comes: names are sorted. The library's
    writer is not used: it orders metadata at random, never flushes, and hides a full disk.
    Weights that stood in the folder before are replaced; a kill leaves the old ones, the new ones
    or none, never a mixture.

    Args:
        folder: where to write; made if absent.
        tensors: floats, integers or booleans by name; each is written in its own dtype.
        max_shard_bytes: one file up to here, shards above; a larger tensor gets a shard alone.
        metadata: texts for the header of each file.

    Raises:
        StorageError: the disk is full.
        OutputError: the folder cannot be written.
    """
    shards = _split(tensors, max_shard_bytes)
    files = _file_names(folder, len(shards))
    with told_in_one_line(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            for file, shard in zip(files, shards, strict=True):
                _write_part(_part(file), {name: tensors[name] for name in shard}, metadata)
            (folder / INDEX_FILE).unlink(missing_ok=True)  # it would name shards of two writings
            for file in files:
                _part(file).replace(file)
        finally:
            for file in files:
                _part(file).unlink(missing_ok=True)
        if len(files) > 1:
            write_atomically(folder / INDEX_FILE, _index_text(tensors, files, shards))
        _remove_other_weights(folder, keep=files)
        flush_folder(folder)
    return find_weights(folder)


def write_tensor_file(file: Path, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Write one safetensors file, whole or not at all, for what is no model by itself.

    Raises:
        StorageError: the disk is full.
        OutputError: the folder cannot be written.
    """
    with told_in_one_line(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write_part(_part(file), dict(tensors), _WRITTEN_BY_TORCH)
            _part(file).replace(file)
        finally:
            _part(file).unlink(missing_ok=True)


def rounded_to_bfloat16(numbers: NDArray[np.float32]) -> NDArray[np.void]:
    """Return the bits of the nearest bfloat16: of two equally near ones the even one, as in torch.

    What is not a number stays so.
    """
    bits = np.ascontiguousarray(numbers, dtype=np.float32).view(np.uint32)
    upper = bits >> 16
    nearest = (bits + (upper & 1) + np.uint32(0x7FFF)) >> 16
    nearest = np.where(np.isnan(numbers), upper | np.uint32(0x40), nearest)
    return nearest.astype("<u2").view(BFLOAT16_BITS)


def widened_bfloat16(array: NDArray[Any]) -> NDArray[Any]:
    """Return what `rounded_to_bfloat16` gave as float32, any other array as it is."""
    if array.dtype != BFLOAT16_BITS:
        return array
    return _widened(array.view(np.uint16))


def read_index(index: Path) -> dict[str, str]:
    """Return the file that holds each tensor, by tensor name, from an index of shards.

    Raises:
        ModelError: no valid index, or a shard that is not a plain file name.
    """
    shard_of = strict_json(_read_small(index), index).get("weight_map")
    if not isinstance(shard_of, dict) or not shard_of:
        raise ModelError(
            "the index holds no weight_map of tensor name to file",
            where=str(index),
            cure="download or copy the file again",
        )
    for shard in shard_of.values():
        if not _is_plain_name(shard):
            raise ModelError(
                f"the shard {shown(str(shard))} is not a plain file name",
                where=str(index),
                allowed="names of files in the same folder",
                cure="do not use this model; get it again from a source you trust",
            )
    return shard_of


def _read_small(file: Path) -> bytes:
    try:
        if file.stat().st_size <= MAX_HEADER_BYTES and file.is_file():
            return file.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", where=str(file)) from error
    raise ModelError(
        "this is no index of shards",
        where=str(file),
        allowed=f"a regular file of at most {MAX_HEADER_BYTES:,} bytes",
        cure="download or copy the file again",
    )


def _is_plain_name(name: object) -> bool:
    # the Windows rules know every separator and drive that the others know
    return (
        isinstance(name, str)
        and PureWindowsPath(name).name == name
        and name not in {"", ".", ".."}
        and name.isprintable()
    )


def _read_shards(index: Path) -> WeightFiles:
    shard_of = read_index(index)
    files = [index.with_name(shard) for shard in sorted(set(shard_of.values()))]
    for file in files:
        if not file.exists():
            raise ModelError(
                f"the index names {file.name}, which is missing",
                where=str(index),
                cure="download or copy the whole folder again",
            )
    headers = {file.name: read_header(file) for file in files}
    for name, shard in shard_of.items():
        if name not in headers[shard]:
            raise ModelError(
                f"the index says that {shard} holds the tensor {shown(name)}, but it does not",
                where=str(index),
                cure="download or copy the whole folder again, not single files of it",
            )
    return _weight_files(
        files,
        {
            name: entry
            for shard, header in headers.items()
            for name, entry in header.items()
            if shard_of.get(name) == shard
        },
    )


def _weight_files(files: Sequence[Path], entries: dict[str, TensorEntry]) -> WeightFiles:
    return WeightFiles(tuple(files), entries, sum(file.stat().st_size for file in files))


def _read_tensor(name: str, entry: TensorEntry) -> NDArray[Any]:
    try:
        array = np.empty(entry.shape, dtype=STORED_AS[entry.dtype])
        with entry.file.open("rb") as stream:
            stream.seek(entry.start)
            filled_bytes = stream.readinto(array.data)
    except OSError as error:
        raise _changed(name, entry) from error
    except MemoryError as error:
        raise OutOfMemory(
            f"a tensor of {entry.end - entry.start:,} bytes does not fit into memory",
            where=f"{entry.file}, tensor {shown(name)}",
            cure="use a machine with more memory",
        ) from error
    if filled_bytes != entry.end - entry.start:
        raise _changed(name, entry)
    return _widened(array) if entry.dtype == BFLOAT16 else array


def _changed(name: str, entry: TensorEntry) -> ModelError:
    return ModelError(
        "the file changed or went away while it was read",
        where=f"{entry.file}, tensor {shown(name)}",
        cure="run the same command again when nothing else writes to this folder",
    )


def _widened(upper_halves: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return bfloat16 bits as float32: they are its upper sixteen bits."""
    widened = np.empty(upper_halves.shape, dtype=np.float32)
    np.left_shift(upper_halves, 16, out=widened.view(np.uint32), dtype=np.uint32)
    return widened


def _split(tensors: Mapping[str, NDArray[Any]], max_shard_bytes: int) -> list[list[str]]:
    """Return the names of each shard, filled in the order of the names."""
    shards: list[list[str]] = [[]]
    shard_bytes = 0
    for name in sorted(tensors):
        if shards[-1] and shard_bytes + tensors[name].nbytes > max_shard_bytes:
            shards.append([])
            shard_bytes = 0
        shards[-1].append(name)
        shard_bytes += tensors[name].nbytes
    return shards


def _file_names(folder: Path, count: int) -> list[Path]:
    if count == 1:
        return [folder / WEIGHTS_FILE]
    return [folder / f"model-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)]


def _part(file: Path) -> Path:
    return file.with_name(file.name + _PART_SUFFIX)


def _write_part(part: Path, tensors: dict[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    # wide values first: so each tensor starts at a multiple of its value's width
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    with part.open("wb") as stream:
        stream.write(compose_header({name: tensors[name] for name in order}, metadata))
        for name in order:
            array = np.asarray(tensors[name], order="C")
            stream.write(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
        stream.flush()
        os.fsync(stream.fileno())


def _index_text(
    tensors: Mapping[str, NDArray[Any]], files: list[Path], shards: list[list[str]]
) -> bytes:
    index = {
        "metadata": {
            "total_parameters": sum(tensor.size for tensor in tensors.values()),
            "total_size": sum(tensor.nbytes for tensor in tensors.values()),
        },
        "weight_map": {
            name: file.name for file, shard in zip(files, shards, strict=True) for name in shard
        },
    }
    return (json.dumps(index, indent=2, sort_keys=True) + "\n").encode("utf-8")


def _remove_other_weights(folder: Path, *, keep: list[Path]) -> None:
    for file in [folder / WEIGHTS_FILE, *folder.glob(_SHARDS)]:
        if file not in keep:
            file.unlink(missing_ok=True)
