"""Texts in rows: each token in a slot of its own, found again where it came from."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from potstill.runtime.packed_rows import PackedRows, RowSize, packed_requests, token_numbers
from potstill.text.ragged import RaggedBatch

SIZE = RowSize(row_tokens=24, request_tokens=64)
LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=40)


def batch_of(lengths: list[int]) -> RaggedBatch:
    """Return texts whose ids are 1 to N, so that each token is known by its id."""
    ends = np.cumsum(lengths)
    rows = [
        range(1 + end - length, 1 + end) for length, end in zip(lengths, ends.tolist(), strict=True)
    ]
    return RaggedBatch.from_lists([list(row) for row in rows])


def requests_of(lengths: list[int]) -> tuple[RaggedBatch, list[PackedRows]]:
    batch = batch_of(lengths)
    return batch, list(packed_requests(batch, SIZE))


@given(LENGTHS)
def test_every_text_is_in_one_request(lengths: list[int]) -> None:
    _, requests = requests_of(lengths)
    texts = np.concatenate([rows.texts for rows in requests])
    assert sorted(texts.tolist()) == list(range(len(lengths)))


@given(LENGTHS)
def test_tokens_come_back_to_their_place(lengths: list[int]) -> None:
    batch, requests = requests_of(lengths)
    found = np.zeros(batch.total_tokens, dtype=np.int32)
    for rows in requests:
        laid = rows.laid_out(rows.batch.ids).reshape(-1)
        assert np.count_nonzero(laid) == rows.batch.total_tokens
        found[token_numbers(batch, rows.texts)] = laid[rows.slots]
    assert found.tolist() == batch.ids.tolist()


@given(LENGTHS)
def test_the_slots_of_a_text_are_told_by_its_number_and_begin_at_its_first(
    lengths: list[int],
) -> None:
    batch, requests = requests_of(lengths)
    for rows in requests:
        laid, numbers, firsts = rows.laid_out(rows.batch.ids), rows.text_numbers(), rows.firsts()
        for text, row, rank in zip(rows.texts, rows.row_of_text, rows.rank_of_text, strict=True):
            own = numbers[row] == rank + 1
            assert laid[row][own].tolist() == batch.text(text).tolist()
            assert laid[row, firsts[row, rank]] == batch.text(text)[0]


@given(LENGTHS)
def test_rows_are_no_wider_and_requests_no_larger_than_they_may_be(lengths: list[int]) -> None:
    _, requests = requests_of(lengths)
    for rows in requests:
        longest = rows.batch.longest
        assert rows.width % 8 == 0
        assert rows.width <= max(SIZE.row_tokens, longest + 7)
        assert rows.rows * rows.width <= max(SIZE.request_tokens, rows.width)


def test_a_short_text_alone_is_not_padded_to_a_whole_row() -> None:
    _, (rows,) = requests_of([5])
    assert (rows.rows, rows.width) == (1, 8)


def test_the_longest_come_first() -> None:
    _, requests = requests_of([3, 30, 3, 58, 25])
    assert [rows.batch.longest for rows in requests] == [58, 30, 3]
