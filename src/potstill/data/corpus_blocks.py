"""From documents to blocks of ids: read ahead in a thread, deduplicated, tokenized in parallel.

Legend: D documents of a block, N tokens of them together. What becomes of a document depends on
the documents before it alone, never on where a block ends.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from potstill.data.corpus_files import CorpusSource, Document
from potstill.data.corpus_manifest import Tally
from potstill.data.corpus_shards import Int64, Keys
from potstill.data.text_keys import normalized
from potstill.errors import ModelError
from potstill.text.ragged import Int32
from potstill.text.tokenizer import Tokenizer

T = TypeVar("T")

FRAME = 2  # special tokens of a row: one before it, one behind it
_SETTLED_EVERY = 1 << 20  # keys that are held in a set before they go into the sorted array
_BLOCK_CHARACTERS = 1 << 22  # a block ends behind them too: documents may be whole books


class Fate(IntEnum):
    """What became of a document."""

    KEPT = 0
    EMPTY = 1
    DUPLICATE = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class Block:
    """Some documents of one source, as they were read."""

    source: int  # place in the list of sources
    places: list[int]  # (D,) line or row of each
    texts: list[str]  # (D,)
    keys: Keys  # (D,) hashes of the normalized texts
    bytes_read: int  # of all sources, when the block was full


@dataclass(frozen=True, slots=True)
class EncodedBlock:
    """The same documents as ids; those that are not kept have none."""

    source: int
    places: Int64  # (D,)
    fates: NDArray[np.uint8]  # (D,) values of Fate
    lengths: Int64  # (D,) tokens, 0 where it is not kept
    unknown: Int64  # (D,) unknown tokens, 0 where it is not kept
    characters: Int64  # (D,)
    keys: Keys  # (D,)
    is_first: NDArray[np.bool_]  # (D,) the text is not blank and was not seen before
    ids: Int32  # (N,)

    def __len__(self) -> int:
        """Return the number of documents."""
        return int(self.places.size)

    def part(self, start: int, end: int) -> EncodedBlock:
        """Return the documents from `start` to before `end`."""
        ends = np.cumsum(self.lengths)
        first, last = (int(ends[place - 1]) if place else 0 for place in (start, end))
        rows = slice(start, end)
        return EncodedBlock(
            source=self.source,
            places=self.places[rows],
            fates=self.fates[rows],
            lengths=self.lengths[rows],
            unknown=self.unknown[rows],
            characters=self.characters[rows],
            keys=self.keys[rows],
            is_first=self.is_first[rows],
            ids=self.ids[first:last],
        )

    def tally(self) -> Tally:
        """Count what became of the documents."""
        counts = np.bincount(self.fates, minlength=len(Fate))
        return Tally(
            read=len(self),
            empty=int(counts[Fate.EMPTY]),
            duplicates=int(counts[Fate.DUPLICATE]),
            mostly_unknown=int(counts[Fate.UNKNOWN]),
            documents=int(counts[Fate.KEPT]),
            tokens=int(self.lengths.sum()),
            unknown_tokens=int(self.unknown.sum()),
            characters=int(self.characters[self.fates == Fate.KEPT].sum()),
        )


@dataclass(slots=True)
class SeenTexts:
    """Hashes of all texts so far: 8 bytes each, and some more for the last million.

    Two texts of one hash would count as one: at 100 million documents the chance of any such pair
    is 1 in 3,700.
    """

    settled: Keys  # sorted
    _fresh: set[int] = field(default_factory=set)

    def note(self, keys: Keys) -> NDArray[np.bool_]:
        """Say which keys are new, (D,), in their order, and remember them."""
        places = np.searchsorted(self.settled, keys)
        inside = places < self.settled.size
        known = np.zeros(keys.size, dtype=np.bool_)
        known[inside] = self.settled[places[inside]] == keys[inside]
        is_new = ~known
        for index in np.flatnonzero(is_new):
            key = int(keys[index])
            is_new[index] = key not in self._fresh
            self._fresh.add(key)
        if len(self._fresh) >= _SETTLED_EVERY:
            self._settle()
        return is_new

    def _settle(self) -> None:
        fresh = np.fromiter(self._fresh, dtype=np.uint64, count=len(self._fresh))
        self.settled = np.sort(np.concatenate([self.settled, fresh]), kind="stable")
        self._fresh.clear()


@dataclass(frozen=True, slots=True)
class Encoder:
    """Turns blocks of texts into blocks of ids, without the special tokens around."""

    tokenizer: Tokenizer
    unknown_share: float  # documents of at least this share of unknown tokens are dropped
    unk_id: int  # -1: there is none

    @classmethod
    def of(cls, tokenizer: Tokenizer, unknown_share: float) -> Encoder:
        """Make one; a tokenizer that knows all bytes may have no unknown token."""
        try:
            return cls(tokenizer, unknown_share, tokenizer.unk_id)
        except ModelError:
            return cls(tokenizer, unknown_share, -1)

    def encode(self, block: Block, seen: SeenTexts) -> EncodedBlock:
        """Say what becomes of each document, and give the ids of those that are kept."""
        fates = np.full(len(block.texts), Fate.DUPLICATE, dtype=np.uint8)
        characters = np.array([len(text) for text in block.texts], dtype=np.int64)
        is_first = block.keys != _BLANK
        fates[~is_first] = Fate.EMPTY
        is_first[is_first] = seen.note(block.keys[is_first])
        rows = np.flatnonzero(is_first)

        ids, lengths = ids_of(self.tokenizer, [block.texts[row] for row in rows])
        of_text = np.repeat(np.arange(rows.size), lengths)
        unknown = np.bincount(of_text, weights=ids == self.unk_id, minlength=rows.size)
        fate = np.where(unknown >= self.unknown_share * lengths, Fate.UNKNOWN, Fate.KEPT)
        fates[rows] = np.where(lengths == 0, Fate.EMPTY, fate)

        is_kept = fates[rows] == Fate.KEPT
        block_lengths, block_unknown = (np.zeros(fates.size, dtype=np.int64) for _ in range(2))
        block_lengths[rows[is_kept]] = lengths[is_kept]
        block_unknown[rows[is_kept]] = unknown[is_kept]
        return EncodedBlock(
            source=block.source,
            places=np.array(block.places, dtype=np.int64),
            fates=fates,
            lengths=block_lengths,
            unknown=block_unknown,
            characters=characters,
            keys=block.keys,
            is_first=is_first,
            ids=ids[np.repeat(is_kept, lengths)],
        )


def ids_of(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[Int32, Int64]:
    """Return the ids of texts end to end, (N,), and the tokens of each, (D,); no special ones.

    Raises:
        ModelError: the tokenizer puts more than two special tokens around a text.
    """
    if not texts:
        return np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int64)
    frame = tokenizer.encode([""]).batch.total_tokens
    if frame != FRAME:
        raise ModelError(
            f"the tokenizer puts {frame} special tokens around a text",
            allowed="one before it and one behind it, as BERT and RoBERTa have them",
        )
    batch = tokenizer.encode(texts).batch
    firsts, lasts = batch.offsets[:-1], batch.offsets[1:] - 1
    is_inner = np.ones(batch.ids.size, dtype=np.bool_)
    is_inner[firsts] = is_inner[lasts] = False
    return batch.ids[is_inner], batch.lengths.astype(np.int64) - FRAME


def blocks_of(
    sources: Sequence[CorpusSource], *, start: tuple[int, int], block_documents: int
) -> Generator[Block]:
    """Yield the documents of all sources in blocks.

    Args:
        sources: in the order of the corpus.
        start: source and line or row behind which to begin.
        block_documents: documents of a block at most.

    Raises:
        DataError: a source cannot be read; file and line are named.
    """
    first, place = start
    bytes_before = sum(source.size_bytes for source in sources[:first])
    for number, source in enumerate(sources[first:], start=first):
        documents = source.documents(after=place if number == first else 0)
        while gathered := _gathered(documents, block_documents):
            yield Block(
                source=number,
                places=[document.place for document in gathered],
                texts=[document.text for document in gathered],
                keys=np.array([key_of(document.text) for document in gathered], dtype=np.uint64),
                bytes_read=bytes_before + source.bytes_read,
            )
        bytes_before += source.bytes_read


def key_of(text: str) -> int:
    """Return the hash under which a text is known: 64 bits of its normalized form."""
    digest = hashlib.blake2b(normalized(text).encode(), digest_size=8).digest()
    return int(struct.unpack("<Q", digest)[0])


_BLANK = np.uint64(key_of(""))


def _gathered(documents: Iterator[Document], count: int) -> list[Document]:
    gathered: list[Document] = []
    characters = 0
    for document in documents:
        gathered.append(document)
        characters += len(document.text)
        if len(gathered) >= count or characters >= _BLOCK_CHARACTERS:
            break
    return gathered
