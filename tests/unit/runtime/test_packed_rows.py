"""Texts in rows: each token in a slot of its own, found again where it came from."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from potstill.runtime.packed_rows import PackedRows, RowSize, packed_requests
from potstill.text.ragged import RaggedBatch, tokens_of

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
        found[tokens_of(rows.texts, batch.offsets)] = laid[rows.slots]
    assert found.tolist() == batch.ids.tolist()


@given(LENGTHS)
def test_a_text_lies_whole_in_one_row(lengths: list[int]) -> None:
    _, requests = requests_of(lengths)
    for rows in requests:
        laid = rows.laid_out(rows.batch.ids)
        for text in range(len(rows.batch)):
            start, end = rows.batch.offsets[text : text + 2]
            row, first = divmod(int(rows.slots[start]), rows.width)
            found = laid[row, first : first + int(end - start)]
            assert found.tolist() == rows.batch.text(text).tolist()


@given(LENGTHS, st.integers(1, 4))
def test_calls_are_shared_out_evenly_and_no_larger_than_they_may_be(
    lengths: list[int], streams: int
) -> None:
    requests = list(packed_requests(batch_of(lengths), SIZE, streams=streams))
    tokens = [rows.batch.total_tokens for rows in requests]
    assert max(tokens) <= SIZE.request_tokens + max(lengths)
    assert max(tokens) <= sum(lengths) / len(requests) + 2 * max(lengths)


@given(LENGTHS)
def test_rows_are_as_wide_as_their_longest_text_needs(lengths: list[int]) -> None:
    _, requests = requests_of(lengths)
    for rows in requests:
        assert rows.width % 16 == 0
        assert rows.width < max(SIZE.row_tokens, rows.batch.longest) + 16


@given(LENGTHS)
def test_in_order_no_text_overtakes_those_of_an_earlier_call(lengths: list[int]) -> None:
    size = RowSize(row_tokens=24, request_tokens=64, in_order=True)
    requests = list(packed_requests(batch_of(lengths), size))
    assert np.concatenate([rows.texts for rows in requests]).tolist() == list(range(len(lengths)))


def test_a_short_text_alone_is_not_padded_to_a_usual_row() -> None:
    _, (rows,) = requests_of([5])
    assert (rows.rows, rows.width) == (1, 16)


def test_the_longest_come_first() -> None:
    _, requests = requests_of([3, 30, 3, 58, 25])
    assert [rows.batch.longest for rows in requests] == [58, 30]
