"""Rows of a corpus: every token once, no row over a border of documents, splits by document."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.data.corpus_rows import cut_rows
from potstill.errors import RecipeError
from tests.corpora import built, sentence, sentences, tiny_tokenizer, write_text
from tests.tiny import WORDS

CLS, SEP = WORDS.index("[CLS]"), WORDS.index("[SEP]")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Return a corpus of documents of 4 to 60 tokens, in many shards."""
    folder = tmp_path_factory.mktemp("rows")
    texts = [
        sentence(*range(number, number + 1 + number * 13 % 57), number) + f" {sentence(number)}"
        for number in range(50)
    ]
    return built(folder / "corpus", write_text(folder / "a.txt", texts), shard_tokens=100)


def slow_twin(corpus, max_length, shortest, without=()):
    """Cut one document after another; return (document, ids) of each row and what was too short."""
    rows, short = [], []
    for number in range(corpus.documents):
        ids = corpus.document(number).tolist()
        for start in range(0, len(ids), max_length - 2):
            piece = ids[start : start + max_length - 2]
            if number in without:
                continue
            (rows if len(piece) >= shortest else short).append((number, piece))
    return rows, short


@settings(deadline=None)
@given(st.integers(3, 70), st.integers(1, 20), st.sets(st.integers(0, 40)))
def test_rows_are_the_pieces_of_the_documents(corpus, max_length, shortest, without):
    rows, short = slow_twin(corpus, max_length, shortest, without)
    if max_length - 2 < shortest or not rows:
        with pytest.raises(RecipeError):
            cut_rows(corpus, max_length=max_length, shortest=shortest, without=np.array([*without]))
        return
    left_out = np.array(sorted(without), dtype=np.int64)
    cut = cut_rows(corpus, max_length=max_length, shortest=shortest, without=left_out)
    assert list(zip(cut.document_R.tolist(), pieces(cut), strict=True)) == rows
    assert (cut.short_pieces, cut.short_tokens) == (len(short), sum(len(ids) for _, ids in short))
    assert cut.lengths.tolist() == [len(ids) + 2 for _, ids in rows]
    assert cut.lengths.max() <= max_length


def pieces(rows):
    """Return the ids of all rows, asked for in one batch, without the special tokens."""
    batch = rows.batch(range(len(rows)))
    texts = [batch.text(index).tolist() for index in range(len(batch))]
    assert all((text[0], text[-1]) == (CLS, SEP) for text in texts)
    return [text[1:-1] for text in texts]


def test_every_kept_token_stands_in_one_row(corpus):
    rows = cut_rows(corpus, max_length=9, shortest=3)
    stand = np.concatenate(pieces(rows)).size
    assert stand + rows.short_tokens == corpus.total_tokens
    everything = cut_rows(corpus, max_length=9, shortest=1)
    ids = [corpus.document(number) for number in range(corpus.documents)]
    assert np.concatenate(pieces(everything)).tolist() == np.concatenate(ids).tolist()


@given(st.lists(st.integers(0, 200), max_size=20))
def test_a_batch_is_its_rows_one_by_one(corpus, indices):
    rows = cut_rows(corpus, max_length=9, shortest=3)
    indices = [index % len(rows) for index in indices]
    batch = rows.batch(indices)
    assert batch.ids.dtype == np.int32
    singles = [rows.batch([index]).ids.tolist() for index in indices]
    assert [batch.text(index).tolist() for index in range(len(batch))] == singles
    taken = rows.take(indices)
    assert taken.batch(range(len(indices))).ids.tolist() == batch.ids.tolist()


def test_rows_are_what_the_tokenizer_gives(tmp_path):
    texts = sentences(5)
    corpus = built(tmp_path / "corpus", write_text(tmp_path / "a.txt", texts))
    batch = cut_rows(corpus, max_length=40).batch(range(5))
    expected = tiny_tokenizer().encode(texts).batch
    assert batch.ids.tolist() == expected.ids.tolist()
    assert batch.offsets.tolist() == expected.offsets.tolist()


