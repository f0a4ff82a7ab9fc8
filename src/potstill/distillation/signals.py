"""What a teacher says of training rows: live, computed when asked, or stored on disk once.

Legend: R training rows, B rows of a micro-batch, N their tokens, C classes, D the teacher's width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from potstill.models.layout import arrange
from potstill.models.precision import DTYPES, Precision
from potstill.models.task_model import TaskModel
from potstill.text.ragged import RaggedBatch
from potstill.train.answer_losses import AnswerLoss, ClassLoss
from potstill.train.objective import Int64


@dataclass(frozen=True, slots=True)
class Signals:
    """The teacher's answers to some rows, in fp32."""

    outputs: Tensor  # of its head: (B, C) of whole texts, (N, C) of tokens
    states: Mapping[int, Tensor]  # (N, D) by index: 0 the embedding output, i after layer i


class Teacher(Protocol):
    """A source of signals."""

    def signals(self, rows: Int64) -> Signals:
        """Return what the teacher says of these training rows."""
        ...


@dataclass(frozen=True, slots=True)
class LiveTeacher:
    """Teachers that are run whenever they are asked.

    How several are averaged is the task's matter; hidden states are those of the first.
    """

    models: Sequence[TaskModel]
    texts: Sequence[RaggedBatch]  # the rows as each teacher's own tokenizer reads them
    temperature: float
    loss: AnswerLoss = field(default_factory=ClassLoss)
    precision: Precision = "fp32"
    state_indices: tuple[int, ...] = ()

    @torch.inference_mode()
    def signals(self, rows: Int64) -> Signals:
        """Run the teachers on these rows."""
        answers = [
            self._run(model, texts.take(rows), keeps=self.state_indices if first else ())
            for model, texts, first in zip(
                self.models, self.texts, [True] + [False] * len(self.models), strict=False
            )
        ]
        outputs = self.loss.average(
            [outputs for outputs, _ in answers], temperature=self.temperature
        )
        return Signals(outputs, answers[0][1])

    def _run(
        self, model: TaskModel, texts: RaggedBatch, *, keeps: tuple[int, ...]
    ) -> tuple[Tensor, dict[int, Tensor]]:
        device = next(model.parameters()).device
        with torch.autocast(
            device.type, dtype=DTYPES[self.precision], enabled=self.precision != "fp32"
        ):
            layout = arrange(texts, model.config, device=device)
            logits, output = model(layout, keep_states=bool(keeps))
        return logits.float(), {index: output.state(index).float() for index in keeps}


Tell = Callable[[int, int], None]  # rows done, rows of all
