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
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from potstill.data.corpus_manifest import ShardEntry
from potstill.errors import DataError
from potstill.files import sha256_of_file, write_atomically
from potstill.stages import TEMPORARY_SUFFIX
from potstill.text.ragged import Int32

Ids = NDArray[np.unsignedinteger]
Int64 = NDArray[np.int64]
Keys = NDArray[np.uint64]
_NOT_NPY = (OSError, EOFError, ValueError, SyntaxError, tokenize.TokenError)  # numpy parses Python

# also what a kill has left half-written
FILE_NAME = re.compile(
    rf"(?:ids|ends|keys)-(\d{{5,}})\.(?:bin|npy)(\.[\w.]+{re.escape(TEMPORARY_SUFFIX)})?"
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
        DataError: a file is missing, has another size than the manifest says, or says of documents
            what cannot be.
    """
    tokens, documents = entry.tally.tokens, entry.tally.documents
    ends = _loaded(folder, number, "ends", np.int64)
    if not _are_borders(ends, documents=documents, tokens=tokens):
        raise damaged(
            shard_file(folder, number, "ends"),
            f"it does not part {tokens:,} tokens into {documents:,} documents",
        )
    if load_keys(folder, number).size < documents:
        raise damaged(shard_file(folder, number, "keys"), f"it has fewer than {documents:,} keys")
    return Shard(_mapped(shard_file(folder, number, "ids"), tokens, dtype), ends)


def load_keys(folder: Path, number: int) -> Keys:
    """Map the hashes of one shard's texts, those of dropped documents last.

    Raises:
        DataError: the file is missing or damaged.
    """
    return _loaded(folder, number, "keys", np.uint64)


def torn_file(folder: Path, number: int, entry: ShardEntry) -> Path | None:
    """Return the first of the three files that has not the hash that the manifest tells.

    None: all have theirs. All are read.
    """
    told = {"ids": entry.ids_sha256, "ends": entry.ends_sha256, "keys": entry.keys_sha256}
    files = {shard_file(folder, number, name): hashed for name, hashed in told.items()}
    return next((path for path, hashed in files.items() if not _has_hash(path, hashed)), None)


def shard_file(folder: Path, number: int, name: str) -> Path:
    """Return the path of one of a shard's files."""
    return folder / f"{name}-{number:05d}.{'bin' if name == 'ids' else 'npy'}"


def _npy(array: NDArray[np.generic]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def damaged(path: Path, why: str) -> DataError:
    """Return the error that names a damaged file of a corpus."""
    return DataError(
        f"the corpus is damaged: {why}",
        where=str(path),
        cure="build it again, with its sources and this folder as --corpus-folder: what is whole "
        "is kept",
    )


def _loaded(folder: Path, number: int, name: str, kind: DTypeLike) -> NDArray[Any]:
    path = shard_file(folder, number, name)
    try:
        found = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except _NOT_NPY as error:
        raise damaged(path, str(error)) from error
    if found.ndim != 1 or found.dtype != kind:
        raise damaged(path, "it holds something else than one row of 64-bit numbers")
    return found


def _are_borders(ends: Int64, *, documents: int, tokens: int) -> bool:
    """Say whether documents of one token and more end there, the last of them with the shard."""
    if ends.size != documents or not documents:
        return False
    return bool(ends[0] > 0 and ends[-1] == tokens and (ends[1:] > ends[:-1]).all())


def _mapped(path: Path, tokens: int, dtype: str) -> Ids:
    try:
        if path.stat().st_size == tokens * np.dtype(dtype).itemsize:
            return np.asarray(np.memmap(path, dtype=dtype, mode="r", shape=(tokens,)))
    except (OSError, ValueError) as error:
        raise damaged(path, str(error)) from error
    raise damaged(path, f"it does not hold {tokens:,} tokens")


def _has_hash(path: Path, hashed: str) -> bool:
    try:
        return sha256_of_file(path) == hashed
    except OSError:
        return False
