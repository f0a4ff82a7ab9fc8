"""Flips: the rows on which a student answers otherwise than its teacher, the worst first.

Legend: B rows.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from potstill.data.rows import Rows
from potstill.tasks.task import Task, texts_shown

FLIPS_SHOWN = 20  # of all that are found, in reports
CSV_HEADER = ("model", "row", "text", "gold", "teacher", "teacher_margin", "student")
# How cells begin that a spreadsheet would run as a formula.
_FORMULA_OPENINGS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 - the wide forms are meant


@dataclass(frozen=True, slots=True)
class Flip:
    """One row with two answers, in words."""

    row: int  # place in the test rows, from 1
    text: str
    gold: str
    teacher: str
    teacher_margin: float  # how sure the teacher is, 0 to 1, as its task tells
    student: str
    is_lost: bool  # the teacher is right and the student wrong
    is_won: bool  # the student is right and the teacher wrong

    def to_json(self) -> dict[str, Any]:
        """Return the flip as one object."""
        return {
            "row": self.row,
            "text": self.text,
            "gold": self.gold,
            "teacher": self.teacher,
            "teacher_margin": round(self.teacher_margin, 4),
            "student": self.student,
        }


@dataclass(frozen=True, slots=True)
class Flips:
    """All rows on which two models differ."""

    rows: tuple[Flip, ...]  # the teacher's right ones first, the surest first among them

    @property
    def lost(self) -> int:
        """Return how often the teacher is right and the student wrong."""
        return sum(flip.is_lost for flip in self.rows)

    @property
    def won(self) -> int:
        """Return how often the teacher is wrong and the student right."""
        return sum(flip.is_won for flip in self.rows)

    def to_json(self, *, shown: int) -> dict[str, Any]:
        """Return the counts and the first rows."""
        return {
            "count": len(self.rows),
            "teacher_right_student_wrong": self.lost,
            "teacher_wrong_student_right": self.won,
            "rows": [flip.to_json() for flip in self.rows[:shown]],
        }


def find_flips(task: Task, rows: Rows, gold: Any, teacher: Any, student: Any) -> Flips:
    """Find the rows on which two models differ.

    Args:
        task: tells what differs, what is right and how an answer reads.
        rows: the test rows.
        gold: what is true of them.
        teacher: answers of the model that is imitated.
        student: answers of the other one.
    """
    sure_B = task.sureness(teacher)
    right, also_right = task.right(teacher, gold), task.right(student, gold)
    differs = np.flatnonzero(~task.same(teacher, student))
    # lexsort: the last key counts first; equal margins keep the order of the file
    order = np.lexsort((differs, -sure_B[differs], ~right[differs]))
    texts, true = texts_shown(rows), task.shown_gold(rows)
    theirs, ours = task.shown(teacher), task.shown(student)
    return Flips(
        tuple(
            Flip(
                row=int(index) + 1,
                text=texts[index],
                gold=true[index],
                teacher=theirs[index],
                teacher_margin=float(sure_B[index]),
                student=ours[index],
                is_lost=bool(right[index] and not also_right[index]),
                is_won=bool(also_right[index] and not right[index]),
            )
            for index in differs[order]
        )
    )


def flips_csv(flips_of: Mapping[str, Flips]) -> bytes:
    """Return the flips of all students, by name, as a CSV file in UTF-8.

    A cell that a spreadsheet would take for a formula begins with an apostrophe.
    """
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(CSV_HEADER)
    for name, flips in flips_of.items():
        for flip in flips.rows:
            values = (name, flip.row, *_cells(flip))
            writer.writerow([_harmless(str(value)) for value in values])
    return stream.getvalue().encode()


def _cells(flip: Flip) -> Iterable[str]:
    yield from (flip.text, flip.gold, flip.teacher)
    yield from (f"{flip.teacher_margin:.4f}", flip.student)


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA_OPENINGS) else cell
