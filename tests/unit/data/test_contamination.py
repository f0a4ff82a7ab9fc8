"""Contamination: the fast search finds what a slow twin finds, in every shard, and keeps it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.data import contamination
from potstill.data.contamination import Contamination, find_contamination
from potstill.data.corpus_rows import cut_rows
from potstill.data.rows import Rows
from potstill.errors import DataError
from potstill.text.tokenizer_files import load_tokenizer
from tests.corpora import built, sentence, tiny_tokenizer, write_text

# stretches of one long text, alone or two of them joined: they meet often, and often just miss
stretches = st.tuples(st.integers(0, 30), st.integers(1, 20)).map(
    lambda stretch: sentence(*[place * place % 41 for place in range(stretch[0], sum(stretch))])
)
few_words = st.lists(stretches, min_size=1, max_size=2).map(" ".join)


def slow_twin(documents: list[str], texts: list[str]) -> list[int]:
    """Compare every window of every text with every document."""
    windows = set()
    for text in texts:
        words = text.split()
        length = min(len(words), 13)
        if length >= 8:
            windows |= {
                tuple(words[start : start + length]) for start in range(len(words) - length + 1)
            }
    return [
        number
        for number, document in enumerate(documents)
        if any(
            tuple(document.split()[start : start + length]) in windows
            for length in range(8, 14)
            for start in range(len(document.split()) - length + 1)
        )
    ]


def found_in(corpus, *texts: str) -> Contamination:
    return find_contamination(corpus, [[{"text": text} for text in texts]], tiny_tokenizer())


@settings(deadline=None, max_examples=60)
@given(
    st.lists(few_words, min_size=1, max_size=8, unique=True),
    st.lists(few_words, min_size=1, max_size=5),
    st.integers(1, 60),
    st.integers(1, 30),
)
def test_the_fast_search_finds_what_the_slow_twin_finds(
    tmp_path_factory, documents, texts, shard_tokens, stretch
):
    folder = tmp_path_factory.mktemp("corpus")
    source = write_text(folder / "a.txt", documents)
    corpus = built(folder / "corpus", source, shard_tokens=shard_tokens)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contamination, "_STRETCH_TOKENS", stretch)
        found = found_in(corpus, *texts)
    expected = slow_twin(documents, texts)
    assert list(found.documents) == expected
    assert found.tokens == sum(len(documents[number].split()) for number in expected)
    assert found.evaluation_texts == len(set(texts))
    assert found.short_texts == sum(len(text.split()) < 8 for text in set(texts))


@pytest.fixture
def corpus(tmp_path):
    """Return a corpus of four documents; the second and third meet in a run of 13 words."""
    texts = [
        sentence(*range(20)),
        sentence(*range(20, 40)),
        sentence(*range(40, 57), *range(20)),
        sentence(5, 7, 9, 11, 13, 15, 17, 19, 21),
    ]
    return built(tmp_path / "corpus", write_text(tmp_path / "a.txt", texts), shard_tokens=30)


def test_thirteen_words_in_a_row_are_enough_and_twelve_are_not(corpus):
    assert found_in(corpus, sentence(0, 0, *range(22, 35), 1)).documents == (1,)
    assert found_in(corpus, sentence(0, 0, *range(22, 34), 1)).documents == ()


@pytest.mark.parametrize("stretch", [1, 12, 13, 14])
def test_a_run_over_the_border_of_two_stretches_is_found(corpus, monkeypatch, stretch):
    monkeypatch.setattr(contamination, "_STRETCH_TOKENS", stretch)
    assert found_in(corpus, sentence(*range(22, 35))).documents == (1,)


def test_a_short_text_is_found_whole_and_only_whole(corpus):
    assert found_in(corpus, sentence(*range(30, 38))).documents == (1,)
    assert found_in(corpus, sentence(*range(30, 38), 1)).documents == ()
    assert found_in(corpus, sentence(*range(30, 37))) == Contamination(
        documents=(), evaluation_texts=1, short_texts=1, tokens=0
    )


def test_a_run_over_the_border_of_two_documents_is_none(corpus):
    assert found_in(corpus, sentence(*range(12, 28))).documents == ()


def test_case_and_blanks_make_no_difference_for_an_uncased_tokenizer(corpus):
    assert found_in(corpus, sentence(*range(20, 40)).upper().replace(" ", "\t")).documents == (1,)


def test_all_columns_of_texts_count(corpus, tmp_path):
    one, two, three = (sentence(*range(start, start + 14)) for start in (1, 21, 42))
    pairs = Rows({"text": ["good"], "text_pair": [one], "label": [two], "score": [1.0]}, "list")
    assert find_contamination(corpus, [pairs], tiny_tokenizer()).documents == (0, 2)
    tagged = Rows({"tokens": [two.split()], "tags": [three.split()]}, "list")
    assert find_contamination(corpus, [tagged], tiny_tokenizer()).documents == (1,)
    both = find_contamination(corpus, [pairs, tagged], tiny_tokenizer())
    assert (both.documents, both.evaluation_texts) == ((0, 1, 2), 3)
    with pytest.raises(DataError, match=r"no column of texts \(the columns are: label\)"):
        find_contamination(corpus, [[{"label": one}]], tiny_tokenizer())


def test_contexts_and_questions_of_squad_count(corpus, tmp_path):
    question = {"id": "1", "question": sentence(*range(20, 34)), "answers": []}
    paragraph = {"context": sentence(5, 7, 9, 11, 13, 15, 17, 19, 21), "qas": [question]}
    file = tmp_path / "dev.json"
    file.write_text(json.dumps({"data": [{"paragraphs": [paragraph]}]}))
    found = find_contamination(corpus, [file], tiny_tokenizer())
    assert (found.documents, found.evaluation_texts) == ((1, 3), 2)


def test_what_was_found_is_kept_for_the_same_files_alone(corpus, tmp_path, monkeypatch):
    file = tmp_path / "dev.jsonl"
    file.write_text(json.dumps({"text": sentence(*range(20, 40))}) + "\n")
    told = []
    first = find_contamination(
        corpus, [file], tiny_tokenizer(), tell=lambda *moment: told.append(moment)
    )
    assert told[-1] == (corpus.total_tokens, corpus.total_tokens)
    assert len(told) == len(corpus.shards)
    with monkeypatch.context() as patch:
        patch.setattr(contamination, "contaminated_documents", None)
        assert find_contamination(corpus, [file], tiny_tokenizer()) == first
    file.write_text(json.dumps({"text": sentence(*range(20))}) + "\n")
    assert find_contamination(corpus, [file], tiny_tokenizer()).documents == (0, 2)
    assert len(list(corpus.folder.glob("contamination-*.json"))) == 2


TOLD = b'{"schema": 1, "evaluation_texts": 1, "short_texts": 0, "tokens": 9, "documents": ['


@pytest.mark.parametrize(
    "torn",
    [
        *(b"", b"[]", b'{"schema": 1}', b'{"schema": 9, "documents": []}'),
        *(TOLD + b'"x"]}', TOLD + b"99]}", TOLD + b"-1]}", TOLD + b"true]}"),
        TOLD.replace(b"0", b'"x"') + b"]}",
    ],
)
def test_a_torn_result_is_found_again(corpus, torn):
    before = found_in(corpus, sentence(*range(20)))
    (file,) = corpus.folder.glob("contamination-*.json")
    content = file.read_bytes()
    file.write_bytes(torn)
    assert found_in(corpus, sentence(*range(20))) == before
    assert file.read_bytes() == content


@pytest.mark.parametrize("fault", [errno.EROFS, errno.ENOSPC])
def test_where_nothing_can_be_kept_it_is_found_all_the_same(corpus, fault, monkeypatch):
    replace = Path.replace

    def refused(path, target):
        if target.parent == corpus.folder:
            raise OSError(fault, os.strerror(fault))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", refused)
    assert found_in(corpus, sentence(*range(20))).documents == (0, 2)
    assert found_in(corpus, sentence(*range(20))).documents == (0, 2)
    assert not list(corpus.folder.glob("contamination-*"))


def test_a_hash_that_meets_by_chance_is_no_hit(corpus, monkeypatch):
    monkeypatch.setattr(
        contamination, "_random_hashes", lambda count: np.ones(count, dtype=np.uint64)
    )
    assert found_in(corpus, sentence(*[3] * 13)).documents == ()


def test_rows_can_be_made_without_the_contaminated_documents(corpus):
    found = found_in(corpus, sentence(*range(20)))
    assert found.documents == (0, 2)
    rows = cut_rows(corpus, max_length=12, shortest=1, without=np.array(found.documents))
    assert set(rows.document_R.tolist()) == {1, 3}


def test_another_tokenizer_is_refused(corpus, tmp_path):
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ngood\n")
    other = load_tokenizer(tmp_path / "words", family="bert")
    with pytest.raises(DataError, match="made by another tokenizer"):
        find_contamination(corpus, [[{"text": "good"}]], other)