@given(st.integers(0, 2**63 - 1), st.integers(1, 40), st.integers(5, 40))
def test_no_document_is_on_both_sides(corpus, seed, count, max_length):
    rows = cut_rows(corpus, max_length=max_length, shortest=3)
    train, held_out = rows.split(held_out_documents=count, seed=seed)
    sides = [set(side.document_R.tolist()) for side in (train, held_out)]
    assert sides[0] & sides[1] == set()
    assert sides[0] | sides[1] == set(rows.document_R.tolist())
    assert len(train) + len(held_out) == len(rows)
    assert held_out.documents == count


def test_a_split_follows_from_seed_and_texts_alone(tmp_path):
    texts = sentences(60)
    one = built(tmp_path / "one", write_text(tmp_path / "a.txt", texts))
    other = built(tmp_path / "other", write_text(tmp_path / "b.txt", texts[::-1]), shard_tokens=99)

    def held_out(corpus, max_length, seed):
        rows = cut_rows(corpus, max_length=max_length, shortest=3)
        side = rows.split(held_out_share=0.25, seed=seed)[1]
        return {corpus.document(number).tobytes() for number in side.document_R}

    assert held_out(one, 30, seed=1) == held_out(other, 12, seed=1)
    assert held_out(one, 30, seed=1) != held_out(one, 30, seed=2)
    assert len(held_out(one, 30, seed=1)) == 15


@given(st.integers(0, 2**63 - 1), st.integers(1, 2_000))
def test_a_budget_of_tokens_takes_rows_of_all_documents_in_turn(corpus, seed, tokens):
    rows = cut_rows(corpus, max_length=7, shortest=3)
    some = rows.at_most(tokens, seed=seed)
    assert some.lengths.sum() <= tokens or len(some) == 1
    places = list(zip(rows.document_R, rows.start_R, strict=True))
    taken = list(zip(some.document_R, some.start_R, strict=True))
    assert taken == [place for place in places if place in set(taken)]  # in the order of the corpus
    if len(some) < len(rows):
        assert some.lengths.sum() + rows.lengths.max() > tokens
    of_document = np.bincount(some.document_R, minlength=corpus.documents)
    has_more = np.bincount(rows.document_R, minlength=corpus.documents) > of_document
    assert not has_more.any() or of_document[has_more].min() >= of_document.max() - 1


def test_what_a_budget_takes_follows_from_seed_and_texts_alone(tmp_path):
    texts = sentences(40, words=60)
    one = built(tmp_path / "one", write_text(tmp_path / "a.txt", texts))
    other = built(tmp_path / "other", write_text(tmp_path / "b.txt", texts[::-1]), shard_tokens=99)

    def taken(corpus, seed):
        some = cut_rows(corpus, max_length=14).at_most(500, seed=seed)
        return {tuple(some.batch([row]).ids.tolist()) for row in range(len(some))}

    assert taken(one, seed=1) == taken(other, seed=1)
    assert taken(one, seed=1) != taken(one, seed=2)


def test_a_small_share_holds_out_one_document(corpus):
    rows = cut_rows(corpus, max_length=30, shortest=3)
    assert rows.split(held_out_share=1e-9, seed=0)[1].documents == 1


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, "allowed: one of the two"),
        ({"held_out_share": 0.1, "held_out_documents": 1}, "allowed: one of the two"),
        ({"held_out_share": 0.0}, "above 0 and below 1"),
        ({"held_out_share": 1.0}, "above 0 and below 1"),
        ({"held_out_documents": 0}, "at least one"),
        ({"held_out_documents": 50}, "at least one to train on"),
    ],
)
def test_a_split_that_leaves_a_side_empty_is_refused(corpus, asked, told):
    rows = cut_rows(corpus, max_length=62, shortest=1)
    with pytest.raises(RecipeError, match=told):
        rows.split(**asked, seed=0)


def test_rows_too_short_for_any_piece_are_refused(corpus):
    with pytest.raises(RecipeError, match="max_length is 13 and the shortest piece 12"):
        cut_rows(corpus, max_length=13)
    with pytest.raises(RecipeError, match="no document has a piece of 100 tokens"):
        cut_rows(corpus, max_length=200, shortest=100)
