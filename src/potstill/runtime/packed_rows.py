"""A ragged batch cut into calls of an engine, and each call laid into rows for attention.

A call holds tokens end to end, so that padding costs next to nothing there; only attention needs
rectangles. Short texts lie several in a row, long ones alone.

Legend: B texts and N tokens of a batch, b and n of a call, R rows, T slots of a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.text.packing import pack
from potstill.text.ragged import RaggedBatch

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

BUCKET = 8  # tokens come in multiples of this, so that an engine meets few shapes
ROW_BUCKET = 16  # slots of a row: attention in bf16 is slower at other widths


@dataclass(frozen=True, slots=True)
class RowSize:
    """How much is computed at once."""

    row_tokens: int = 48  # T; a call with a longer text has rows of its length
    request_tokens: int = 1_536  # n, about, of one call of the engine
    in_order: bool = False  # each call takes the texts that came next; else those of like length


@dataclass(frozen=True, slots=True, eq=False)
class PackedRows:
    """One call: some texts of a batch, and R rows of T slots where attention has them."""

    texts: Int64  # (b,) their numbers in the batch
    batch: RaggedBatch  # of these texts, in that order
    rows: int
    width: int
    slots: Int64  # (n,) place of each token among the R * T

    def laid_out(self, values: NDArray[np.integer]) -> Int32:
        """Put a number of each token into its slot, 0 elsewhere, (n,) -> (R, T)."""
        slots = np.zeros(self.rows * self.width, dtype=np.int32)
        slots[self.slots] = values
        return slots.reshape(self.rows, self.width)


def packed_requests(batch: RaggedBatch, size: RowSize, *, streams: int = 1) -> Iterator[PackedRows]:
    """Cut a batch into calls of about the same number of tokens.

    The longest texts come first, so that what is too big for the memory fails at once.

    Args:
        batch: texts of at least one token each.
        size: of rows and calls.
        streams: calls that are computed at the same time, among which work is shared out evenly.
    """
    if len(batch) == 1:
        yield _alone(batch)
        return
    lengths = batch.lengths.astype(np.int64)
    order = np.arange(len(batch)) if size.in_order else np.argsort(-lengths, kind="stable")
    for texts in np.split(order, _cuts(lengths[order], size.request_tokens, streams)):
        yield _laid(batch, texts, size.row_tokens)


def _cuts(lengths: Int64, tokens: int, streams: int) -> Int64:
    """Return before which texts a call begins; no call is more than one text above `tokens`."""
    total = int(lengths.sum())
    calls = -(-total // tokens)
    calls = min(-(-calls // streams) * streams, len(lengths))
    ends = np.cumsum(lengths)
    cuts = np.searchsorted(ends, np.arange(1, calls) * (total / calls))
    return np.unique(np.clip(cuts, 1, max(len(lengths) - 1, 1)))[: len(lengths) - 1]


def _alone(text: RaggedBatch) -> PackedRows:
    """Return the call of one text, which somebody waits for: what is known is not computed."""
    return PackedRows(
        texts=np.zeros(1, dtype=np.int64),
        batch=text,
        rows=1,
        width=bucketed(text.total_tokens, ROW_BUCKET),
        slots=np.arange(text.total_tokens),
    )


def _laid(batch: RaggedBatch, texts: Int64, row_tokens: int) -> PackedRows:
    taken = batch.take(texts)
    width = max(row_tokens, taken.longest)
    packing = pack(taken.lengths, row_tokens=min(bucketed(width), bucketed(taken.total_tokens)))
    width = bucketed(packing.row_tokens, ROW_BUCKET)
    starts = packing.row_of_text * width + packing.start_of_text
    return PackedRows(
        texts=texts,
        batch=taken,
        rows=packing.rows,
        width=width,
        slots=starts[taken.text_index()] + taken.positions(),
    )


def bucketed(tokens: int, bucket: int = BUCKET) -> int:
    """Return the next size of those that are met."""
    return -(-tokens // bucket) * bucket
