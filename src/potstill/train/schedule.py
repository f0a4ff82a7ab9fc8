"""Which rows a step takes and how fast it learns: pure functions of the recipe and the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from potstill.recipe import TrainingRecipe
from potstill.text.batching import Step, plan_epoch, plan_epoch_by_tokens


@dataclass(slots=True)
class Schedule:
    """The order of the data over a whole run; nothing of it needs to be stored to resume."""

    recipe: TrainingRecipe
    lengths: NDArray[np.integer]
    processes: int = 1  # that share each step
    _epoch: int = field(default=-1, init=False)
    _steps: Sequence[Step] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        """Hold that what a verb finds by itself was found."""
        assert self.recipe.epochs > 0, "epochs are found before training"
        assert self.recipe.learning_rate > 0, "the learning rate is found before training"

    @property
    def steps_per_epoch(self) -> int:
        """Return the optimizer steps of one pass over the rows."""
        if self.recipe.step_tokens:
            return math.ceil(int(self.lengths.sum(dtype=np.int64)) / self.recipe.step_tokens)
        return math.ceil(len(self.lengths) / self.recipe.rows_per_step)

    @property
    def total_steps(self) -> int:
        """Return the optimizer steps of the run, at least one."""
        return max(1, round(self.recipe.epochs * self.steps_per_epoch))

    @property
    def total_tokens(self) -> int:
        """Return the real tokens of the run."""
        passes = self.total_steps / self.steps_per_epoch
        return round(int(self.lengths.sum(dtype=np.int64)) * passes)

    @property
    def scores(self) -> int:
        """Return how often the dev score is taken in the run."""
        if self.recipe.scores:
            return len(_spread(self.recipe.scores, self.total_steps))
        whole, rest = divmod(self.total_steps, self.steps_per_epoch)
        marks = self._marks()
        begun = sum(mark <= rest for mark in marks)
        return whole * len(marks) + begun + (rest not in {0, *marks})

    def micro_batches(self, step: int) -> Step:
        """Return the row indices of each micro-batch of a step (counted from 0), see `Step`."""
        epoch, step_of_epoch = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._steps = self._plan(np.random.default_rng([self.recipe.seed, epoch]))
            self._epoch = epoch
        return self._steps[step_of_epoch]

    def _plan(self, rng: np.random.Generator) -> Sequence[Step]:
        if self.recipe.step_tokens:
            return plan_epoch_by_tokens(
                self.lengths,
                step_tokens=self.recipe.step_tokens,
                max_batch_tokens=self.recipe.batch_tokens,
                rng=rng,
                processes=self.processes,
            )
        return plan_epoch(
            self.lengths,
            rows_per_step=self.recipe.rows_per_step,
            max_batch_tokens=self.recipe.batch_tokens,
            length_pools=self.recipe.length_pools,
            rng=rng,
            processes=self.processes,
        )

    def learning_rate(self, step: int) -> float:
        """Return the rate of a step: up in a line over the warm-up, then down in a line to 0."""
        warmup = round(self.recipe.warmup_share * self.total_steps)
        if step < warmup:
            return self.recipe.learning_rate * (step + 1) / (warmup + 1)
        left = (self.total_steps - step) / max(1, self.total_steps - warmup)
        return self.recipe.learning_rate * left

    def is_scored(self, done: int) -> bool:
        """Tell whether the dev score is taken after `done` steps; it always is after the last."""
        if done == self.total_steps:
            return True
        if self.recipe.scores:
            return done in _spread(self.recipe.scores, self.total_steps)
        return (done - 1) % self.steps_per_epoch + 1 in self._marks()

    def _marks(self) -> set[int]:
        """Return the steps of an epoch after which the score is taken."""
        return _spread(self.recipe.scores_per_epoch, self.steps_per_epoch)


def _spread(count: int, steps: int) -> set[int]:
    """Return so many of the steps from 1 on, evenly, the last among them; all if they are few."""
    count = min(count, steps)
    return {round(steps * mark / count) for mark in range(1, count + 1)}
