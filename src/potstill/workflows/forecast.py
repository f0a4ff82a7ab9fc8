"""`forecast`: what a training on a corpus will cost, before it is spent.

A few steps are done and measured, and nothing of them is kept. The corpus is built as the run would
build it, where the run will find it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from potstill.distillation.guessing import ClockedGuesses
from potstill.files import require_free, workspace_beside
from potstill.recipe import require_range
from potstill.train.progress import Listener, counting
from potstill.train.rehearsal import Rehearsal, rehearse
from potstill.workflows.corpus_run import CorpusRun, Training
from potstill.workflows.general_distill import GeneralDistillation, GeneralInputs
from potstill.workflows.general_recipe import GeneralRecipe
from potstill.workflows.masked_lm import MaskedLMInputs, MaskedLMRecipe, MaskedLMTraining
from potstill.workflows.passages import Ground
from potstill.workflows.task_rows import joined_world, own_device

_HOUR = 3_600.0
_CHECKPOINTS = 3  # two are kept, and the next is written before the older goes
_WEIGHTS = 3  # two best ones, and those of the bundle; a third of a checkpoint each


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastOptions:
    """How long is measured, and what an hour costs.

    Raises:
        RecipeError: a value outside its range.
    """

    seconds: float = 30.0  # of steps
    price_per_hour: float | None = None  # of the machine, in any currency

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        require_range("seconds", self.seconds, at_least=0.0, below=_HOUR)
        if self.price_per_hour is not None:
            require_range("price_per_hour", self.price_per_hour, at_least=0.0, below=math.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a run will take."""

    seconds: float  # of training: steps, scores, checkpoints, and a teacher that is stored
    steps: int
    tokens: int
    tokens_per_second: float
    peak_bytes: int  # memory of this process, or of its card
    disk_bytes: int  # of checkpoints, stored signals and the bundle at most, beside the corpus
    corpus: str  # folder, which the run will use
    processes: int
    price: float | None
    measured: Mapping[str, float]  # what all is reckoned from

    @property
    def hours(self) -> float:
        """Return the run's time in hours."""
        return self.seconds / _HOUR

    def to_json(self) -> dict[str, Any]:
        """Return the answer of `--json`."""
        return {**asdict(self), "hours": self.hours}


def forecast(  # noqa: PLR0913 - the parts of a run, each of its own kind
    inputs: GeneralInputs | MaskedLMInputs,
    recipe: GeneralRecipe | MaskedLMRecipe,
    options: ForecastOptions | None = None,
    *,
    out: Path,
    device: str = "auto",
    threads: int | None = None,
    listeners: tuple[Listener, ...] = (),
) -> Forecast:
    """Do a few steps of `distill --corpus` or of `finetune --task masked-lm` and reckon the rest.

    Args:
        inputs: of the one verb or the other.
        recipe: of the same verb.
        options: see there.
        out: what the run will write; nothing but the corpus is written beside it.
        device: auto, cpu, cuda, mps.
        threads: of the processor; None: what affinity and quota allow.
        listeners: told of the progress.

    Raises:
        InputError: wrong model, corpus, settings or output.
        RunError: what would end the run in its first steps: out of memory, diverged, disk full.
    """
    options = options or ForecastOptions()
    require_free(out)
    with joined_world(device, threads) as world:
        ground = Ground(out=out, world=world, device=own_device(device, world), listeners=listeners)
        if isinstance(inputs, GeneralInputs):
            assert isinstance(recipe, GeneralRecipe), "a distillation has a recipe of its own"
            general = GeneralDistillation(inputs, recipe, ground)
            clocked: list[ClockedGuesses] = []
            training = general.training(clocked=clocked)
            return _forecast(training, general.corpus, options, next(iter(clocked), None))
        assert isinstance(recipe, MaskedLMRecipe), "a masked-LM training has one of its own"
        run = MaskedLMTraining(inputs, recipe, ground)
        return _forecast(run.training(), run.corpus, options)


def _forecast(
    training: Training,
    corpus: CorpusRun,
    options: ForecastOptions,
    teacher: ClockedGuesses | None = None,
) -> Forecast:
    """Measure and reckon; a teacher that will be stored is asked once of each passage."""
    ground = corpus.ground
    with workspace_beside(ground.out) as folder:
        found = rehearse(
            training.model,
            training.objective,
            corpus.recipe,
            score=training.score,
            folder=folder,
            seconds=options.seconds,
            world=ground.world,
            tell=counting(ground.listeners, "seconds of steps measured"),
            warmed=None if teacher is None else teacher.begin,
        )
    storing, stored_bytes = 0.0, 0
    if teacher is not None:
        lengths = corpus.passages.train.lengths
        storing = teacher.seconds / found.tokens * float(lengths.sum(dtype=np.int64))
        stored_bytes = teacher.disk_bytes(lengths)
        found = replace(found, seconds=found.seconds - teacher.seconds)
    seconds = storing + found.run_seconds(corpus.recipe)
    price = options.price_per_hour
    return Forecast(
        seconds=seconds,
        steps=found.total_steps,
        tokens=found.total_tokens,
        tokens_per_second=found.tokens_per_second,
        peak_bytes=found.peak_bytes,
        disk_bytes=round(found.save_bytes * (_CHECKPOINTS + _WEIGHTS / 3)) + stored_bytes,
        corpus=str(corpus.passages.corpus.folder),
        processes=ground.world.size,
        price=None if price is None else price * seconds / _HOUR,
        measured={**_measured(found), "storing_seconds": storing},
    )


def _measured(found: Rehearsal) -> dict[str, float]:
    names = ("steps", "tokens", "seconds", "score_seconds", "save_seconds", "save_bytes", "scores")
    return {name: getattr(found, name) for name in names}
