"""Flips: the rows on which a student answers otherwise than its teacher, the worst first.

Legend: B rows, C classes. Logits of both models have their columns in the order of the labels.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.data.rows import Rows
from potstill.tasks.classification import probabilities

Floats = NDArray[np.floating[Any]]
Int64 = NDArray[np.int64]

FLIPS_SHOWN = 20  # of all that are found, in reports
CSV_HEADER = ("model", "row", "text", "gold", "teacher", "teacher_margin", "student")
# How cells begin that a spreadsheet would run as a formula.
_FORMULA_OPENINGS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 - the wide forms are meant


@dataclass(frozen=True, slots=True)
class Flip:
    """One row with two answers."""

    row: int  # place in the test rows, from 1
    text: str
    gold: str
    teacher: str
    teacher_margin: float  # probability of the teacher's answer minus that of its next, 0 to 1
    student: str

    @property
    def is_lost(self) -> bool:
        """Tell whether the teacher was right and the student is wrong."""
        return self.teacher == self.gold

    @property
    def is_won(self) -> bool:
        """Tell whether the student is right where the teacher was wrong."""
        return self.student == self.gold

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


def find_flips(
    labels: Sequence[str], rows: Rows, targets: Int64, teacher_BC: Floats, student_BC: Floats
) -> Flips:
    """Find the rows on which two models differ.

    Args:
        labels: names of the C classes.
        rows: with the column "text".
        targets: the right class of each row, (B,).
        teacher_BC: logits of the model that is imitated.
        student_BC: logits of the other one.
    """
    teacher_B, student_B = teacher_BC.argmax(axis=-1), student_BC.argmax(axis=-1)
    margin_B = _margins(teacher_BC)
    differs = np.flatnonzero(teacher_B != student_B)
    # lexsort: the last key counts first; equal margins keep the order of the file
    order = np.lexsort((differs, -margin_B[differs], teacher_B[differs] != targets[differs]))
    texts = rows.column("text")
    return Flips(
        tuple(
            Flip(
                row=int(index) + 1,
                text=texts[index],
                gold=labels[targets[index]],
                teacher=labels[teacher_B[index]],
                teacher_margin=float(margin_B[index]),
                student=labels[student_B[index]],
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


def _margins(logits_BC: Floats) -> Floats:
    """Return the probability of the best class minus that of the next, (B,)."""
    two_best = np.sort(probabilities(logits_BC), axis=-1)[:, -2:]
    margins: Floats = two_best[:, -1] - two_best[:, 0]
    return margins
