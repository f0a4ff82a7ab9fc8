"""What a student loses on held-out passages, term by term: the same question every time."""

from __future__ import annotations

import numpy as np
import torch

from potstill.distillation.general_objective import GeneralObjective
from potstill.models.precision import DTYPES
from potstill.models.task_model import TaskModel
from potstill.train.held_out import HeldOutLoss
from potstill.train.progress import Scored

_SEED = 1  # of the positions at which the teacher is heard


class HeldOutTerms:
    """The terms of an objective over passages that nobody is trained on."""

    def __init__(self, objective: GeneralObjective, held_out: HeldOutLoss) -> None:
        self.objective = objective
        self.batches = [
            objective.asked_of(masked, np.random.default_rng([_SEED, number]))
            for number, masked in enumerate(held_out.batches)
        ]

    @torch.no_grad()
    def of(self, model: TaskModel) -> dict[str, float]:
        """Return the mean of each term over its positions, for the model as it is now."""
        sums = dict.fromkeys(self.objective.weights, 0.0)
        counts = dict.fromkeys(self.objective.weights, 0.0)
        device = next(model.parameters()).device
        precision = self.objective.precision
        for batch in self.batches:
            with torch.autocast(device.type, dtype=DTYPES[precision], enabled=precision != "fp32"):
                found = self.objective.loss_sums(model, batch, None)
            for name, count in self.objective.counts(batch).items():
                sums[name] += float(found[name])
                counts[name] += count
        return {name: sums[name] / max(counts[name], 1.0) for name in sums}

    def scored(self, model: TaskModel) -> Scored:
        """Return the model's score, the greater the less it loses, and each term."""
        terms = self.of(model)
        return Scored(-self.total(terms), {f"held_out_{name}": terms[name] for name in terms})

    def total(self, terms: dict[str, float]) -> float:
        """Return the weighted sum that is minimized."""
        return sum(self.objective.weights[name] * value for name, value in terms.items())
