"""Exact search finds what a full sort finds, whatever the chunks, the ties and the company."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from potstill.errors import DataError, RecipeError, ShapeError
from potstill.search import exact
from potstill.search.exact import nearest


def by_full_sort(
    queries_QD: NDArray, documents_KD: NDArray, top: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Sort all documents of each query by score, the lower number first where scores are equal."""
    scores_QK = queries_QD.astype(np.float64) @ documents_KD.astype(np.float64).T
    scores_QK = scores_QK.astype(np.float32) + np.float32(0)
    numbers_QK = np.argsort(-scores_QK, axis=1, kind="stable")[:, :top]
    return numbers_QK, np.take_along_axis(scores_QK, numbers_QK, axis=1)


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@given(
    queries=st.integers(0, 5),
    documents=st.integers(0, 40),
    dimensions=st.integers(1, 4),
    top=st.integers(1, 45),
    documents_at_once=st.integers(1, 41),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=200)
def test_it_finds_what_a_full_sort_finds_though_most_scores_are_equal(
    queries: int, documents: int, dimensions: int, top: int, documents_at_once: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    queries_QD = rng.integers(-1, 2, (queries, dimensions)).astype(np.float32)
    documents_KD = rng.integers(-1, 2, (documents, dimensions)).astype(np.float32)
    numbers, scores = nearest(
        queries_QD, documents_KD, top=top, documents_at_once=documents_at_once
    )
    expected_numbers, expected_scores = by_full_sort(queries_QD, documents_KD, top)
    assert (numbers.dtype, scores.dtype) == (np.int64, np.float32)
    np.testing.assert_array_equal(numbers, expected_numbers)
    np.testing.assert_array_equal(scores, expected_scores)


def test_real_numbers_of_both_signs_come_back_as_they_were() -> None:
    queries_QD, documents_KD = normal(7, 24), normal(500, 24, seed=1)
    numbers, scores = nearest(queries_QD, documents_KD, top=500, documents_at_once=64)
    expected_numbers, expected_scores = by_full_sort(queries_QD, documents_KD, 500)
    assert (scores.min() < -1) & (scores.max() > 1)
    np.testing.assert_array_equal(numbers, expected_numbers)
    np.testing.assert_array_equal(scores, expected_scores)


def test_more_queries_than_fit_at_once_are_answered_in_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queries_QD, documents_KD = normal(10, 8), normal(30, 8, seed=1)
    whole = nearest(queries_QD, documents_KD, top=4)
    monkeypatch.setattr(exact, "_QUERIES_AT_ONCE", 3)
    for one, other in zip(whole, nearest(queries_QD, documents_KD, top=4), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dimensions", [31, 100, 384])
def test_equal_documents_have_one_score_wherever_they_stand(dimensions: int) -> None:
    """Summed in float32, the scores of some of these 1,001 copies differ in their last bit."""
    queries_QD = normal(17, dimensions)
    documents_KD = np.tile(normal(1, dimensions, seed=1), (1_001, 1))
    numbers, scores = nearest(queries_QD, documents_KD, top=1_001, documents_at_once=333)
    assert (scores == scores[:, :1]).all()
    np.testing.assert_array_equal(numbers, np.tile(np.arange(1_001), (17, 1)))


def test_a_query_has_the_same_answer_alone_and_in_company() -> None:
    queries_QD, documents_KD = normal(9, 96), normal(700, 96, seed=1)
    numbers, scores = nearest(queries_QD, documents_KD, top=5)
    for row in range(9):
        alone = nearest(queries_QD[row : row + 1], documents_KD, top=5)
        np.testing.assert_array_equal(alone[0][0], numbers[row])
        np.testing.assert_array_equal(alone[1][0], scores[row])


def test_minus_zero_is_no_worse_than_zero() -> None:
    documents_KD = np.array([[-1e-30], [0], [1e-30], [-1e-30]], dtype=np.float32)
    query_QD = np.full((1, 1), 1e-30, dtype=np.float32)  # the products are too small for float32
    numbers, scores = nearest(query_QD, documents_KD, top=4)
    assert numbers.tolist() == [[0, 1, 2, 3]]
    assert not np.signbit(scores).any()


def test_numbers_keep_all_their_bits_behind_the_score() -> None:
    scores_QC = np.array([[3.0, -2.0, 3.0]], dtype=np.float32)
    first = 2**32 - 10
    keys = np.sort(exact._keys(scores_QC, first), axis=1)[:, ::-1]
    assert exact._numbers_of(keys).tolist() == [[first, first + 2, first + 1]]
    assert exact._scores_of(keys).tolist() == [[3.0, 3.0, -2.0]]


def test_documents_may_lie_on_disk(tmp_path) -> None:
    documents_KD = normal(50, 8)
    np.save(tmp_path / "d.npy", documents_KD.astype(np.float16))
    mapped = np.load(tmp_path / "d.npy", mmap_mode="r")
    numbers, _ = nearest(documents_KD[:5], mapped, top=1, documents_at_once=7)
    expected, _ = by_full_sort(documents_KD[:5], np.asarray(mapped), 1)
    np.testing.assert_array_equal(numbers, expected)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 3e38])
def test_a_score_that_is_not_finite_is_told_with_its_place(wrong: float) -> None:
    queries_QD, documents_KD = normal(3, 4), normal(20, 4, seed=1)
    queries_QD[:] = 10
    documents_KD[13] = wrong
    with pytest.raises(DataError, match="query 0 and document 13 is not finite"):
        nearest(queries_QD, documents_KD, top=2, documents_at_once=6)


def test_vectors_of_two_widths_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"length 8 on axis D .* not 6; to mend it: .* one space"):
        nearest(normal(2, 6), normal(3, 8), top=1)


def test_top_below_one_is_refused() -> None:
    with pytest.raises(RecipeError, match="top is 0; allowed: 1 or more"):
        nearest(normal(2, 6), normal(3, 6), top=0)
