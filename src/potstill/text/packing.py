"""Packing: several texts in one row, each whole, none overlapping.

Legend: B texts, N tokens, R rows, T tokens of a row.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Packing:
    """Where each text lies."""

    lengths: Int64  # (B,)
    row_of_text: Int64  # (B,)
    start_of_text: Int64  # (B,) place of its first token in the row
    rows: int  # R
    row_tokens: int  # T; the longest text, where that is wider than what was asked

    def slots(self) -> Int64:
        """Return each token's place among the R * T slots, (N,), in the order of the texts."""
        starts = self.row_of_text * self.row_tokens + self.start_of_text
        ends = np.cumsum(self.lengths)
        inside = np.arange(int(self.lengths.sum())) - np.repeat(ends - self.lengths, self.lengths)
        return np.repeat(starts, self.lengths) + inside

    @property
    def fill_share(self) -> float:
        """Return real tokens / slots."""
        slots = self.rows * self.row_tokens
        return float(self.lengths.sum() / slots) if slots else 1.0


def pack(lengths: NDArray[np.integer], *, row_tokens: int, arrival_order: bool = False) -> Packing:
    """Put texts into rows of `row_tokens`; rows grow if a text is longer than that.

    Args:
        lengths: tokens of each text.
        row_tokens: width of a row.
        arrival_order: fill row after row in the order given (next fit), as a server must; else
            the longest first, each where it fits tightest (best fit decreasing).
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    width = max(row_tokens, int(sizes.max(initial=0)))
    place = _next_fit if arrival_order else _best_fit_decreasing
    row_of_text, start_of_text, rows = place(sizes, width)
    return Packing(sizes, row_of_text, start_of_text, rows, width)


def _next_fit(sizes: Int64, width: int) -> tuple[Int64, Int64, int]:
    row_of_text, start_of_text = np.zeros_like(sizes), np.zeros_like(sizes)
    row, used = 0, 0
    for text, size in enumerate(sizes.tolist()):
        if used + size > width:
            row, used = row + 1, 0
        row_of_text[text], start_of_text[text] = row, used
        used += size
    return row_of_text, start_of_text, row + 1 if len(sizes) else 0


def _best_fit_decreasing(sizes: Int64, width: int) -> tuple[Int64, Int64, int]:
    row_of_text, start_of_text = np.zeros_like(sizes), np.zeros_like(sizes)
    room: list[tuple[int, int]] = []  # (free tokens, row), sorted
    rows = 0
    for text in np.argsort(-sizes, kind="stable").tolist():
        size = int(sizes[text])
        at = bisect_left(room, (size, -1))
        if at < len(room):
            free, row = room.pop(at)
        else:
            free, row = width, rows
            rows += 1
        row_of_text[text], start_of_text[text] = row, width - free
        insort(room, (free - size, row))
    return row_of_text, start_of_text, rows
