"""Which hidden states are aligned."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.distillation.layer_map import layer_map_from_words
from potstill.errors import RecipeError

KNOWN = [
    ("even", 3, 6, ((1, 2), (2, 4), (3, 6))),
    ("even", 6, 12, ((1, 2), (2, 4), (3, 6), (4, 8), (5, 10), (6, 12))),
    ("even", 4, 4, ((1, 1), (2, 2), (3, 3), (4, 4))),
    ("even", 1, 6, ((1, 6),)),
    ("last", 3, 6, ((3, 6),)),
    ("1:2,2:4,3:6", 3, 6, ((1, 2), (2, 4), (3, 6))),
    ("0:0, 3:5", 3, 6, ((0, 0), (3, 5))),
]


@pytest.mark.parametrize(("words", "student", "teacher", "expected"), KNOWN)
def test_known_maps(
    words: str, student: int, teacher: int, expected: tuple[tuple[int, int], ...]
) -> None:
    found = layer_map_from_words(words, student_layers=student, teacher_layers=teacher)
    assert found == expected


@given(teacher=st.integers(1, 24), data=st.data())
def test_an_even_map_rises_and_ends_at_both_last_states(teacher: int, data: st.DataObject) -> None:
    student = data.draw(st.integers(1, teacher))
    found = layer_map_from_words("even", student_layers=student, teacher_layers=teacher)
    assert [own for own, _ in found] == list(range(1, student + 1))
    theirs = [its for _, its in found]
    assert theirs == sorted(set(theirs))
    assert theirs[-1] == teacher
    assert theirs[0] >= 1


@pytest.mark.parametrize("words", ["", "first", "1", "1:", ":2", "1:2:3", "a:b", "1:2;2:4", "1:2,"])
def test_what_is_no_map_is_refused(words: str) -> None:
    with pytest.raises(RecipeError, match=r"layer_map is .*even, last.*--set layer_map=1:2"):
        layer_map_from_words(words, student_layers=3, teacher_layers=6)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("4:2", "names state 4 of the student; allowed: 0 to 3"),
        ("1:7", "names state 7 of the teacher; allowed: 0 to 6"),
        ("-1:2", "names state -1 of the student"),
        ("1:2,2:-4", "names state -4 of the teacher"),
    ],
)
def test_states_that_are_not_there_are_named(words: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        layer_map_from_words(words, student_layers=3, teacher_layers=6)
