"""The files of one shard: ids laid end to end, where each document ends, the hash of each text.

ids-00000.bin   the tokens of all documents, without special ones, little-endian uint16 or uint32
ends-00000.npy  (documents,) int64: document d holds ids[ends[d - 1]:ends[d]]
keys-00000.npy  (documents + dropped,) uint64: hashes of the normalized texts; those of documents
                that were dropped for unknown tokens stand behind
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.data.corpus_manifest import ShardEntry
from potstill.errors import DataError
from potstill.files import TEMPORARY_SUFFIX, sha256_of_file, write_atomically
from potstill.text.ragged import Int32

Ids = NDArray[np.unsignedinteger]
Int64 = NDArray[np.int64]
Keys = NDArray[np.uint64]

# also what a kill has left half-written
FILE_NAME = re.compile(
    rf"(?:ids|ends|keys)-(\d{{5,}})\.(?:bin|npy)(\.\w+{re.escape(TEMPORARY_SUFFIX)})?"
)


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard of a corpus, memory-mapped: nothing is read before it is used."""

    ids: Ids  # (tokens,)
    ends: Int64  # (documents,)

    @property
    def starts(self) -> Int64:
        """Return where each document begins, (documents,)."""
        return np.concatenate([np.zeros(1, dtype=np.int64), self.ends[:-1]])


@dataclass(frozen=True, slots=True)
class ShardContent:
    """What one shard is made of, in memory."""

    ids: Sequence[Int32]  # parts of the flat ids
    lengths: Int64  # (documents,) tokens of each
    keys: Keys  # (documents + dropped,)


def write_shard(folder: Path, number: int, content: ShardContent, dtype: str) -> dict[str, str]:
    """Write the three files and return their hashes under the names of a `ShardEntry`.

    Raises:
        StorageError: the disk is full.
        OutputError: the folder cannot be written.
    """
    files = {
        "ids": np.concatenate(content.ids).astype(dtype).tobytes(),
        "ends": _npy(np.cumsum(content.lengths, dtype=np.int64)),
        "keys": _npy(content.keys),
    }
    for name, written in files.items():
        write_atomically(shard_file(folder, number, name), written)
    return {
        f"{name}_sha256": hashlib.sha256(written).hexdigest() for name, written in files.items()
    }


def open_shard(folder: Path, number: int, entry: ShardEntry, dtype: str) -> Shard:
    """Map one shard's ids and ends.

    Raises:
        DataError: a file is missing or has another size than the manifest says.
    """
    path = shard_file(folder, number, "ids")
    tokens, documents = entry.tally.tokens, entry.tally.documents
    try:
        ends = _load(shard_file(folder, number, "ends"))
        keys = _load(shard_file(folder, number, "keys"))
        are_whole = path.stat().st_size == tokens * np.dtype(dtype).itemsize
        if (
            are_whole
            and keys.size >= documents
            and ends.dtype == np.int64
            and ends.shape == (documents,)
        ):
            mapped = np.memmap(path, dtype=dtype, mode="r", shape=(tokens,))
            return Shard(np.asarray(mapped), ends)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, str(error)) from error
    raise _damaged(path, "its sizes are others than the manifest says")


def load_keys(folder: Path, number: int) -> Keys:
    """Map the hashes of one shard's texts, those of dropped documents last."""
    path = shard_file(folder, number, "keys")
    try:
        return _load(path)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, str(error)) from error


def is_whole(folder: Path, number: int, entry: ShardEntry) -> bool:
    """Say whether the three files have the hashes that the manifest tells; reads them all."""
    told = {"ids": entry.ids_sha256, "ends": entry.ends_sha256, "keys": entry.keys_sha256}
    files = {shard_file(folder, number, name): hashed for name, hashed in told.items()}
    return all(path.is_file() and sha256_of_file(path) == hashed for path, hashed in files.items())


def shard_file(folder: Path, number: int, name: str) -> Path:
    """Return the path of one of a shard's files."""
    return folder / f"{name}-{number:05d}.{'bin' if name == 'ids' else 'npy'}"


def _npy(array: NDArray[np.generic]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _load(path: Path) -> NDArray[Any]:
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def _damaged(path: Path, why: str) -> DataError:
    return DataError(
        f"the corpus is damaged: {why}",
        where=str(path),
        cure="build it again with the same sources and settings: what is whole is kept",
    )
