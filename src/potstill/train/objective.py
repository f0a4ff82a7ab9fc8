"""What is minimized, as the loop sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from potstill.models.noise import Noise
from potstill.models.task_model import TaskModel

Int64 = NDArray[np.int64]


class Objective(Protocol):
    """One or more loss terms over training rows.

    A term is averaged over its own positions (rows, real tokens, masked tokens) in the whole
    optimizer step. The positions are known before anything is computed, so each micro-batch's sum
    can be divided by the step's total at once, in any number of processes.
    """

    @property
    def weights(self) -> Mapping[str, float]:
        """Return each term's weight in the total loss."""
        ...

    @property
    def lengths(self) -> NDArray[np.integer]:
        """Return the tokens of each training row."""
        ...

    def prepare(self, rows: Int64, rng: np.random.Generator) -> Any:
        """Collect a micro-batch; random choices come from `rng` alone."""
        ...

    def counts(self, batch: Any) -> Mapping[str, float]:
        """Return the number of positions over which each term is averaged."""
        ...

    def loss_sums(
        self, model: TaskModel, batch: Any, noise: Noise, factors: Mapping[str, float]
    ) -> Mapping[str, Tensor]:
        """Return each term summed over the micro-batch's positions.

        `factors` tells by what each sum will be multiplied in the total, for terms that can share
        work if they know it.
        """
        ...
