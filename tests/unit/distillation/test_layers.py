"""Which layers a student keeps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.distillation.layers import CHOICES, choose_layers, layers_from_words
from potstill.errors import RecipeError

KNOWN = [
    ("even", 12, 6, (0, 2, 4, 6, 8, 10)),
    ("even", 6, 3, (0, 2, 4)),
    ("distilbert", 12, 6, (0, 2, 4, 7, 9, 11)),
    ("distilbert", 24, 12, (0, 2, 4, 6, 8, 10, 13, 15, 17, 19, 21, 23)),
    ("distilbert", 12, 4, (0, 4, 7, 11)),
    ("distilbert", 12, 3, (0, 6, 11)),
    ("bottom", 6, 3, (0, 1, 2)),
    ("top", 6, 3, (3, 4, 5)),
]


@pytest.mark.parametrize(("choice", "teacher", "student", "expected"), KNOWN)
def test_known_choices(choice: str, teacher: int, student: int, expected: tuple[int, ...]) -> None:
    assert choose_layers(teacher, student, choice=choice) == expected


def test_every_known_choice_is_tried() -> None:
    assert {choice for choice, *_ in KNOWN} == set(CHOICES)
    assert len(KNOWN) == 8


@given(teacher=st.integers(1, 48), data=st.data(), choice=st.sampled_from(sorted(CHOICES)))
def test_any_depth_gives_distinct_layers_in_order(
    teacher: int, data: st.DataObject, choice: str
) -> None:
    student = data.draw(st.integers(1, teacher))
    kept = choose_layers(teacher, student, choice=choice)
    assert len(kept) == student
    assert list(kept) == sorted(set(kept))
    assert 0 <= kept[0] <= kept[-1] < teacher
    if student == teacher:
        assert kept == tuple(range(teacher))


@pytest.mark.parametrize("layers", [0, 7])
def test_a_student_deeper_than_its_teacher_is_refused(layers: int) -> None:
    with pytest.raises(RecipeError, match=rf"{layers} layers.*allowed: 1 to 6"):
        choose_layers(6, layers, choice="even")


@pytest.mark.parametrize("words", ["", "a,b", "0,6", "-1,2", "2,0", "1,1", "0;2"])
def test_wrong_lists_of_layers_are_refused(words: str) -> None:
    with pytest.raises(RecipeError, match="--keep"):
        layers_from_words(words, teacher_layers=6)


def test_a_list_of_layers_is_read() -> None:
    assert layers_from_words("0, 2,4", teacher_layers=6) == (0, 2, 4)
