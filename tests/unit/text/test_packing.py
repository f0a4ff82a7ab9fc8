"""Laws of packing: each text whole, in one row, none on top of another."""

from __future__ import annotations

import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from potstill.text.packing import pack

lengths_of_texts = st.lists(st.integers(1, 40), max_size=60).map(np.array)


@given(lengths_of_texts, st.integers(1, 50), st.booleans())
def test_every_token_has_a_slot_of_its_own(lengths, row_tokens, arrival):
    packing = pack(lengths, row_tokens=row_tokens, arrival_order=arrival)
    slots = packing.slots()
    assert slots.size == lengths.sum()
    assert np.unique(slots).size == slots.size
    assert ((slots >= 0) & (slots < packing.rows * packing.row_tokens)).all()


@given(lengths_of_texts, st.integers(1, 50), st.booleans())
def test_a_text_lies_whole_in_one_row(lengths, row_tokens, arrival):
    packing = pack(lengths, row_tokens=row_tokens, arrival_order=arrival)
    slots = packing.slots()
    ends = np.cumsum(lengths)
    for text, (end, length) in enumerate(zip(ends, lengths, strict=True)):
        mine = slots[end - length : end]
        assert (np.diff(mine) == 1).all()
        assert set(mine // packing.row_tokens) == {packing.row_of_text[text]}
        assert mine[0] % packing.row_tokens == packing.start_of_text[text]


@given(lengths_of_texts, st.integers(1, 50), st.booleans())
def test_no_row_is_empty_or_wider_than_the_fullest(lengths, row_tokens, arrival):
    packing = pack(lengths, row_tokens=row_tokens, arrival_order=arrival)
    filled = np.bincount(packing.row_of_text, weights=lengths, minlength=packing.rows)
    assert filled.size == packing.rows
    assert (filled > 0).all()
    assert packing.row_tokens == filled.max(initial=0)
    assert packing.row_tokens <= max(row_tokens, lengths.max(initial=0))


@given(lengths_of_texts.filter(len), st.integers(1, 50), st.booleans())
def test_two_rows_would_never_fit_into_one(lengths, row_tokens, arrival):
    """Best fit: any two rows; next fit: any two neighbours."""
    packing = pack(lengths, row_tokens=row_tokens, arrival_order=arrival)
    filled = np.bincount(packing.row_of_text, weights=lengths)
    widest = max(row_tokens, lengths.max())
    pairs = filled[:-1] + filled[1:] if arrival else np.sort(filled)[:-1] + np.sort(filled)[1:]
    assert (pairs > widest).all()


@given(lengths_of_texts, st.integers(1, 50))
def test_arrival_order_is_kept(lengths, row_tokens):
    packing = pack(lengths, row_tokens=row_tokens, arrival_order=True)
    assert (np.diff(packing.slots()) > 0).all()


def test_a_text_longer_than_a_row_widens_the_rows_and_the_room_is_used():
    packing = pack(np.array([3, 10, 4, 6]), row_tokens=5)
    assert packing.row_tokens == 10
    assert packing.rows == 3
    assert packing.row_of_text.tolist() == [2, 0, 1, 1]


def test_ten_thousand_texts_are_packed_in_a_blink():
    lengths = np.random.default_rng(0).lognormal(3.4, 0.7, 10_000).astype(int).clip(2, 512)
    started = time.process_time()
    packing = pack(lengths, row_tokens=512)
    assert time.process_time() - started < 0.1
    assert lengths.sum() / (packing.rows * packing.row_tokens) > 0.99
