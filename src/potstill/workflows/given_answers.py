"""Answers of a teacher that potstill does not run itself: a foreign model's, or a file's.

They are attached to rows before dev rows are carved, so that each row keeps its own, and laid out
over windows or tokens afterwards, as outputs of a teacher of ours would be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from potstill.data.rows import Rows
from potstill.distillation.signals import Signals
from potstill.text.ragged import tokens_of
from potstill.text.windows import Windows
from potstill.train.learnable import Learnable
from potstill.train.objective import Int64

Floats = NDArray[np.float32]

COLUMN = "teacher_answers"


@dataclass(frozen=True, slots=True, eq=False)
class GivenTeacher:
    """A teacher whose outputs are at hand: (R, C) of texts, or (N, C) of all tokens."""

    outputs: Floats
    offsets: NDArray[np.integer] | None  # of the texts, where outputs are of tokens
    device: torch.device

    def signals(self, rows: Int64) -> Signals:
        """Return the outputs for these texts; there are no hidden states."""
        places = rows if self.offsets is None else tokens_of(rows, self.offsets)
        return Signals(torch.from_numpy(self.outputs[places]).to(self.device), {})


def with_answers(rows: Rows, answers: Sequence[Any] | Floats | None) -> Rows:
    """Attach one answer a row."""
    return rows if answers is None else rows.with_columns({COLUMN: list(answers)})


def outputs_over(rows: Rows, windows: Windows, *, classes: int) -> Floats:
    """Return the answers of rows as outputs of their windows, or of their tokens."""
    answers = rows.column(COLUMN)
    if windows.words is None:
        return np.stack([answers[row] for row in windows.rows]).astype(np.float32)
    outputs = np.full((windows.texts.total_tokens, classes), np.nan, dtype=np.float32)
    of_row, words = windows.token_rows, windows.words
    for token in np.flatnonzero(words >= 0):
        outputs[token] = answers[of_row[token]][words[token]]
    return outputs


def without_silence(rows: Learnable, outputs: Floats) -> tuple[Learnable, Floats]:
    """Leave out the tokens of which a foreign teacher said nothing, such as words it cut off."""
    if rows.readable_N is None:
        return rows, outputs
    is_told = np.isfinite(outputs).all(axis=1)
    told = Learnable(rows.texts, rows.targets, rows.readable_N & is_told, rows.per_token)
    return told, np.nan_to_num(outputs)
