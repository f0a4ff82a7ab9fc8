"""Embedding as a task: vectors of texts, cosines of pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.stats import spearmanr

from potstill.architectures.heads import HeadSpec
from potstill.data.rows import Rows
from potstill.errors import RecipeError
from potstill.metrics.metric import point
from potstill.tasks.embedding import Embedding, cosines
from potstill.tasks.task import Lengths
from potstill.text.tokenizer import Tokenizer
from potstill.text.tokenizer_files import load_tokenizer
from tests.tiny import write_tiny_tokenizer

LAWS = settings(deadline=None, max_examples=60)
TASK = Embedding()
VECTORS = arrays.arrays(np.float32, (5, 4), elements=st.floats(-8, 8, width=16))
PAIRS = Rows(
    {
        "text": ["a film", "the film is not very good", ""],
        "text_pair": ["a movie", "bad", "fun fun"],
        "label": [5.0, 0.0, 1.0],
    },
    "list",
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder: Path = tmp_path_factory.mktemp("words")
    write_tiny_tokenizer(folder)
    return load_tokenizer(folder, family="bert")


@LAWS
@given(VECTORS, VECTORS)
def test_a_cosine_is_the_product_of_vectors_of_length_one(
    one: np.ndarray, other: np.ndarray
) -> None:
    found = cosines(one, other)
    for row in range(5):
        lengths = np.linalg.norm(one[row]) * np.linalg.norm(other[row])
        expected = float(one[row].astype(np.float64) @ other[row]) / lengths if lengths else 0.0
        assert found[row] == pytest.approx(expected, abs=1e-6)
    assert found.dtype == np.float64
    np.testing.assert_allclose(cosines(other, one), found, atol=1e-12)
    np.testing.assert_allclose(cosines(4 * one, other), found, atol=1e-6)


def test_both_halves_of_a_pair_are_texts_of_their_own(tokenizer: Tokenizer) -> None:
    windows = TASK.windows(tokenizer, PAIRS, Lengths(max_length=6))
    texts = [*PAIRS.column("text"), *PAIRS.column("text_pair")]
    alone = tokenizer.encode(texts, max_length=6)
    assert windows.texts.ids.tolist() == alone.batch.ids.tolist()
    assert windows.texts.offsets.tolist() == alone.batch.offsets.tolist()
    assert windows.texts.token_types is None
    assert windows.rows.tolist() == [0, 1, 2, 0, 1, 2]
    assert windows.row_count == 3
    assert windows.truncated.tolist() == [False, True, False]
    assert windows.dropped_tokens == 2


def test_a_pair_s_answer_is_the_cosine_of_its_own_two_vectors(tokenizer: Tokenizer) -> None:
    windows = TASK.windows(tokenizer, PAIRS, Lengths(max_length=6))
    vectors = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    found = TASK.answers(vectors, windows, PAIRS)
    for row in range(3):
        assert found[row] == cosines(vectors[[row]], vectors[[row + 3]])[0]
    items = TASK.items(found, PAIRS, windows.truncated)
    assert [list(item) for item in items] == [["score", "truncated"]] * 3
    assert items[1]["score"] == found[1]


def test_texts_have_their_vectors(tokenizer: Tokenizer) -> None:
    rows = Rows({"text": ["a film", ""]}, "list")
    windows = TASK.windows(tokenizer, rows, Lengths(max_length=6))
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    answers = TASK.answers(vectors, windows, rows)
    assert answers is vectors
    items = TASK.items(answers, rows, windows.truncated)
    assert items == [
        {"embedding": [0.0, 1.0, 2.0], "truncated": False},
        {"embedding": [3.0, 4.0, 5.0], "truncated": False},
    ]


def test_only_a_teacher_says_where_a_vector_lies(tokenizer: Tokenizer) -> None:
    windows = TASK.windows(tokenizer, PAIRS, Lengths(max_length=6))
    targets = TASK.targets(PAIRS, windows)
    assert len(targets) == len(windows.texts)
    assert np.isnan(targets).all()


def test_pairs_are_judged_by_the_order_of_their_cosines() -> None:
    answers, gold = np.array([0.9, 0.1, 0.4, 0.5]), np.array([5.0, 0.0, 3.0, 2.0])
    metric = TASK.metric(TASK.primary(has_gold=True))
    expected = spearmanr(answers, gold).statistic
    assert point(metric, TASK.statistics(metric, answers, gold)) == pytest.approx(expected)
    assert TASK.right(answers, gold).tolist() == [True, True, False, False]
    other = answers + np.array([0.04, -0.04, 0.06, 0.0])
    assert TASK.same(answers, other).tolist() == [True, True, False, True]


@LAWS
@given(VECTORS, VECTORS)
def test_without_numbers_vectors_are_held_against_the_teacher_s(
    ours: np.ndarray, theirs: np.ndarray
) -> None:
    metric = TASK.metric(TASK.primary(has_gold=False))
    found = point(metric, TASK.statistics(metric, ours, TASK.as_gold(theirs)))
    assert found == pytest.approx(cosines(ours, theirs).mean(), abs=1e-6)


def test_who_learned_nothing_has_one_vector_for_all() -> None:
    gold = np.array([1.0, 2.0, 4.0])
    answers, name = TASK.trivial(gold)
    assert name == "one vector for all"
    metric = TASK.metric("spearman")
    assert point(metric, TASK.statistics(metric, answers, gold)) == 0.0


def test_the_head_is_the_model_s_own() -> None:
    spec = HeadSpec(kind="embedding", pooling="first", normalize=True, width=8)
    assert Embedding(spec).head("mean") is spec


def test_an_unknown_metric_is_told_with_those_there_are() -> None:
    with pytest.raises(RecipeError, match="primary is 'f1'; allowed: spearman, pearson, cosine"):
        TASK.metric("f1")
