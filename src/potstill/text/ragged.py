"""The currency of the project: several texts as flat token ids and offsets, without padding.

Legend: B texts, N tokens of all texts together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class RaggedBatch:
    """Texts laid end to end; each engine pads, packs or passes them on as suits it.

    Text b holds the tokens `ids[offsets[b]:offsets[b + 1]]`.
    """

    ids: Int32  # (N,) token ids, special tokens included
    offsets: Int32  # (B + 1,) starts at 0, never falls, ends at N
    token_types: Int32 | None = None  # (N,) 0 first segment, 1 second; None: all 0

    def __post_init__(self) -> None:
        """Hold the law of the type; a breach is a bug of ours."""
        assert self.offsets.ndim == 1, "offsets are one-dimensional"
        assert self.offsets.size >= 1, "offsets hold at least the leading 0"
        assert self.offsets[0] == 0, "offsets start at 0"
        assert self.offsets[-1] == self.ids.size, "offsets end at N"
        assert self.token_types is None or self.token_types.shape == self.ids.shape

    @classmethod
    def from_lists(
        cls,
        texts: Iterable[Sequence[int]],
        token_types: Iterable[Sequence[int]] | None = None,
    ) -> RaggedBatch:
        """Lay lists of ids end to end."""
        rows = [np.asarray(text, dtype=np.int32) for text in texts]
        types = None
        if token_types is not None:
            types = _join([np.asarray(row, dtype=np.int32) for row in token_types])
        return cls(_join(rows), offsets_of([row.size for row in rows]), types)

    @property
    def lengths(self) -> Int32:
        """Return the tokens of each text, (B,)."""
        return self.offsets[1:] - self.offsets[:-1]

    @property
    def total_tokens(self) -> int:
        """Return N."""
        return int(self.offsets[-1])

    @property
    def longest(self) -> int:
        """Return the tokens of the longest text, 0 for an empty batch."""
        return int(self.lengths.max()) if len(self) else 0

    def __len__(self) -> int:
        """Return the number of texts."""
        return int(self.offsets.size - 1)

    def text(self, index: int) -> Int32:
        """Return the ids of one text."""
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    def take(self, indices: Sequence[int] | NDArray[np.integer]) -> RaggedBatch:
        """Return the chosen texts, in the order given."""
        chosen = np.asarray(indices, dtype=np.int64)
        places = tokens_of(chosen, self.offsets)
        types = None if self.token_types is None else self.token_types[places]
        return RaggedBatch(self.ids[places], offsets_of(self.lengths[chosen]), types)

    def positions(self) -> Int32:
        """Return each token's place inside its text, (N,), counted from 0."""
        starts = np.repeat(self.offsets[:-1], self.lengths)
        return np.arange(self.total_tokens, dtype=np.int32) - starts.astype(np.int32)

    def text_index(self) -> Int32:
        """Return for each token the number of its text, (N,)."""
        return np.repeat(np.arange(len(self), dtype=np.int32), self.lengths)


def concatenate(batches: Sequence[RaggedBatch]) -> RaggedBatch:
    """Join batches one after another; token types are kept if any batch has them."""
    lengths = [length for batch in batches for length in batch.lengths]
    types = None
    if any(batch.token_types is not None for batch in batches):
        types = _join(
            [
                np.zeros_like(batch.ids) if batch.token_types is None else batch.token_types
                for batch in batches
            ]
        )
    return RaggedBatch(_join([batch.ids for batch in batches]), offsets_of(lengths), types)


def tokens_of(texts: Sequence[int] | NDArray[np.integer], offsets: NDArray[np.integer]) -> Int64:
    """Return the places of the tokens of some texts, text by text."""
    chosen = np.asarray(texts, dtype=np.int64)
    starts, ends = (part[chosen].astype(np.int64) for part in (offsets[:-1], offsets[1:]))
    return stretches(starts, ends - starts)


def stretches(starts: Int64, lengths: Int64) -> Int64:
    """Return the places starts[i], starts[i] + 1, ... of each stretch, one after another."""
    before = np.cumsum(lengths) - lengths
    places: Int64 = np.repeat(starts - before, lengths)
    places += np.arange(places.size)
    return places


def offsets_of(lengths: Sequence[int] | NDArray[np.integer]) -> Int32:
    """Return the running sum of lengths with a leading 0, (B + 1,)."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    assert offsets[-1] < 2**31, "a batch holds fewer than 2^31 tokens: this is a bug"
    return offsets.astype(np.int32)


def _join(rows: Sequence[Int32]) -> Int32:
    return np.concatenate(rows) if rows else np.zeros(0, dtype=np.int32)
