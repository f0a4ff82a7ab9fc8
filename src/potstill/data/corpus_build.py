"""Build a corpus folder: each source is read once, each shard is whole or absent.

A kill at any moment costs the shard that was being filled: the same call goes on behind the last
whole one, and what it makes is what a single sitting would have made, byte for byte.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path

import numpy as np

from potstill.data.ahead import made_ahead
from potstill.data.corpus import Corpus, open_corpus, tokenizer_hash
from potstill.data.corpus_blocks import (
    EncodedBlock,
    Encoder,
    Fate,
    SeenTexts,
    blocks_of,
)
from potstill.data.corpus_files import CorpusSource
from potstill.data.corpus_manifest import (
    FILE,
    CorpusManifest,
    ShardEntry,
    SourceEntry,
    Tally,
    Wording,
    read_manifest,
    without_shards,
)
from potstill.data.corpus_shards import (
    FILE_NAME,
    Int64,
    Keys,
    ShardContent,
    load_keys,
    open_shard,
    torn_file,
    write_shard,
)
from potstill.data.hub_stream import hub_revision
from potstill.data.opening import opened
from potstill.errors import DataError, RecipeError
from potstill.files import leftovers, require_free, sha256_of_file, told_in_one_line
from potstill.locks import LOCK, locked
from potstill.recipe import require_range
from potstill.text.ragged import Int32
from potstill.text.tokenizer import Tokenizer

Tell = Callable[[int, int], None]
Source = str | PathLike[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusSettings:
    """What decides a corpus beside its sources and its tokenizer.

    Raises:
        RecipeError: a setting outside its range.
    """

    column: str = "text"  # of JSONL, Parquet and the hub
    shard_tokens: int = 1 << 24  # a shard ends behind the document that reaches it; lost by a kill
    unknown_share: float = 0.5  # documents with at least this share of unknown tokens are dropped
    block_documents: int = 4_096  # read and tokenized at a time; memory only

    def __post_init__(self) -> None:
        """Refuse what cannot be built, with the setting's name."""
        require_range("shard_tokens", self.shard_tokens, at_least=1, below=2**31)
        require_range("unknown_share", self.unknown_share, above=0.0)
        require_range("block_documents", self.block_documents, at_least=1)


def build_corpus(
    sources: Sequence[Source],
    folder: Path,
    tokenizer: Tokenizer,
    settings: CorpusSettings | None = None,
    *,
    tell: Tell | None = None,
) -> Corpus:
    """Tokenize all sources into `folder`, or go on with what stands there, or open it at once.

    Blank documents, repeated ones and those of mostly unknown tokens are left out and counted.
    A data set of the hub is held to the revision at which the building began. One process builds
    at a time; what is finished is opened by any number.

    Args:
        sources: files and `hub:` names as `CorpusSource` takes them, in the order of the corpus.
        folder: absent, empty, or of an earlier call; one that ended before its first shard counts
            as empty, so that its sources can be mended.
        tokenizer: of the model that will read the corpus.
        settings: None for the usual ones.
        tell: called with (bytes read, bytes of all files).

    Raises:
        RecipeError: the folder holds a corpus of other sources, settings or of another tokenizer;
            the difference is told. Or there is no source.
        DataError: a source cannot be read, or nothing in it can be kept.
        OutputError: the folder holds something else, or cannot be written, or another process is
            building there.
        StorageError: the disk is full; the same call goes on when there is room.
        ModelError: the tokenizer puts more than two special tokens around a text.
    """
    settings = settings or CorpusSettings()
    stored = _stored(folder)  # before a lock is put into a folder that is none of ours
    # What is finished needs no lock, and may lie on a disk that cannot be written.
    is_sound = stored is not None and _standing(stored, folder).is_finished
    lock = contextlib.nullcontext() if is_sound else locked(folder, flag="--corpus-folder")
    with lock:
        return _built(sources, folder, tokenizer, settings, tell or _say_nothing, is_sound=is_sound)


