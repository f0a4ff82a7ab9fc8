"""Packing: several texts in one row, each whole, none overlapping.

Legend: B texts, N tokens of all texts together, R rows, T tokens of a row.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.text.batching import cut_by_sum

Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Packing:
    """Where each text lies."""

    lengths: Int64  # (B,)
    row_of_text: Int64  # (B,)
    start_of_text: Int64  # (B,) place of its first token in the row
    rows: int  # R
    row_tokens: int  # T; tokens of the fullest row

    def slots(self) -> Int64:
        """Return each token's place among the R * T slots, (N,), in the order of the texts."""
        starts = self.row_of_text * self.row_tokens + self.start_of_text
        before = np.cumsum(self.lengths) - self.lengths
        return np.repeat(starts - before, self.lengths) + np.arange(self.lengths.sum())


def pack(lengths: NDArray[np.integer], *, row_tokens: int, arrival_order: bool = False) -> Packing:
    """Put texts into rows of at most `row_tokens`.

    If a text is longer than that, all rows may grow to its length: they are one array, so the
    room is there, and is used.

    Args:
        lengths: tokens of each text, at least one.
        row_tokens: the widest a row may be.
        arrival_order: fill row after row in the order given (next fit); else the longest first,
            each where the least room is left (best fit decreasing).
    """
    assert row_tokens >= 1, "a row without a slot: this is a bug"
    sizes = np.asarray(lengths, dtype=np.int64)
    assert sizes.min(initial=1) >= 1, "a text without a token has no place: this is a bug"
    widest = max(row_tokens, int(sizes.max(initial=0)))
    place = _next_fit if arrival_order else _best_fit_decreasing
    row_of_text, start_of_text = place(sizes, widest)
    return Packing(
        lengths=sizes,
        row_of_text=row_of_text,
        start_of_text=start_of_text,
        rows=int(row_of_text.max(initial=-1)) + 1,
        row_tokens=int((start_of_text + sizes).max(initial=0)),
    )


def _next_fit(sizes: Int64, widest: int) -> tuple[Int64, Int64]:
    ends = np.asarray(cut_by_sum(sizes, widest), dtype=np.int64)
    texts_of_row = np.diff(ends, prepend=0)
    before = np.cumsum(sizes) - sizes
    first_of_row = ends - texts_of_row
    row_of_text = np.repeat(np.arange(ends.size), texts_of_row)
    return row_of_text, before - np.repeat(before[first_of_row], texts_of_row)


def _best_fit_decreasing(sizes: Int64, widest: int) -> tuple[Int64, Int64]:
    row_of_text, start_of_text = np.zeros_like(sizes), np.zeros_like(sizes)
    room: list[tuple[int, int]] = []  # (free slots, row) of each row, in rising order
    for text in np.argsort(-sizes, kind="stable").tolist():
        size = int(sizes[text])
        place = bisect_left(room, (size, -1))
        free, row = room.pop(place) if place < len(room) else (widest, len(room))
        row_of_text[text], start_of_text[text] = row, widest - free
        insort(room, (free - size, row))
    return row_of_text, start_of_text
