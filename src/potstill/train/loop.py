"""The one training loop: it takes an objective and a score function and knows no task.

Covered: one process or several under torchrun, fp32 and bf16 autocast, exact resume, stop by
signal, the best weights by dev score. Not covered: weights that do not fit one device.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from potstill.errors import Diverged, RecipeError, Stopped
from potstill.freed_memory import FreedMemory
from potstill.held_memory import peak_bytes
from potstill.models.layout import padding_share
from potstill.models.memory import told_when_memory_ends
from potstill.models.noise import Noise
from potstill.models.precision import DTYPES, Precision, resolve_precision
from potstill.models.task_model import TaskModel
from potstill.recipe import TrainingRecipe
from potstill.train.checkpoints import (
    CheckpointFolder,
    RunIdentity,
    RunState,
    adam_moments,
    pause_between,
    set_steps,
)
from potstill.train.divergence import PATIENCE, LossWatch, weighted
from potstill.train.objective import Objective
from potstill.train.optimizer import build_optimizer
from potstill.train.progress import Listener, Meter, Scored, StepFacts
from potstill.train.schedule import Schedule
from potstill.train.signals import StopRequest
from potstill.train.world import World

Score = Callable[[], float | Scored]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """How a run ended; the model holds the best weights, or the last where no score was taken."""

    steps: int
    train_tokens: int
    seconds: float  # of work, those before a resume included
    best_score: float | None
    best_step: int | None
    scores: list[list[float]]  # [step, dev score]
    precision: Precision
    resumed_from: int | None  # the step, None for an uninterrupted run
    warnings: list[str]


def train(  # noqa: PLR0913 - the parts of a run, each of its own kind
    model: TaskModel,
    objective: Objective,
    recipe: TrainingRecipe,
    *,
    checkpoints: CheckpointFolder,
    inputs: Mapping[str, str] | None = None,
    score: Score | None = None,
    listeners: tuple[Listener, ...] = (),
    world: World | None = None,
) -> TrainingResult:
    """Minimize the objective, resuming where the checkpoints end.

    Args:
        model: trained in place, on its own device.
        objective: the loss terms.
        recipe: the settings.
        checkpoints: where the run's state is kept; left as it is at the end.
        inputs: hashes of what decides the result beside the recipe, by name: a checkpoint of other
            ones is not of this run.
        score: takes the dev score of the model as it is now, greater is better, alone or with what
            is told beside it.
        listeners: called about once a second and at each score, in the main process.
        world: the processes; None: this one alone.

    Raises:
        Diverged: loss, gradient or score is not finite, and the last checkpoint is from before; or
            the loss stays far above the first step's, see `train.divergence`.
        OutOfMemory: a micro-batch does not fit.
        StorageError: the disk is full; the last checkpoint is whole.
        Stopped: SIGTERM, SIGHUP or Ctrl-C; a checkpoint was written.
        RecipeError: the checkpoints are of another run.
    """
    identity = RunIdentity.of(recipe, inputs or {})
    run = Run(model, objective, recipe, checkpoints, identity, world or World())
    with StopRequest() as stop:
        return run.work(score, listeners, stop)


class Run:
    """The moving parts of one run; see `train`."""

    def __init__(
        self,
        model: TaskModel,
        objective: Objective,
        recipe: TrainingRecipe,
        checkpoints: CheckpointFolder,
        identity: RunIdentity,
        world: World,
    ) -> None:
        torch.set_flush_denormal(True)  # without it some kernels slow down many times
        self.freed_memory = FreedMemory()
        self.model = model
        self.objective = objective
        self.recipe = recipe
        self.checkpoints = checkpoints
        self.world = world
        self.device = next(model.parameters()).device
        self.precision = resolve_precision(recipe.precision, self.device, training=True)
        self.schedule = Schedule(recipe, np.asarray(objective.lengths), world.size)
        if not len(self.schedule.lengths):
            raise RecipeError("there is no training row")
        self.optimizer = build_optimizer(model, recipe)
        self.state = RunState(**asdict(identity), step=0, **self._ground())
        self.warnings = _of_idle_processes(self.schedule)
        self.resumed_from = self._resume(identity)
        self.has_checkpoint = self.resumed_from is not None
        self.world.share_tensors(parameter.detach() for parameter in model.parameters())
        self._began = time.perf_counter() - self.state.seconds
        self._saved_at = time.perf_counter()
        self._save_took = 0.0

    def work(
        self,
        score: Score | None,
        listeners: tuple[Listener, ...],
        stop: StopRequest,
    ) -> TrainingResult:
        """Go on until the last step."""
        meter = Meter(self.schedule.total_steps)
        while self.state.step < self.schedule.total_steps:
            rate = self.schedule.learning_rate(self.state.step)
            losses, norm, tokens = self.step(rate)
            meter.add(losses, tokens)
            scored = self._score(score) if self.schedule.is_scored(self.state.step) else None
            if scored or meter.is_due or self.state.step == self.schedule.total_steps:
                facts = StepFacts(rate, norm, self.peak_bytes(), self._padding_share())
                moment = meter.moment(self.state.step, facts, scored, self.state.best_score)
                for listener in listeners if self.world.is_main else ():
                    listener(moment)
            self._keep(stop)
        return self._finish()

    def step(self, learning_rate: float) -> tuple[Mapping[str, float], float, int]:
        """Do one optimizer step; return the mean of each loss term, the norm, the real tokens."""
        losses, norm, tokens = self._computed(learning_rate)
        self._watch(losses)
        self._advance(tokens)
        return losses, norm, tokens

    def peak_bytes(self) -> int:
        """Return the most memory that was held: of the card's, or of this process."""
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device))
        return peak_bytes()

    def _padding_share(self) -> float:
        """Return the share of the step that was just done."""
        batches = self.schedule.micro_batches(self.state.step - 1)
        lengths = [self.schedule.lengths[rows] for rows in batches if rows.size]
        shares = [
            padding_share(each, self.device, is_cast=self.precision != "fp32") for each in lengths
        ]
        return float(np.average(shares, weights=[each.sum() for each in lengths]))

    def _computed(self, learning_rate: float) -> tuple[Mapping[str, float], float, int]:
        step = self.state.step
        batches = self._own_batches(step)
        totals = self._totals(batches)
        parts: dict[str, list[Tensor]] = {name: [] for name in self.objective.weights}
        self.optimizer.zero_grad(set_to_none=True)
        cure = self._anew("lower --set batch_tokens or --max-length")
        with told_when_memory_ends(self.device.type, cure=cure):
            for index, batch in batches.items():
                for name, value in self._backward(step, index, batch, totals).items():
                    parts[name].append(value)
                self.freed_memory.after_batch()
            self.world.sum_gradients(self.model)
            norm = self._update(learning_rate)
        # Read only now: a value read between micro-batches would make a card wait.
        sums = {name: sum(value.item() for value in values) for name, values in parts.items()}
        sums = self.world.sum_counts(sums, self.device)
        means = {name: value / max(totals[name], 1.0) for name, value in sums.items()}
        self._require_finite(means, norm)
        return means, norm, round(totals["tokens"])

    def _own_batches(self, step: int) -> dict[int, Any]:
        """Return this process's micro-batches of a step by their number in the whole step."""
        micro_batches = self.schedule.micro_batches(step)
        own = range(self.world.rank, len(micro_batches), self.world.size)
        return {
            index: self.objective.prepare(
                micro_batches[index], np.random.default_rng([self.recipe.seed, step, index])
            )
            for index in own
            if micro_batches[index].size
        }

    def _totals(self, batches: Mapping[int, Any]) -> dict[str, float]:
        """Return each term's positions in the whole step, over all processes, and its tokens."""
        totals = dict.fromkeys(self.objective.weights, 0.0)
        for batch in batches.values():
            for name, count in self.objective.counts(batch).items():
                totals[name] += count
        totals = self.world.sum_counts(totals, self.device)
        rows = np.concatenate(self.schedule.micro_batches(self.state.step))
        return totals | {"tokens": float(self.schedule.lengths[rows].sum())}

    def _backward(
        self, step: int, index: int, batch: Any, totals: Mapping[str, float]
    ) -> dict[str, Tensor]:
        """Add one micro-batch's share of the gradient; return the sum of each term."""
        # Seeded by place, so resuming does not change what is dropped.
        noise = Noise(self.recipe.seed, step, index, device=self.device)
        factors = {
            name: weight / max(totals[name], 1.0) for name, weight in self.objective.weights.items()
        }
        with torch.autocast(
            self.device.type,
            dtype=DTYPES[self.precision],
            enabled=self.precision != "fp32",
        ):
            sums = self.objective.loss_sums(self.model, batch, noise, factors)
        total = torch.stack([factors[name] * value for name, value in sums.items()]).sum()
        total.backward()  # type: ignore[no-untyped-call] # torch leaves this method unannotated
        return {name: value.detach() for name, value in sums.items()}

    def _update(self, learning_rate: float) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        length = float(norm.item())
        if math.isfinite(length):
            self.optimizer.step()
        return length

    def _require_finite(self, means: Mapping[str, float], norm: float) -> None:
        bad = [name for name, value in means.items() if not math.isfinite(value)]
        if bad or not math.isfinite(norm):
            what = f"the loss {', '.join(bad)}" if bad else "the gradient"
            raise Diverged(
                f"{what} is not finite at step {self.state.step + 1}",
                cure=self._anew("lower --learning-rate, or use --set precision=fp32"),
            )

    def _watch(self, means: Mapping[str, float]) -> None:
        """Stop a run whose losses are finite and yet say that it leads nowhere."""
        weights, loss = self.objective.weights, weighted(means, self.objective.weights)
        watch = LossWatch(**self.state.losses).after(loss, weights)
        if watch.has_diverged:
            step = self.state.step + 1
            raise Diverged(
                f"the run has diverged: from step {step - PATIENCE + 1} to {step} the loss was "
                f"above {watch.bound(weights):.4g}, and is {loss:.4g}; at step 1 it was "
                f"{watch.first:.4g}",
                cure=self._anew("lower --learning-rate"),
            )
        self.state = replace(self.state, losses=asdict(watch))

    def _anew(self, cure: str) -> str:
        """Return a cure that changes settings: a checkpoint of the present ones stands against it.

        Before the first checkpoint nothing does.
        """
        if not self.has_checkpoint:
            return cure
        kept = self.checkpoints.path
        return (
            f"remove {kept}, or name another --out, and {cure}: the checkpoint in {kept} is of "
            "these settings"
        )

    def _advance(self, tokens: int) -> None:
        self.state = replace(
            self.state,
            step=self.state.step + 1,
            train_tokens=self.state.train_tokens + tokens,
            seconds=time.perf_counter() - self._began,
        )

    def _score(self, score: Score | None) -> Scored | None:
        """Take the dev score in the main process, tell it to all and keep the best weights."""
        if score is None:
            return None
        found = score() if self.world.is_main else 0.0
        scored = found if isinstance(found, Scored) else Scored(found)
        taken = float(self.world.from_main(scored.value, self.device))
        step = self.state.step
        if not math.isfinite(taken):
            raise Diverged(
                f"the score is not finite at step {step}",
                cure=self._anew("lower --learning-rate, or use --set precision=fp32"),
            )
        self.state = replace(self.state, scores=[*self.state.scores, [step, taken]])
        if self.state.best_score is None or taken > self.state.best_score:
            sha256 = self.checkpoints.save_best(step, self.model) if self.world.is_main else None
            self.state = replace(self.state, best_score=taken, best_step=step, best_sha256=sha256)
        return Scored(taken, scored.parts)

    def _keep(self, stop: StopRequest) -> None:
        """Write a checkpoint when it is time, when asked to stop, and at the end."""
        wish = {"stop": float(stop.is_made), "due": float(self._checkpoint_is_due())}
        wish = self.world.sum_counts(wish, self.device)
        is_last = self.state.step == self.schedule.total_steps
        if wish["stop"] or wish["due"] or is_last:
            self._save()
        if wish["stop"]:  # at the last step too: more may come after it
            raise Stopped(
                f"stopped after step {self.state.step} of {self.schedule.total_steps}",
                cure="repeat the command to go on",
            )

    def _checkpoint_is_due(self) -> bool:
        if not self.world.is_main:
            return False
        pause = pause_between(self.recipe.checkpoint_every_s, self._save_took)
        return time.perf_counter() - self._saved_at >= pause

    def _save(self) -> None:
        self.has_checkpoint = True
        if not self.world.is_main:
            return
        began = time.perf_counter()
        self.checkpoints.save(self.state, self.model, self.optimizer)
        self._saved_at = time.perf_counter()
        self._save_took = self._saved_at - began

    def _resume(self, identity: RunIdentity) -> int | None:
        """Go back to the newest checkpoint, found and read by the main process."""
        found = self.checkpoints.newest(identity) if self.world.is_main else None
        if self.world.is_main:
            self._note_damaged(found)
        told = self.world.from_main(asdict(found) if found else None, self.device)
        if told is None:
            return None
        self.state = RunState(**told)
        if self.world.is_main:
            self.checkpoints.restore(self.state, self.model, self.optimizer)
        self.world.share_tensors(adam_moments(self.model, self.optimizer))
        set_steps(self.optimizer, self.state.step)
        self._note_changed_ground()
        return self.state.step

    def _ground(self) -> dict[str, Any]:
        """Return what decides the last bits of a result beside settings and data."""
        return {
            "torch_version": torch.__version__,
            "threads": torch.get_num_threads(),
            "processes": self.world.size,
            "precision": self.precision,
            "device": self.device.type,
        }

    def _note_damaged(self, found: RunState | None) -> None:
        """Warn of checkpoints that were passed over since a file of theirs is not whole."""
        steps = self.checkpoints.steps_after(found.step if found else 0)
        if steps:
            self.warnings.append(
                f"damaged checkpoints, passed over: of step {', '.join(map(str, steps))}; "
                + (f"went on from step {found.step}" if found else "the run began anew")
            )

    def _note_changed_ground(self) -> None:
        """Warn where the machine's ground differs from the one that wrote the checkpoint."""
        for name, now in self._ground().items():
            before = getattr(self.state, name)
            if before != now:
                self.warnings.append(
                    f"resumed with {name} {now}, begun with {before}: the result will not be "
                    "equal bit for bit to an uninterrupted run's"
                )
        self.state = replace(self.state, **self._ground())

    def _finish(self) -> TrainingResult:
        if self.state.best_step is not None and self.state.best_step != self.state.step:
            if self.world.is_main:
                self.checkpoints.restore_best(self.state.best_step, self.model)
            self.world.share_tensors(parameter.detach() for parameter in self.model.parameters())
        return TrainingResult(
            steps=self.state.step,
            train_tokens=self.state.train_tokens,
            seconds=self.state.seconds,
            best_score=self.state.best_score,
            best_step=self.state.best_step,
            scores=self.state.scores,
            precision=self.precision,
            resumed_from=self.resumed_from,
            warnings=self.warnings,
        )


def _of_idle_processes(schedule: Schedule) -> list[str]:
    rows = len(schedule.lengths) / schedule.steps_per_epoch
    if rows >= schedule.processes:
        return []
    setting = "step_tokens" if schedule.recipe.step_tokens else "rows_per_step"
    return [
        f"there are more processes ({schedule.processes}) than rows in a step ({rows:.2g}): some "
        f"have no work; raise --set {setting}, or start fewer"
    ]
