"""Shape checks: what fits passes with its lengths, what does not is told on both sides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import ShapeError
from potstill.shapes import expect

LENGTHS = st.lists(st.integers(0, 5), max_size=4)
AXES = "B L D H"


@settings(deadline=None)
@given(LENGTHS)
def test_every_axis_is_returned_with_its_length(lengths: list[int]) -> None:
    names = AXES.split()[: len(lengths)]
    found = expect(np.empty(lengths), " ".join(names))
    assert found == dict(zip(names, lengths, strict=True))
    assert expect(torch.empty(lengths), " ".join(names)) == found


@settings(deadline=None)
@given(LENGTHS, LENGTHS)
def test_known_lengths_hold_or_are_refused(lengths: list[int], known: list[int]) -> None:
    names = AXES.split()
    sizes = dict(zip(names, known, strict=False))
    axes = names[: len(lengths)]
    fits = all(
        sizes.get(axis, length) == length for axis, length in zip(axes, lengths, strict=True)
    )
    if fits:
        found = expect(np.empty(lengths), " ".join(axes), **sizes)
        assert found == sizes | dict(zip(axes, lengths, strict=True))
    else:
        with pytest.raises(ShapeError):
            expect(np.empty(lengths), " ".join(axes), **sizes)


def test_the_same_name_twice_means_the_same_length() -> None:
    assert expect(np.empty((3, 3)), "D D") == {"D": 3}
    with pytest.raises(ShapeError, match=r"array has length 4 on axis D of \(D D\), not 3"):
        expect(np.empty((3, 4)), "D D")


def test_a_wrong_number_of_axes_is_told_with_both_sides() -> None:
    with pytest.raises(ShapeError) as caught:
        expect(torch.empty(2, 3), "B L V", name="logits", hint="keep the words")
    assert str(caught.value) == (
        "logits has shape (2, 3), but 3 axes (B L V) are needed; to mend it: keep the words"
    )


def test_a_wrong_length_is_told_with_both_sides() -> None:
    with pytest.raises(ShapeError) as caught:
        expect(np.empty((2, 5)), "B V", name="student", hint="one vocabulary", V=6)
    assert str(caught.value) == (
        "student has length 5 on axis V of (B V), not 6; to mend it: one vocabulary"
    )


def test_the_known_lengths_of_the_caller_stay_as_they_are() -> None:
    sizes = {"B": 2}
    expect(np.empty((2, 5)), "B V", **sizes)
    assert sizes == {"B": 2}
