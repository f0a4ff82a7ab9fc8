"""Flips: which rows, in which order, counted both ways, and a file that harms nobody."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data.rows import Rows
from potstill.tasks.classification import Classification
from potstill.tasks.flips import CSV_HEADER, find_flips, flips_csv

LABELS = ("ham", "spam", "other")
NASTY = (
    'a, b and "c"',
    "two\nlines\r\nand\rmore",
    "=1+1",
    "@SUM(A1)",
    "-1",
    "+49",
    "\tx",
    "plain",
    "",
    "<script>alert(1)</script>",
    "ünï – 漢字",  # noqa: RUF001 - other signs are the point
)


def flips_of(targets, teacher, student, texts=None):
    """Find flips of models that are given as logits."""
    names = texts or [f"row {index}" for index in range(len(targets))]
    rows = Rows({"text": list(names), "label": [LABELS[target] for target in targets]}, "list")
    arrays = np.asarray(targets), np.asarray(teacher, float), np.asarray(student, float)
    return find_flips(Classification(LABELS), rows, *arrays)


def sure(label: int, by: float = 4.0) -> list[float]:
    """Return the logits of a model that is sure of a class by so much."""
    return [by * (index == label) for index in range(3)]


def test_equal_answers_are_no_flips():
    same = [sure(0), sure(1)]
    flips = flips_of([0, 0], same, [sure(0, 9.0), sure(1, 0.1)])
    assert flips.rows == ()
    assert (flips.lost, flips.won) == (0, 0)


def test_the_teachers_right_answers_come_first_the_surest_at_the_top():
    teacher = [sure(1, 9.0), sure(0, 1.0), sure(0, 3.0), sure(0, 2.0), sure(2, 5.0)]
    student = [sure(0), sure(1), sure(1), sure(2), sure(2)]
    flips = flips_of([0, 0, 0, 0, 2], teacher, student)
    assert [flip.row for flip in flips.rows] == [3, 4, 2, 1]
    assert (flips.lost, flips.won) == (3, 1)


def test_a_row_that_both_get_wrong_counts_for_neither():
    flips = flips_of([0], [sure(1)], [sure(2)])
    assert len(flips.rows) == 1
    assert (flips.lost, flips.won) == (0, 0)


def test_the_margin_is_the_gap_between_the_two_likeliest():
    (flip,) = flips_of([0], [np.log([0.6, 0.3, 0.1])], [sure(1)]).rows
    assert flip.teacher_margin == pytest.approx(0.3)
    assert (flip.gold, flip.teacher, flip.student) == ("ham", "ham", "spam")


@given(st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=30))
def test_the_counts_explain_the_difference_in_accuracy(rows: list[tuple[int, int, int]]):
    targets, teacher, student = (np.asarray(side) for side in zip(*rows, strict=True))
    flips = flips_of(targets, [sure(t) for t in teacher], [sure(s) for s in student])
    assert len(flips.rows) == np.sum(teacher != student)
    gained = int(np.sum(student == targets)) - int(np.sum(teacher == targets))
    assert flips.won - flips.lost == gained


def test_the_object_shows_some_and_counts_all():
    flips = flips_of([0] * 5, [sure(0)] * 5, [sure(1)] * 5)
    told = flips.to_json(shown=2)
    assert told["count"] == told["teacher_right_student_wrong"] == 5
    assert [row["row"] for row in told["rows"]] == [1, 2]


def test_the_file_holds_every_row_whatever_its_text():
    count = len(NASTY)
    flips = flips_of([0] * count, [sure(0)] * count, [sure(1)] * count, NASTY)
    content = flips_csv({"small, one": flips}).decode()
    header, *rows = csv.reader(io.StringIO(content, newline=""))
    assert tuple(header) == CSV_HEADER
    assert [row[2].removeprefix("'") for row in rows] == list(NASTY)
    assert {row[0] for row in rows} == {"small, one"}
    shielded = [row[2][1:] for row in rows if row[2].startswith("'")]
    assert shielded == ["=1+1", "@SUM(A1)", "-1", "+49", "\tx"]


@given(st.text(), st.text(min_size=1))
def test_no_cell_is_a_formula(text: str, label: str):
    rows = Rows({"text": [text], "label": [label]}, "list")
    task = Classification((label, "b", "c"))
    arrays = np.asarray([0]), np.asarray([sure(0)]), np.asarray([sure(1)])
    flips = find_flips(task, rows, *arrays)
    content = flips_csv({text: flips}).decode()
    _, *found = csv.reader(io.StringIO(content, newline=""))
    for cell in found[0]:
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert found[0][2].removeprefix("'") == text.removeprefix("'")


def test_no_flips_are_a_header_alone():
    flips = flips_of([0], [sure(0)], [sure(0)])
    assert flips_csv({"m": flips}).decode().splitlines() == [",".join(CSV_HEADER)]
