"""A ragged batch laid into rows for an engine whose graph takes rectangles.

Short texts lie several in a row, in whatever order they came: that costs next to no padding without
sorting anything. Texts longer than such a row lie alone, beside others of like length.

Legend: B texts, N tokens, R rows, T slots of a row, F texts of a row at most.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.text.packing import pack
from potstill.text.ragged import RaggedBatch

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

_BUCKET = 8  # slots: rows come in multiples of this, so that an engine meets few shapes


@dataclass(frozen=True, slots=True)
class RowSize:
    """How much is computed at once."""

    row_tokens: int = 128  # T, of rows that hold several texts
    request_tokens: int = 512  # R * T, about, of one call of the engine
    in_order: bool = False  # fill row after row as texts come, not the longest first


@dataclass(frozen=True, slots=True, eq=False)
class PackedRows:
    """Some texts of a batch in R rows of T slots."""

    texts: Int64  # (b,) their numbers in the batch
    batch: RaggedBatch  # of these texts, in that order
    rows: int
    width: int
    row_of_text: Int64  # (b,)
    rank_of_text: Int64  # (b,) place among the texts of the row, from 0
    slots: Int64  # (n,) place of each token among the R * T

    def laid_out(self, values: NDArray[np.integer]) -> Int32:
        """Put a number of each token into its slot, 0 elsewhere, (n,) -> (R, T)."""
        slots = np.zeros(self.rows * self.width, dtype=np.int32)
        slots[self.slots] = values
        return slots.reshape(self.rows, self.width)

    def text_numbers(self) -> Int32:
        """Return the number of each slot's text in its row, from 1; 0: empty, (R, T)."""
        return self.laid_out(1 + self.rank_of_text[self.batch.text_index()])

    def firsts(self) -> Int32:
        """Return the slot in its row of each text's first token, (R, F); 0 where there is none."""
        firsts = np.zeros((self.rows, 1 + int(self.rank_of_text.max())), dtype=np.int32)
        starts = self.slots[self.batch.offsets[:-1]]
        firsts[self.row_of_text, self.rank_of_text] = starts - self.row_of_text * self.width
        return firsts


def packed_requests(batch: RaggedBatch, size: RowSize) -> Iterator[PackedRows]:
    """Lay a batch into rows, some at a time: what one call of an engine computes.

    The longest come first, so that what is too big for the memory fails at once.
    """
    lengths = batch.lengths.astype(np.int64)
    is_long = lengths > size.row_tokens
    yield from _one_a_row(batch, np.nonzero(is_long)[0], size)
    short = np.nonzero(~is_long)[0]
    if len(short):
        yield from _several_a_row(batch, short, size)


def _one_a_row(batch: RaggedBatch, texts: Int64, size: RowSize) -> Iterator[PackedRows]:
    lengths = batch.lengths.astype(np.int64)
    ordered = texts[np.argsort(-lengths[texts], kind="stable")]
    start = 0
    while start < len(ordered):
        width = _bucketed(int(lengths[ordered[start]]))
        end = start + max(1, size.request_tokens // width)
        chosen = ordered[start:end]
        rows = np.arange(len(chosen))
        yield _laid(batch, chosen, width, rows, np.zeros_like(rows))
        start = end


def _several_a_row(batch: RaggedBatch, texts: Int64, size: RowSize) -> Iterator[PackedRows]:
    lengths = batch.lengths.astype(np.int64)[texts]
    width = min(size.row_tokens, _bucketed(int(lengths.sum())))
    packing = pack(lengths, row_tokens=width, arrival_order=size.in_order)
    rows_at_once = max(1, size.request_tokens // width)
    by_row = np.lexsort((packing.start_of_text, packing.row_of_text))
    cuts = np.searchsorted(packing.row_of_text[by_row], range(0, packing.rows, rows_at_once))
    for number, chosen in enumerate(np.split(by_row, cuts[1:])):
        rows = packing.row_of_text[chosen] - number * rows_at_once
        yield _laid(batch, texts[chosen], width, rows, packing.start_of_text[chosen])


def _laid(
    batch: RaggedBatch, texts: Int64, width: int, row_of_text: Int64, start_of_text: Int64
) -> PackedRows:
    """Lay texts that come ordered by row and place."""
    taken = batch.take(texts)
    first_of_row = np.searchsorted(row_of_text, row_of_text)
    starts = row_of_text * width + start_of_text
    return PackedRows(
        texts=texts,
        batch=taken,
        rows=int(row_of_text[-1]) + 1,
        width=width,
        row_of_text=row_of_text,
        rank_of_text=np.arange(len(texts)) - first_of_row,
        slots=starts[taken.text_index()] + taken.positions(),
    )


def _bucketed(tokens: int) -> int:
    return -(-tokens // _BUCKET) * _BUCKET


def token_numbers(batch: RaggedBatch, texts: Sequence[int] | Int64) -> Int64:
    """Return where the tokens of some texts lie among the N of their batch, in their order."""
    numbered = RaggedBatch(np.arange(batch.total_tokens, dtype=np.int32), batch.offsets)
    return numbered.take(texts).ids.astype(np.int64)
