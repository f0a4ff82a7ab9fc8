"""Vectors of pairs: their cosine is made equal to a number that says how alike the two texts are.

Source: Reimers, Gurevych 2019, arXiv 1908.10084 (Sentence-BERT), section 3, regression objective.

Legend: R pairs, B pairs of a micro-batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cosine_similarity

from potstill.models.layout import How, arrange
from potstill.models.noise import Noise
from potstill.models.task_model import TaskModel
from potstill.text.ragged import RaggedBatch
from potstill.train.label_objective import NAME
from potstill.train.objective import Int64


@dataclass(frozen=True, slots=True)
class PairBatch:
    """Both texts of some pairs: all first ones, then all second ones."""

    texts: RaggedBatch
    targets_B: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PairObjective:
    """The squared error of each pair's cosine, averaged over pairs."""

    texts: RaggedBatch  # 2 R texts: all first ones, then all second ones
    targets: NDArray[np.float32]  # (R,) from 0 (nothing in common) to 1 (the same)
    how: How = "auto"

    @property
    def weights(self) -> Mapping[str, float]:
        """Return the one term's weight."""
        return {NAME: 1.0}

    @property
    def lengths(self) -> NDArray[np.integer]:
        """Return the tokens of each pair."""
        lengths = self.texts.lengths.reshape(2, -1)
        return np.asarray(lengths.sum(axis=0))

    def prepare(self, rows: Int64, rng: np.random.Generator) -> PairBatch:
        """Take pairs; nothing here is random."""
        del rng
        both = np.concatenate([rows, rows + len(self.targets)])
        return PairBatch(self.texts.take(both), self.targets[rows])

    def counts(self, batch: PairBatch) -> Mapping[str, float]:
        """Return the number of pairs."""
        return {NAME: float(len(batch.targets_B))}

    def loss_sums(
        self, model: TaskModel, batch: PairBatch, noise: Noise, factors: object = None
    ) -> Mapping[str, Tensor]:
        """Return the summed squared error."""
        del factors
        layout = arrange(batch.texts, model.config, device=noise.device, how=self.how)
        vectors, _ = model(layout, noise=noise)
        first, second = vectors.float().chunk(2)
        targets_B = torch.from_numpy(batch.targets_B).to(noise.device)
        return {NAME: (cosine_similarity(first, second, dim=-1) - targets_B).square().sum()}
