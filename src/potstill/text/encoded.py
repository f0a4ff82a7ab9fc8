"""What comes out of a tokenizer: the columns of a batch, cut to a length, the loss counted.

Legend: B texts, N tokens of all texts together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from potstill.text.ragged import Int32, RaggedBatch, concatenate, offsets_of

# Texts that are held as objects of the Rust library at a time: about 100 bytes a token there.
_CHUNK = 2048


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Several texts as tokens, and what became of them.

    What is None was not asked for.
    """

    batch: RaggedBatch
    dropped_tokens: Int32  # (B,) tokens that max_length cut off
    offsets: Int32 | None = None  # (N, 2) from, to: characters of the text or word; special: 0, 0
    sequence_index: Int32 | None = None  # (N,) 0 the text, 1 its pair; special: -1
    word_index: Int32 | None = None  # (N,) place of the word in its row; special: -1

    @property
    def truncated(self) -> NDArray[np.bool_]:
        """Return which texts lost tokens, (B,)."""
        return self.dropped_tokens > 0

    @property
    def is_special(self) -> NDArray[np.bool_] | None:
        """Return which tokens the tokenizer put around the texts, (N,)."""
        return None if self.sequence_index is None else self.sequence_index < 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which columns a call asks for, and how long a row may be."""

    token_types: bool
    words: bool
    offsets: bool
    max_length: int | None  # tokens, special ones included; more than the special ones
    cut_left: bool


def encode(backend: tokenizers.Tokenizer, inputs: Sequence[Any], wanted: Wanted) -> Encoded:
    """Run the Rust tokenizer over `inputs`, whose form it defines, and lay out what was wanted.

    Truncation happens here and not in the library, whose setting is one for all threads.
    """
    # the fast way knows neither offsets nor words
    exact = wanted.offsets or wanted.words
    run = backend.encode_batch if exact else backend.encode_batch_fast
    chunks = [
        _laid_out(run(inputs[start : start + _CHUNK], is_pretokenized=wanted.words), wanted)
        for start in range(0, max(len(inputs), 1), _CHUNK)
    ]
    return chunks[0] if len(chunks) == 1 else _joined(chunks)


def _laid_out(encodings: Sequence[tokenizers.Encoding], wanted: Wanted) -> Encoded:
    rows = [encoding.ids for encoding in encodings]
    offsets = offsets_of([len(row) for row in rows])
    longest = max(map(len, rows), default=0)
    is_cut = wanted.max_length is not None and longest > wanted.max_length

    whole = Encoded(
        RaggedBatch(_flat(rows), offsets, _column(encodings, "type_ids", made=wanted.token_types)),
        dropped_tokens=np.zeros(len(rows), dtype=np.int32),
        offsets=_spans(encodings) if wanted.offsets else None,
        sequence_index=_column(encodings, "sequence_ids", made=is_cut or wanted.offsets),
        word_index=_column(encodings, "word_ids", made=wanted.words),
    )
    if is_cut:
        whole = _cut(whole, wanted)
    return whole if wanted.offsets else replace(whole, sequence_index=None)


def _joined(chunks: Sequence[Encoded]) -> Encoded:
    def column(name: str) -> Any:
        parts = [getattr(chunk, name) for chunk in chunks]
        return None if parts[0] is None else np.concatenate(parts)

    return Encoded(
        concatenate([chunk.batch for chunk in chunks]),
        dropped_tokens=column("dropped_tokens"),
        offsets=column("offsets"),
        sequence_index=column("sequence_index"),
        word_index=column("word_index"),
    )


def _flat(rows: Iterable[Iterable[int]]) -> Int32:
    return np.fromiter(chain.from_iterable(rows), dtype=np.int32)


def _column(encodings: Sequence[tokenizers.Encoding], name: str, *, made: bool) -> Int32 | None:
    """Lay one column of the library end to end; its None, for special tokens, becomes -1."""
    if not made:
        return None
    values = chain.from_iterable(getattr(encoding, name) for encoding in encodings)
    return np.fromiter((-1 if value is None else value for value in values), dtype=np.int32)


def _spans(encodings: Sequence[tokenizers.Encoding]) -> Int32:
    spans = chain.from_iterable(encoding.offsets for encoding in encodings)
    return _flat(spans).reshape(-1, 2)


def _cut(whole: Encoded, wanted: Wanted) -> Encoded:
    """Take tokens off the rows that are too long, as transformers' `truncation=True` does."""
    keep_N = _kept_tokens(whole, wanted)
    batch = whole.batch
    lengths = np.bincount(batch.text_index()[keep_N], minlength=len(batch))

    def column(values: Int32 | None) -> Int32 | None:
        return None if values is None else values[keep_N]

    return Encoded(
        RaggedBatch(batch.ids[keep_N], offsets_of(lengths), column(batch.token_types)),
        dropped_tokens=(batch.lengths - lengths).astype(np.int32),
        offsets=column(whole.offsets),
        sequence_index=column(whole.sequence_index),
        word_index=column(whole.word_index),
    )


def _kept_tokens(whole: Encoded, wanted: Wanted) -> NDArray[np.bool_]:
    assert whole.sequence_index is not None
    assert wanted.max_length is not None
    rows_N, sequence_N = whole.batch.text_index(), whole.sequence_index
    keep_N = sequence_N < 0
    special_B = np.bincount(rows_N[keep_N], minlength=len(whole.batch))
    members = [np.flatnonzero(sequence_N == sequence) for sequence in (0, 1)]
    counts = [np.bincount(rows_N[indices], minlength=len(whole.batch)) for indices in members]

    room = _longest_first(counts[0], counts[1], wanted.max_length - special_B)
    for indices, count_B, room_B in zip(members, counts, room, strict=True):
        starts = np.cumsum(count_B) - count_B
        place = np.arange(indices.size) - np.repeat(starts, count_B)
        if wanted.cut_left:
            keep_N[indices] = place >= np.repeat(count_B - room_B, count_B)
        else:
            keep_N[indices] = place < np.repeat(room_B, count_B)
    return keep_N


def _longest_first(
    first_B: NDArray[np.int64], second_B: NDArray[np.int64], budget_B: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Share the budget: the longer text pays first; if that is not enough, both get half.

    The odd token goes to the longer text, and to the second of two equal ones.
    """
    short_B = np.minimum(first_B, second_B)
    long_room_B = np.maximum(short_B, budget_B - short_B)
    halved_B = short_B + long_room_B > budget_B
    short_room_B = np.where(halved_B, budget_B // 2, short_B)
    long_room_B = np.where(halved_B, budget_B - budget_B // 2, long_room_B)
    first_is_long_B = first_B > second_B
    return (
        np.where(first_is_long_B, long_room_B, short_room_B),
        np.where(first_is_long_B, short_room_B, long_room_B),
    )
