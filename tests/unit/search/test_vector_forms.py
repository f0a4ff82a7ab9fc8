"""Forms of a vector: how far each is from the floats, and what it can never do to them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from potstill.errors import DataError, RecipeError, ShapeError
from potstill.search import vector_forms
from potstill.search.exact import nearest
from potstill.search.vector_forms import (
    FORMS,
    Form,
    as_stored,
    bytes_per_vector,
    cut,
    from_bits,
    from_int8,
    int8_ranges,
    normed,
    to_bits,
    to_form,
    to_int8,
)

NUMBERS = st.floats(-1e3, 1e3, width=32)
VECTORS = arrays(np.float32, st.tuples(st.integers(1, 9), st.just(16)), elements=NUMBERS)


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@given(vectors=VECTORS, dimensions=st.integers(1, 16))
@settings(deadline=None)
def test_a_cut_vector_has_length_one_and_the_direction_of_its_beginning(
    vectors: NDArray[np.float32], dimensions: int
) -> None:
    found = cut(vectors, dimensions)
    beginnings = vectors[:, :dimensions].astype(np.float64)
    lengths = np.linalg.norm(beginnings, axis=1)
    assert found.shape == (len(vectors), dimensions)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), lengths > 0, atol=1e-6)
    np.testing.assert_allclose(found * lengths[:, None], beginnings, rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("dimensions", [0, -1, 17])
def test_no_vector_is_cut_to_nothing_or_lengthened(dimensions: int) -> None:
    with pytest.raises(RecipeError, match=f"dimensions is {dimensions}; allowed: 1 to 16"):
        cut(normal(2, 16), dimensions)


def test_tiny_and_great_vectors_are_normed_alike() -> None:
    vectors = normal(3, 8) * np.array([[1e-30], [1], [1e30]], dtype=np.float32)
    np.testing.assert_allclose(np.linalg.norm(normed(vectors), axis=1), 1, atol=1e-6)


@given(vectors=VECTORS)
@settings(deadline=None)
def test_int8_is_off_by_half_a_step_at_most(vectors: NDArray[np.float32]) -> None:
    ranges = int8_ranges(vectors)
    found = from_int8(to_int8(vectors, ranges), ranges)
    step_D = (vectors.max(axis=0).astype(np.float64) - vectors.min(axis=0)) / 255
    # Engines have the processor flush numbers below `tiny`, and one may have run here before.
    rounding = 1e-6 * np.abs(vectors).max() + np.finfo(np.float32).tiny
    assert (np.abs(found - vectors) <= 0.5 * step_D + rounding).all()


@given(vectors=VECTORS)
@settings(deadline=None)
def test_int8_of_int8_is_the_same(vectors: NDArray[np.float32]) -> None:
    ranges = int8_ranges(vectors)
    codes = to_int8(vectors, ranges)
    spread_D = ranges.step_D > 1e-4 * np.abs(vectors).max()  # else float32 itself has no such steps
    again = to_int8(from_int8(codes, ranges), ranges)
    np.testing.assert_array_equal(again[:, spread_D], codes[:, spread_D])


def test_int8_uses_all_of_its_codes() -> None:
    codes = to_int8(normal(500, 8), int8_ranges(normal(500, 8)))
    assert (codes.min(axis=0) == -128).all()
    assert (codes.max(axis=0) == 127).all()


def test_int8_keeps_small_dimensions_beside_a_great_one() -> None:
    """Why there is a range a dimension: one scale a vector would round all others to zero."""
    vectors = normal(200, 16)
    vectors[:, 3] += 1_000
    found = as_stored(vectors, "int8")
    others = np.arange(16) != 3
    assert np.abs(found - vectors)[:, others].max() < 0.02
    scales = np.abs(vectors).max(axis=1, keepdims=True) / 127
    assert not (np.rint(vectors / scales) * scales)[:, others].any()


def test_int8_goes_to_the_ends_of_the_ranges_outside_them() -> None:
    ranges = int8_ranges(np.array([[-1, 0], [1, 0]], dtype=np.float32))
    outside = np.array([[-5, 7], [5, -7]], dtype=np.float32)
    np.testing.assert_allclose(from_int8(to_int8(outside, ranges), ranges), [[-1, 0], [1, 0]])


def test_ranges_of_other_vectors_are_used_where_they_are_given() -> None:
    vectors, others = normal(30, 8), 0.5 * normal(300, 8, seed=1)
    ranges = int8_ranges(others)
    found = as_stored(vectors, "int8", others)
    np.testing.assert_array_equal(found, from_int8(to_int8(vectors, ranges), ranges))
    assert not np.array_equal(found, as_stored(vectors, "int8"))


def test_ranges_of_nothing_are_refused() -> None:
    with pytest.raises(ShapeError, match="calibration holds no vector"):
        int8_ranges(normal(0, 8))


@given(vectors=VECTORS)
@settings(deadline=None)
def test_bits_are_the_signs(vectors: NDArray[np.float32]) -> None:
    bits = to_bits(vectors)
    assert (bits.dtype, bits.shape) == (np.uint8, (len(vectors), 2))
    np.testing.assert_array_equal(from_bits(bits), np.where(vectors > 0, 1, -1))


def test_bits_are_scored_with_the_floats_of_the_query() -> None:
    queries, documents = normal(5, 24), normal(60, 24, seed=1)
    by_hand = queries @ np.where(documents > 0, 1.0, -1.0).T
    _, best = nearest(queries, as_stored(documents, "binary"), top=60)
    np.testing.assert_allclose(-np.sort(-by_hand, axis=1), best, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_a_vector_takes_the_bytes_that_are_told(form: Form) -> None:
    vectors = normal(3, 40)
    stored = to_form(vectors, form, int8_ranges(vectors))
    assert stored.nbytes == 3 * bytes_per_vector(form, 40)


def test_bytes_are_those_of_the_books() -> None:
    assert [bytes_per_vector(form, 384) for form in FORMS] == [1536, 768, 384, 48]


@pytest.mark.parametrize(
    ("form", "least_cosine"),
    [("float32", 1), ("float16", 0.999999), ("int8", 0.9999), ("binary", 0.75)],
)
def test_each_form_keeps_the_direction_as_far_as_it_can(form: Form, least_cosine: float) -> None:
    vectors = normed(normal(200, 256))
    cosines = (normed(as_stored(vectors, form)) * vectors).sum(axis=1)
    assert cosines.min() >= least_cosine - 1e-6
    assert as_stored(vectors, form).dtype == np.float32


def test_forms_are_in_order_of_what_they_keep() -> None:
    """Overlap of the ten nearest with those of the floats, on vectors that lie in clusters."""
    centers, rng = normal(20, 64), np.random.default_rng(3)
    documents = normed(centers[rng.integers(0, 20, 800)] + normal(800, 64, seed=1))
    queries = normed(centers + normal(20, 64, seed=2))
    truth, _ = nearest(queries, documents, top=10)
    overlaps = []
    for form in FORMS:
        found, _ = nearest(queries, as_stored(documents, form), top=10)
        pairs = zip(truth, found, strict=True)
        overlaps.append(np.mean([len(set(one) & set(other)) / 10 for one, other in pairs]))
    assert overlaps == sorted(overlaps, reverse=True)
    assert overlaps[0] == 1
    assert overlaps[2] > 0.95
    assert 0.3 < overlaps[3] < 0.95


def test_a_dimension_that_is_all_zero_stays_so() -> None:
    vectors = normal(9, 8)
    vectors[:, 2] = 0
    for form in ("float32", "float16", "int8"):
        assert not as_stored(vectors, form)[:, 2].any()


def test_ties_between_equal_vectors_stay_ties_in_every_form() -> None:
    vectors = np.repeat(normal(4, 16), 3, axis=0)
    for form in FORMS:
        found = as_stored(vectors, form).reshape(4, 3, 16)
        assert (found == found[:, :1]).all()


@pytest.mark.parametrize("form", FORMS)
def test_what_is_not_finite_has_no_form(form: Form) -> None:
    vectors = normal(9, 16)
    vectors[5, 7] = np.nan
    with pytest.raises(DataError, match="vector 5 is not finite"):
        as_stored(vectors, form)


def test_what_is_too_large_for_float16_is_told() -> None:
    with pytest.raises(DataError, match="too large for float16; allowed: -65504 to 65504"):
        as_stored(np.full((1, 8), 1e5, dtype=np.float32), "float16")


def test_bits_that_fill_no_bytes_are_refused_with_the_next_that_do() -> None:
    for attempt in (
        lambda: to_bits(normal(1, 20)),
        lambda: bytes_per_vector("binary", 20),
        lambda: as_stored(normal(1, 20), "binary"),
    ):
        with pytest.raises(RecipeError, match=r"20 dimensions; .* --dimensions 16"):
            attempt()


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(RecipeError, match="form is 'int4'; allowed: float32, float16, int8, bin"):
        vector_forms.as_stored(normal(1, 8), "int4")
