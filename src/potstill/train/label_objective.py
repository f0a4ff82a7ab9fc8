"""The plainest objective: what is true of each text or token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from potstill.models.layout import How, arrange
from potstill.models.noise import Noise
from potstill.models.task_model import TaskModel
from potstill.train.answer_losses import AnswerLoss, ClassLoss
from potstill.train.learnable import Learnable
from potstill.train.objective import Int64

NAME = "hard_labels"


@dataclass(frozen=True, slots=True)
class LabelObjective:
    """The loss against labels, averaged over the positions that have one."""

    rows: Learnable
    loss: AnswerLoss = field(default_factory=ClassLoss)
    how: How = "auto"

    @property
    def weights(self) -> Mapping[str, float]:
        """Return the one term's weight."""
        return {NAME: 1.0}

    @property
    def lengths(self) -> NDArray[np.integer]:
        """Return the tokens of each row."""
        return self.rows.texts.lengths

    def prepare(self, rows: Int64, rng: np.random.Generator) -> Learnable:
        """Take rows; nothing here is random."""
        del rng
        return self.rows.take(rows)

    def counts(self, batch: Learnable) -> Mapping[str, float]:
        """Return the number of positions with a label, or the sum of their weights."""
        return {NAME: self.loss.label_count(batch)}

    def loss_sums(
        self, model: TaskModel, batch: Learnable, noise: Noise, factors: object = None
    ) -> Mapping[str, Tensor]:
        """Return the summed loss of the positions."""
        del factors
        layout = arrange(batch.texts, model.config, device=noise.device, how=self.how)
        outputs, _ = model(layout, noise=noise)
        return {NAME: self.loss.labels(outputs, batch).sum()}
