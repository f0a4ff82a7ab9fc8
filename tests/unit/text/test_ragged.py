"""Laws of the ragged batch: what goes in comes out, in whatever order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from potstill.text.ragged import RaggedBatch, concatenate

rows_of_ids = st.lists(st.lists(st.integers(0, 99), max_size=7), max_size=8)


@given(rows_of_ids)
def test_lists_come_back_as_they_went_in(rows):
    batch = RaggedBatch.from_lists(rows)
    assert as_lists(batch) == rows
    assert batch.lengths.tolist() == [len(row) for row in rows]
    assert batch.longest == max(map(len, rows), default=0)
    assert batch.total_tokens == sum(map(len, rows))


@given(rows_of_ids.filter(len), st.data())
def test_taking_texts_takes_their_tokens_and_types(rows, data):
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=10))
    batch = RaggedBatch.from_lists(rows, [[value % 2 for value in row] for row in rows])
    taken = batch.take(chosen)
    assert as_lists(taken) == [rows[index] for index in chosen]
    assert taken.token_types is not None
    np.testing.assert_array_equal(taken.token_types, taken.ids % 2)


@given(rows_of_ids)
def test_each_token_knows_its_text_and_place(rows):
    batch = RaggedBatch.from_lists(rows)
    places = [(text, place) for text, row in enumerate(rows) for place in range(len(row))]
    assert list(zip(batch.text_index(), batch.positions(), strict=True)) == places


@given(st.lists(rows_of_ids, max_size=4))
def test_joined_batches_hold_all_texts_in_order(batches):
    joined = concatenate([RaggedBatch.from_lists(rows) for rows in batches])
    assert as_lists(joined) == [row for rows in batches for row in rows]
    assert joined.token_types is None


def test_joining_fills_missing_token_types_with_zero():
    joined = concatenate([RaggedBatch.from_lists([[5]]), RaggedBatch.from_lists([[6]], [[1]])])
    assert joined.token_types is not None
    assert joined.token_types.tolist() == [0, 1]


def as_lists(batch: RaggedBatch) -> list[list[int]]:
    return [batch.text(index).tolist() for index in range(len(batch))]
