"""A few steps of a run, measured, so that its cost is known before it is spent."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from potstill.models.task_model import TaskModel
from potstill.recipe import TrainingRecipe
from potstill.train.checkpoints import CheckpointFolder, RunIdentity, pause_between
from potstill.train.loop import Run, Score
from potstill.train.objective import Objective
from potstill.train.world import World

_WARM_STEPS = 3  # in which memory is taken and kernels are chosen
_FEWEST_STEPS = 5
_LATER = 1.25  # the peak of a run on a CPU beside that of its first steps: three runs, lab log

Tell = Callable[[int, int], None]  # seconds gone, seconds of all


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What a few steps cost, and how many there will be."""

    steps: int  # measured, after the warm-up
    tokens: int  # real ones, in these steps
    seconds: float  # of these steps
    score_seconds: float  # of one dev score
    save_seconds: float  # of one checkpoint
    save_bytes: int
    peak_bytes: int  # memory that the run will hold, on the card where there is one
    total_steps: int
    total_tokens: int
    scores: int

    @property
    def tokens_per_second(self) -> float:
        """Return the real tokens that a second of steps reads."""
        return self.tokens / self.seconds

    def run_seconds(self, recipe: TrainingRecipe) -> float:
        """Return what the whole run will take: steps, scores, and checkpoints between them."""
        steps = self.total_tokens / self.tokens_per_second
        pause = pause_between(recipe.checkpoint_every_s, self.save_seconds)
        saves = steps / pause if pause else self.total_steps
        return steps + saves * self.save_seconds + self.scores * self.score_seconds


def rehearse(  # noqa: PLR0913 - the parts of a run, each of its own kind
    model: TaskModel,
    objective: Objective,
    recipe: TrainingRecipe,
    *,
    score: Score,
    folder: Path,
    seconds: float,
    world: World | None = None,
    tell: Tell | None = None,
    warmed: Callable[[], None] | None = None,
) -> Rehearsal:
    """Do the first steps of a run and measure them.

    Args:
        model: it is trained, so it is of no use afterwards.
        objective: the loss terms.
        recipe: the settings.
        score: the dev score, taken once.
        folder: where a checkpoint is written, to be measured.
        seconds: of steps to be measured; at least five steps are, and never more than the run has.
        world: the processes; None: this one alone.
        tell: called in the main process after each step.
        warmed: called when the clock begins.

    Raises:
        Diverged, OutOfMemory, StorageError: as `train` would.
    """
    world = world or World()
    identity = RunIdentity.of(recipe, {})
    run = Run(model, objective, recipe, CheckpointFolder(folder), identity, world)
    schedule = run.schedule
    for step in range(min(_WARM_STEPS, schedule.total_steps - 1)):
        run.step(schedule.learning_rate(step))
    warm = run.state.step
    if warmed is not None:
        warmed()
    tokens, began, elapsed = run.state.train_tokens, time.perf_counter(), 0.0
    while run.state.step < schedule.total_steps:
        run.step(schedule.learning_rate(run.state.step))
        # One clock decides for all processes: they must do the same number of steps.
        elapsed = float(world.from_main(time.perf_counter() - began, run.device))
        if tell is not None and world.is_main:
            tell(round(min(elapsed, seconds)), round(seconds))
        if elapsed >= seconds and run.state.step - warm >= _FEWEST_STEPS:
            break
    return Rehearsal(
        steps=run.state.step - warm,
        tokens=run.state.train_tokens - tokens,
        seconds=elapsed,
        score_seconds=_seconds_of(score),
        save_seconds=_seconds_of(lambda: run.checkpoints.save(run.state, model, run.optimizer)),
        save_bytes=sum(file.stat().st_size for file in folder.iterdir()),
        peak_bytes=_foreseen_peak(run),
        total_steps=schedule.total_steps,
        total_tokens=schedule.total_tokens,
        scores=schedule.scores,
    )


def _foreseen_peak(run: Run) -> int:
    """Return what the run will hold at most; on a CPU freed memory piles up between its bounds."""
    if run.device.type == "cuda":
        return run.peak_bytes()
    return round(max(_LATER * run.peak_bytes(), run.freed_memory.bound()))


def _seconds_of(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
