"""Long texts in windows: overlapping parts that a model can take, each with its special tokens.

A window is made of the row's first special tokens (and, of a pair, its first text), a part of the
text that may be long, and the tokens after it. Nothing is tokenized twice: windows are places in
rows that were encoded whole.

Legend: B rows, W windows, N tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.errors import RecipeError
from potstill.text.encoded import Encoded
from potstill.text.ragged import Int32, RaggedBatch, offsets_of

Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Rows as the texts that a model is given; a row has one window or more.

    What is None was not asked for.
    """

    texts: RaggedBatch  # W windows
    rows: Int64  # (W,) the row of each window, rising
    row_count: int
    truncated: NDArray[np.bool_]  # (row_count,) rows of which tokens were left out
    dropped_tokens: int = 0  # of all rows
    spans: Int32 | None = None  # (N, 2) from, to: characters of the text or word; special: 0, 0
    segments: Int32 | None = None  # (N,) 0 the text, 1 its pair; special: -1
    words: Int32 | None = None  # (N,) place of the word in its row; special: -1
    begins_word: NDArray[np.bool_] | None = None  # (N,) the first token of its word

    @property
    def token_rows(self) -> Int64:
        """Return the row of each token, (N,)."""
        return np.asarray(self.rows[self.texts.text_index()])

    @property
    def context(self) -> Int64:
        """Return how far each token is from the nearer end of its window, (N,)."""
        lengths = np.repeat(self.texts.lengths, self.texts.lengths)
        places = self.texts.positions()
        return np.asarray(np.minimum(places, lengths - 1 - places), dtype=np.int64)


def whole_rows(encoded: Encoded) -> Windows:
    """Return encoded rows as they are, one window each; what was cut off stays cut."""
    rows = len(encoded.batch)
    return Windows(
        texts=encoded.batch,
        rows=np.arange(rows, dtype=np.int64),
        row_count=rows,
        truncated=encoded.truncated,
        dropped_tokens=int(encoded.dropped_tokens.sum()),
        spans=encoded.offsets,
        segments=encoded.sequence_index,
        words=encoded.word_index,
        begins_word=_word_beginnings(encoded),
    )


def cut_into_windows(
    encoded: Encoded,
    *,
    max_length: int,
    overlap: int,
    are_pairs: bool = False,
    max_first: int | None = None,
) -> Windows:
    """Cut rows that were encoded whole into windows of at most `max_length` tokens.

    Args:
        encoded: with its columns `offsets`, so that special tokens are known.
        max_length: tokens of a window, special ones included.
        overlap: tokens of the long text that two neighbours share.
        are_pairs: the second text is the long one; the first stands whole in every window.
        max_first: tokens kept of a pair's first text; None: all.

    Raises:
        RecipeError: `max_length` leaves no more room than the overlap takes.
    """
    assert encoded.sequence_index is not None, "windows need to know the special tokens"
    batch = encoded.batch
    places: list[Int64] = []
    row_of: list[int] = []
    lost = np.zeros(len(batch), dtype=np.int64)
    for row in range(len(batch)):
        start, end = int(batch.offsets[row]), int(batch.offsets[row + 1])
        segments = encoded.sequence_index[start:end]
        before, body, after = _parts(segments, 1 if are_pairs else 0, max_first)
        room = max_length - len(before) - len(after)
        if len(body) > room and room <= overlap:
            raise RecipeError(
                f"a window of {max_length} tokens has room for {max(room, 0)} of the long text, "
                f"and two windows share {overlap}",
                allowed="an overlap below the room",
                # Four times what is missing: the first text and the overlap may grow with it.
                cure=f"--max-length {max_length + 4 * (overlap + 1 - room)}, or a smaller overlap",
            )
        lost[row] = (end - start) - len(before) - len(body) - len(after)
        for part in _steps(len(body), room, overlap):
            places.append(start + np.concatenate([before, body[part], after]))
            row_of.append(row)
    source = np.concatenate(places) if places else np.zeros(0, dtype=np.int64)
    begins = _word_beginnings(encoded)  # of whole rows: a window may begin in the midst of a word

    def column(values: Int32 | None) -> Int32 | None:
        return None if values is None else values[source]

    return Windows(
        texts=RaggedBatch(
            batch.ids[source], offsets_of([len(part) for part in places]), column(batch.token_types)
        ),
        rows=np.asarray(row_of, dtype=np.int64),
        row_count=len(batch),
        truncated=lost > 0,
        dropped_tokens=int(lost.sum()),
        spans=column(encoded.offsets),
        segments=column(encoded.sequence_index),
        words=column(encoded.word_index),
        begins_word=None if begins is None else begins[source],
    )


def _word_beginnings(encoded: Encoded) -> NDArray[np.bool_] | None:
    words = encoded.word_index
    if words is None:
        return None
    before = np.concatenate([[-1], words[:-1]])
    return np.asarray((words >= 0) & ((words != before) | (encoded.batch.positions() == 0)))


def _parts(segments: Int32, long_one: int, max_first: int | None) -> tuple[Int64, Int64, Int64]:
    """Return the places before the long text, of it and after it."""
    body = np.flatnonzero(segments == long_one)
    # Where the long text has no token at all, it would stand before the last special one.
    split = int(body[0]) if len(body) else max(len(segments) - 1, 0)
    after_start = int(body[-1]) + 1 if len(body) else split
    before = np.arange(split)
    if max_first is not None and long_one == 1:
        first = np.flatnonzero(segments[:split] == 0)
        before = np.setdiff1d(before, first[max_first:])
    return before, body, np.arange(after_start, len(segments))


def _steps(tokens: int, room: int, overlap: int) -> list[slice]:
    """Return the parts of a long text; the last one ends with it, at full width."""
    if tokens <= room:
        return [slice(0, tokens)]
    starts = list(range(0, tokens - room, room - overlap))
    return [slice(start, start + room) for start in [*starts, tokens - room]]
