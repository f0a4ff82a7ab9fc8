"""The score by which weights are chosen: the primary metric of dev rows, through the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.models.precision import Precision
from potstill.models.task_model import TaskModel
from potstill.runtime.torch_engine import TorchEngine
from potstill.tasks.classification import Classification
from potstill.text.ragged import RaggedBatch

Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class DevScore:
    """What a score needs beside the model."""

    task: Classification
    targets: Int64
    primary: str
    precision: Precision

    def of(self, model: TaskModel, texts: RaggedBatch) -> float:
        """Return the primary metric of the model as it is now; greater is better."""
        logits_BC = TorchEngine(model, precision=self.precision).run(texts)["logits"]
        return self.task.score(logits_BC, self.targets, primary=self.primary)

    def watching(self, model: TaskModel, texts: RaggedBatch) -> Callable[[], float]:
        """Return the score as the training loop takes it."""
        return lambda: self.of(model, texts)
