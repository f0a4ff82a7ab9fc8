"""A corpus that was built: memory-mapped, read-only, known by a hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from potstill.data.corpus_manifest import CorpusManifest, read_manifest
from potstill.data.corpus_shards import (
    Int64,
    Keys,
    Shard,
    damaged,
    load_keys,
    open_shard,
    torn_file,
)
from potstill.errors import DataError
from potstill.text.ragged import Int32
from potstill.text.tokenizer import Tokenizer


@dataclass(frozen=True, eq=False)
class Corpus:
    """The documents of all sources as ids, in their order, numbered from 0 over all shards."""

    folder: Path
    manifest: CorpusManifest
    shards: tuple[Shard, ...]

    @property
    def documents(self) -> int:
        """Return the number of documents that were kept."""
        return self.manifest.total.documents

    @property
    def total_tokens(self) -> int:
        """Return the tokens of all documents, without special ones."""
        return self.manifest.total.tokens

    @cached_property
    def first_documents(self) -> Int64:
        """Return the number of each shard's first document, and that behind the last, (S + 1,)."""
        counts = [shard.ends.size for shard in self.shards]
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    @cached_property
    def identity(self) -> str:
        """Return a hash that changes with every id, every border and the special tokens."""
        wording = self.manifest.wording
        parts = [wording.tokenizer_sha256, wording.dtype]
        parts += [f"{shard.ids_sha256} {shard.ends_sha256}" for shard in self.manifest.shards]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def document(self, number: int) -> Int32:
        """Return the ids of one document, without special ones."""
        assert 0 <= number < self.documents, "a document that is not there: this is a bug"
        shard = int(np.searchsorted(self.first_documents, number, side="right")) - 1
        local = number - int(self.first_documents[shard])
        ends = self.shards[shard].ends
        start = int(ends[local - 1]) if local else 0
        return self.shards[shard].ids[start : int(ends[local])].astype(np.int32)

    def keys(self) -> Keys:
        """Return the hash of each document's normalized text, (documents,)."""
        return np.concatenate(
            [
                load_keys(self.folder, number)[: shard.ends.size]
                for number, shard in enumerate(self.shards)
            ]
        )

    def require_whole(self) -> None:
        """Check the hash of every file: all is read, at the speed of sha256 or of the disk.

        Raises:
            DataError: a file is not what was written; it is named.
        """
        for number, entry in enumerate(self.manifest.shards):
            torn = torn_file(self.folder, number, entry)
            if torn is not None:
                raise damaged(torn, "its sha256 is another than the manifest says")

    def require_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Check that the corpus was made by this tokenizer.

        Raises:
            DataError: it was made by another one.
        """
        wording = self.manifest.wording
        told = wording.tokenizer_sha256, wording.vocabulary_size, wording.cls_id, wording.sep_id
        sizes = tokenizer.vocabulary_size, tokenizer.cls_id, tokenizer.sep_id
        if told != (tokenizer_hash(tokenizer), *sizes):
            raise DataError(
                "the corpus was made by another tokenizer",
                where=str(self.folder),
                cure="build it again with the tokenizer of this model, in another folder",
            )


def open_corpus(folder: Path) -> Corpus:
    """Open a corpus folder; no token is read yet, see `Corpus.require_whole`.

    Raises:
        DataError: there is none, it is not finished, or a file of it is missing, cut, or says of
            documents what cannot be.
    """
    manifest = read_manifest(folder)
    if manifest is None or not manifest.is_finished:
        raise DataError(
            "the corpus is not finished" if manifest else "this is no folder of a corpus",
            where=str(folder),
            cure="build it, or name another folder",
        )
    shards = tuple(
        open_shard(folder, number, entry, manifest.wording.dtype)
        for number, entry in enumerate(manifest.shards)
    )
    return Corpus(folder, manifest, shards)


def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """Return a hash that changes whenever an id could."""
    return hashlib.sha256(tokenizer.id_bytes()).hexdigest()