def _built(
    sources: Sequence[Source],
    folder: Path,
    tokenizer: Tokenizer,
    settings: CorpusSettings,
    tell: Tell,
    *,
    is_sound: bool,
) -> Corpus:
    stored = _stored(folder)
    if stored is not None and stored.is_bare:
        stored = None  # nothing was kept, so revisions on the hub are not held to either
    asked, opened_sources = _asked(sources, tokenizer, settings, stored)
    if stored is not None:
        stored.require_same(asked, folder)
        if is_sound:
            return open_corpus(folder)
        manifest = _standing(replace(stored, sources=asked.sources), folder)
        if manifest.is_finished:  # by another process, since this one looked
            return open_corpus(folder)
    else:
        manifest = asked
    _remove_others(folder, kept_shards=len(manifest.shards))
    manifest.write(folder)
    encoder = Encoder.of(tokenizer, settings.unknown_share)
    build = _Build(folder, manifest)
    build.run(opened_sources, encoder, settings.block_documents, tell)
    return open_corpus(folder)


@dataclass(slots=True)
class _Build:
    """Fills one shard after another; the manifest grows with each that is whole."""

    folder: Path
    manifest: CorpusManifest
    ids: list[Int32] = field(default_factory=list)  # of the shard that is being filled
    lengths: list[Int64] = field(default_factory=list)
    keys: list[Keys] = field(default_factory=list)
    dropped_keys: list[Keys] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    at: tuple[int, int] = (0, 0)  # source and place of the last document that was dealt with
    began: float = field(default_factory=time.perf_counter)

    def run(
        self, sources: Sequence[CorpusSource], encoder: Encoder, block_documents: int, tell: Tell
    ) -> None:
        """Read what is left of the sources, and close the manifest."""
        shards = self.manifest.shards
        if shards:
            self.at = (shards[-1].source, shards[-1].place)
        seen = SeenTexts(self._keys_of_shards())
        total = sum(source.size_bytes for source in sources)
        blocks = blocks_of(sources, start=self.at, block_documents=block_documents)
        for block in made_ahead(blocks):
            self._add(encoder.encode(block, seen))
            tell(block.bytes_read, max(total, block.bytes_read))
        self._finish()

    def _add(self, block: EncodedBlock) -> None:
        while len(block):
            room = self.manifest.wording.shard_tokens - self.tally.tokens
            end = int(np.searchsorted(np.cumsum(block.lengths), room)) + 1
            self._take(block.part(0, min(end, len(block))))
            if end > len(block):
                return
            self._close_shard()
            block = block.part(end, len(block))

    def _take(self, block: EncodedBlock) -> None:
        is_kept = block.fates == Fate.KEPT
        self.ids.append(block.ids)
        self.lengths.append(block.lengths[is_kept])
        self.keys.append(block.keys[is_kept])
        self.dropped_keys.append(block.keys[block.is_first & ~is_kept])
        self.tally += block.tally()
        self.at = (block.source, int(block.places[-1]))

    def _close_shard(self) -> None:
        content = ShardContent(
            ids=self.ids,
            lengths=np.concatenate(self.lengths),
            keys=np.concatenate([*self.keys, *self.dropped_keys]),
        )
        number = len(self.manifest.shards)
        hashes = write_shard(self.folder, number, content, self.manifest.wording.dtype)
        source, place = self.at
        entry = ShardEntry(source=source, place=place, tally=self.tally, **hashes)
        self._write(replace(self.manifest, shards=(*self.manifest.shards, entry)))
        self.ids, self.lengths, self.keys, self.dropped_keys = [], [], [], []
        self.tally = Tally()

    def _finish(self) -> None:
        if self.tally.documents:
            self._close_shard()
        finished = replace(self.manifest, tail=self.tally, is_finished=True)
        if not finished.shards:
            raise DataError(
                f"no document can be kept of the {finished.total.read:,} that were read: "
                f"{_dropped(finished.total)}",
                where=", ".join(source.name for source in finished.sources),
            )
        self._write(finished)

    def _write(self, manifest: CorpusManifest) -> None:
        now = time.perf_counter()
        self.manifest = replace(manifest, seconds=manifest.seconds + now - self.began)
        self.began = now
        self.manifest.write(self.folder)

    def _keys_of_shards(self) -> Keys:
        keys = [load_keys(self.folder, number) for number in range(len(self.manifest.shards))]
        return np.sort(np.concatenate([*keys, np.zeros(0, dtype=np.uint64)]))


