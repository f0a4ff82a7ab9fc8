"""The plainest objective: each row's given class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potstill.losses.hard_labels import hard_label_loss
from potstill.models.layout import How, TextLayout, arrange
from potstill.models.noise import Noise
from potstill.models.task_model import TaskModel
from potstill.text.ragged import RaggedBatch
from potstill.train.objective import Int64


@dataclass(frozen=True, slots=True)
class LabelledBatch:
    """Texts and their classes."""

    texts: RaggedBatch
    targets_B: Int64


@dataclass(frozen=True, slots=True)
class HardLabelObjective:
    """Cross-entropy with given classes, averaged over rows or, with weights, over these."""

    texts: RaggedBatch
    targets: Int64
    class_weights: NDArray[np.float32] | None = None  # (C,) what a row of each class counts
    how: How = "auto"

    @property
    def weights(self) -> Mapping[str, float]:
        """Return the one term's weight."""
        return {"hard_labels": 1.0}

    @property
    def lengths(self) -> NDArray[np.integer]:
        """Return the tokens of each row."""
        return self.texts.lengths

    def prepare(self, rows: Int64, rng: np.random.Generator) -> LabelledBatch:
        """Take rows; nothing here is random."""
        del rng
        return LabelledBatch(self.texts.take(rows), self.targets[rows])

    def counts(self, batch: LabelledBatch) -> Mapping[str, float]:
        """Return the number of rows, or the sum of their weights."""
        if self.class_weights is None:
            return {"hard_labels": float(len(batch.texts))}
        return {"hard_labels": float(self.class_weights[batch.targets_B].sum())}

    def loss_sums(
        self, model: TaskModel, batch: LabelledBatch, noise: Noise
    ) -> Mapping[str, Tensor]:
        """Return the summed loss of the rows."""
        layout: TextLayout = arrange(batch.texts, model.config, device=noise.device, how=self.how)
        logits_BC, _ = model(layout, noise=noise)
        targets_B = torch.from_numpy(batch.targets_B).to(noise.device)
        losses_B = hard_label_loss(logits_BC, targets_B)
        if self.class_weights is not None:
            weights_B = torch.from_numpy(self.class_weights[batch.targets_B])
            losses_B = losses_B * weights_B.to(noise.device)
        return {"hard_labels": losses_B.sum()}
