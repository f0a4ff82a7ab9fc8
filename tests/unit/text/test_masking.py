"""Laws of masking: each text its share, specials never, words whole, rare words more often."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import RecipeError
from potstill.text.masking import Masking, MaskingShares, masking_for
from potstill.text.ragged import RaggedBatch
from potstill.text.tokenizer import Tokenizer

WORDS = 40  # of a vocabulary whose first five tokens are special
MASK = 4
TEXTS = st.lists(
    st.lists(st.integers(0, WORDS - 1), min_size=1, max_size=30), min_size=1, max_size=8
)


def masking(counts: np.ndarray | None = None, **shares: object) -> Masking:
    is_maskable = np.arange(WORDS) >= 5
    continues = np.arange(WORDS) % 3 == 0
    chosen = MaskingShares(**shares)
    weights = np.zeros(WORDS) if counts is None else -chosen.smoothing * np.log(counts)
    return Masking(chosen, MASK, is_maskable, continues & is_maskable, weights)


@given(texts=TEXTS, share=st.floats(0.05, 0.9), whole=st.booleans(), seed=st.integers(0, 99))
def test_every_text_gives_its_share_and_never_a_special_token(texts, share, whole, seed) -> None:
    batch = RaggedBatch.from_lists(texts)
    how = masking(chosen=share, whole_words=whole)
    places = how.chosen(batch, np.random.default_rng(seed))
    assert np.all(np.diff(places) > 0)
    assert np.all(batch.ids[places] >= 5)
    for text in range(len(batch)):
        maskable = int((batch.text(text) >= 5).sum())
        inside = (places >= batch.offsets[text]) & (places < batch.offsets[text + 1])
        chosen = int(inside.sum())
        if not maskable:
            assert chosen == 0
        elif whole:
            assert min(max(1, np.floor(share * maskable)), maskable) <= chosen <= maskable
        else:
            assert max(1, np.floor(share * maskable)) <= chosen
            assert chosen <= max(1, np.ceil(share * maskable))


@given(texts=TEXTS, seed=st.integers(0, 99))
def test_words_are_chosen_whole(texts, seed) -> None:
    batch = RaggedBatch.from_lists(texts)
    how = masking(chosen=0.4, whole_words=True)
    is_chosen = np.zeros(batch.total_tokens, dtype=bool)
    is_chosen[how.chosen(batch, np.random.default_rng(seed))] = True
    for place in range(1, batch.total_tokens):
        goes_on = batch.ids[place] >= 5 and batch.ids[place] % 3 == 0
        follows_word = batch.ids[place - 1] >= 5 and place not in batch.offsets
        if goes_on and follows_word:
            assert is_chosen[place] == is_chosen[place - 1]


@given(texts=TEXTS, seed=st.integers(0, 99))
def test_what_is_shown_differs_only_where_it_must_be_guessed(texts, seed) -> None:
    batch = RaggedBatch.from_lists(texts)
    found = masking(chosen=0.5).masked(batch, np.random.default_rng(seed))
    rest = np.setdiff1d(np.arange(batch.total_tokens), found.places)
    assert np.array_equal(found.texts.ids[rest], batch.ids[rest])
    assert np.array_equal(found.targets, batch.ids[found.places])
    shown = found.texts.ids[found.places]
    assert np.all((shown == MASK) | (shown >= 5))
    again = masking(chosen=0.5).masked(batch, np.random.default_rng(seed))
    assert np.array_equal(again.texts.ids, found.texts.ids)


def test_eight_of_ten_are_hidden_one_is_replaced_one_is_kept() -> None:
    rng = np.random.default_rng(0)
    batch = RaggedBatch.from_lists([rng.integers(5, WORDS, 200) for _ in range(200)])
    found = masking().masked(batch, rng)
    count = len(found.places)
    assert count / batch.total_tokens == pytest.approx(0.15, abs=0.002)
    shown = found.texts.ids[found.places]
    assert (shown == MASK).sum() / count == pytest.approx(0.8, abs=0.02)
    # A random token is the old one by chance once in 35 times.
    kept = 0.1 + 0.1 / (WORDS - 5)
    assert (shown == found.targets).sum() / count == pytest.approx(kept, abs=0.015)


def test_a_token_is_chosen_in_proportion_to_its_count_to_the_minus_seven_tenths() -> None:
    counts = np.where(np.arange(WORDS) % 2 == 0, 100.0, 1.0)
    how = masking(counts, chosen=0.02, smoothing=0.7)
    batch = RaggedBatch.from_lists([[6, 7] * 25] * 4000)  # half frequent, half rare; one is drawn
    chosen = batch.ids[how.chosen(batch, np.random.default_rng(0))]
    odds = (chosen == 7).sum() / (chosen == 6).sum()
    assert odds == pytest.approx(100**0.7, rel=0.2)


def test_the_vocabulary_tells_what_goes_on_with_a_word(bert: Tokenizer, roberta: Tokenizer) -> None:
    def going_on(tokenizer: Tokenizer, text: str) -> list[str]:
        ids = tokenizer.encode([text]).batch.ids
        continues = tokenizer.continues_word()
        return [tokenizer.id_to_token(each) for each in ids if continues[each]]

    assert going_on(bert, "helloing, a world") == ["##ing"]
    assert going_on(roberta, "he, we") == ["he", "e"]  # the first by the start of the text alone


def test_a_text_of_bert_hides_words_and_not_its_frame(bert: Tokenizer) -> None:
    counts = np.ones(bert.vocabulary_size, dtype=np.int64)
    how = masking_for(bert, MaskingShares(chosen=0.9, smoothing=0.7), counts)
    batch = bert.encode(["hello world", "a b c d e f"]).batch
    found = how.masked(batch, np.random.default_rng(0))
    assert bert.mask_id in found.texts.ids
    frame = [*batch.offsets[:-1], *(batch.offsets[1:] - 1)]
    assert not np.isin(frame, found.places).any()


def test_nothing_to_hide_is_no_fault() -> None:
    batch = RaggedBatch.from_lists([[0, 1], [2]])
    found = masking(whole_words=True).masked(batch, np.random.default_rng(0))
    assert len(found.places) == 0


@pytest.mark.parametrize(
    ("shares", "complaint"),
    [
        ({"chosen": 0.0}, "mask_share is 0"),
        ({"chosen": 1.0}, "mask_share is 1"),
        ({"hidden": 0.9, "random": 0.2}, "mask_hidden is 0.9 and mask_random 0.2"),
        ({"chosen": math.nan}, "mask_share is nan"),
        ({"hidden": math.nan}, "mask_hidden is nan; allowed: at least 0 and at most 1"),
        ({"random": math.nan}, "mask_random is nan; allowed: at least 0 and at most 1"),
        ({"hidden": math.inf}, "mask_hidden is inf"),
    ],
)
def test_shares_that_cannot_be_are_refused(shares: dict[str, float], complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint):
        MaskingShares(**shares)


def test_smoothing_without_counts_is_refused(bert: Tokenizer) -> None:
    with pytest.raises(RecipeError, match="counts of a corpus"):
        masking_for(bert, MaskingShares(smoothing=0.7))