def _stored(folder: Path) -> CorpusManifest | None:
    """Return the manifest of an earlier call, or None for a folder that is free.

    What a killed call has left before its first manifest counts as free too.
    """
    stored = read_manifest(folder)
    if stored is None:
        leavings = (LOCK, *(path.name for path in leftovers(folder / FILE)))
        require_free(folder, but=leavings, flag="--corpus-folder")
    return stored


def _asked(
    sources: Sequence[Source],
    tokenizer: Tokenizer,
    settings: CorpusSettings,
    stored: CorpusManifest | None,
) -> tuple[CorpusManifest, list[CorpusSource]]:
    """Return what this call asks for, and its sources, at the revisions that were pinned."""
    if isinstance(sources, str | PathLike) or not sources:
        raise RecipeError("a corpus needs a list of sources", allowed="one or more files or names")
    known = stored.sources if stored is not None else ()
    streams = [CorpusSource(source, column=settings.column) for source in sources]
    entries = [
        _entry(stream, known[place] if place < len(known) else None)
        for place, stream in enumerate(streams)
    ]
    for stream, entry in zip(streams, entries, strict=True):
        stream.revision = entry.revision
    wording = Wording(
        tokenizer_sha256=tokenizer_hash(tokenizer),
        vocabulary_size=tokenizer.vocabulary_size,
        cls_id=tokenizer.cls_id,
        sep_id=tokenizer.sep_id,
        column=settings.column,
        shard_tokens=settings.shard_tokens,
        unknown_share=settings.unknown_share,
    )
    return CorpusManifest(wording=wording, sources=tuple(entries)), streams


def _entry(source: CorpusSource, known: SourceEntry | None) -> SourceEntry:
    """Describe a source; of one that is known by name, size and time the hash is taken over."""
    if source.kind == "hub":
        pinned = known.revision if known is not None and known.name == source.name else ""
        return SourceEntry(name=source.name, revision=pinned or hub_revision(source.source))
    path = Path(source.source)
    with opened(path):
        told = path.stat()
        entry = SourceEntry(name=source.name, size_bytes=told.st_size, modified_ns=told.st_mtime_ns)
        if known is not None and replace(known, sha256="") == entry:
            return known
        return replace(entry, sha256=sha256_of_file(path))


def _standing(stored: CorpusManifest, folder: Path) -> CorpusManifest:
    """Return what of the folder can be relied on: all, or its shards up to the first torn one."""
    torn = (
        number
        for number, entry in enumerate(stored.shards)
        if not _is_whole(folder, number, entry, stored.wording.dtype)
    )
    first = next(torn, None)
    return stored if first is None else without_shards(stored, first)


def _is_whole(folder: Path, number: int, entry: ShardEntry, dtype: str) -> bool:
    """Say whether a shard is what the manifest says; its files are read."""
    try:
        open_shard(folder, number, entry, dtype)
    except DataError:
        return False
    return torn_file(folder, number, entry) is None


def _remove_others(folder: Path, *, kept_shards: int) -> None:
    """Remove what a killed call has left of shards that the manifest does not name."""
    with told_in_one_line(folder):
        for path in leftovers(folder / FILE):
            path.unlink()
        for path in folder.iterdir():
            found = FILE_NAME.fullmatch(path.name)
            if found and (found[2] or int(found[1]) >= kept_shards):
                path.unlink()


def _dropped(tally: Tally) -> str:
    return (
        f"{tally.empty:,} empty, {tally.duplicates:,} repeated, "
        f"{tally.mostly_unknown:,} of mostly unknown tokens"
    )


def _say_nothing(done: int, total: int) -> None:
    del done, total
