"""What trainings on a corpus have in common: what is read, who listens, what is written."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from potstill.architectures.config import EncoderConfig
from potstill.bundle.folder import ModelFolder
from potstill.bundle.manifest import Manifest
from potstill.bundle.write import BundleContent, write_bundle
from potstill.errors import RecipeError
from potstill.files import told_in_one_line
from potstill.models.loading import tensors_of
from potstill.models.precision import Precision, resolve_precision
from potstill.models.task_model import TaskModel
from potstill.recipe import recipe_hash
from potstill.report import Measured, Report
from potstill.text.tokenizer import Tokenizer
from potstill.train.checkpoints import CheckpointFolder
from potstill.train.held_out import HeldOutLoss
from potstill.train.loop import Score, TrainingResult, train
from potstill.train.objective import Objective
from potstill.train.progress import LOG_NAME, Listener, log_to
from potstill.workflows.corpus_recipe import CorpusRecipe, settled
from potstill.workflows.passages import CorpusSources, Ground, PassageSet, read_passages
from potstill.workflows.probes import Probe, read_probes
from potstill.workflows.task_rows import run_folder

TASK = "masked-lm"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Training:
    """A model before its first step, what it minimizes, and how it is scored on the way."""

    model: TaskModel
    objective: Objective
    score: Score
    identity: Mapping[str, str]  # what makes a run another one, beside recipe and corpus


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusRun:
    """One run: where it stands, what it reads and how."""

    ground: Ground
    recipe: Any  # a CorpusRecipe, its budget found
    folder: ModelFolder  # the model that is trained further, or the teacher
    config: EncoderConfig  # of the model that is trained
    tokenizer: Tokenizer
    passages: PassageSet
    precision: Precision
    probes: tuple[Probe, ...] = ()

    @property
    def checkpoints(self) -> CheckpointFolder:
        """Return where the run's state stands."""
        return CheckpointFolder(run_folder(self.ground.out))

    def held_out(self) -> HeldOutLoss:
        """Return the loss of the passages that nobody is trained on."""
        return HeldOutLoss(self.passages.held_out, self.passages.masking, precision=self.precision)

    def train(self, training: Training) -> TrainingResult:
        """Train to the end; the model then holds the weights of the best score."""
        return train(
            training.model,
            training.objective,
            self.recipe,
            checkpoints=self.checkpoints,
            inputs={**training.identity, "corpus": self.passages.identity},
            score=training.score,
            listeners=self.listeners(),
            world=self.ground.world,
        )

    def listeners(self) -> tuple[Listener, ...]:
        """Return who is told of the progress, the run's own log among them."""
        if not self.ground.world.is_main:
            return ()
        folder = self.checkpoints.path
        log = folder / LOG_NAME
        return (*self.ground.listeners, told_in_one_line(log)(log_to(log)))

    def written(  # noqa: PLR0913 - what was trained, what was found, what is told of it
        self,
        model: TaskModel,
        result: TrainingResult,
        loss: Measured,
        *,
        lineage: Mapping[str, Any],
        measurements: Mapping[str, float],
        details: Mapping[str, Any],
        hf_extras: Mapping[str, Any],
    ) -> Report:
        """Write the bundle of a trained model and tell what was found."""
        found = {
            "held_out_loss": loss.value,
            **measurements,
            "train_seconds": round(result.seconds, 1),
        }
        manifest = Manifest(
            task=TASK,
            max_length=self.config.max_length,
            lineage={**lineage, **self._lineage(result)},
            # JSON has no word for what is not finite.
            measurements={name: value for name, value in found.items() if math.isfinite(value)},
        )
        identity = ""
        if self.ground.world.is_main:
            content = BundleContent(
                config=model.config,
                head=model.spec,
                tensors=tensors_of(model),
                tokenizer=self.tokenizer,
                manifest=manifest,
                hf_extras=hf_extras,
                training_log=self.checkpoints.path / LOG_NAME,
            )
            identity = write_bundle(self.ground.out, content)
            shutil.rmtree(self.checkpoints.path, ignore_errors=True)
        corpus = self.passages.corpus
        return Report(
            bundle=self.ground.out,
            fingerprint=identity,
            task=TASK,
            metrics={"held_out_loss": loss, "perplexity": perplexity_of(loss)},
            seconds=result.seconds,
            steps=result.steps,
            warnings=[*self.folder.warnings(), *self.passages.warnings, *result.warnings],
            details={
                "metrics_on": "held-out documents",
                **details,
                "best_step": result.best_step,
                "train_tokens": result.train_tokens,
                "corpus": str(corpus.folder),
                "corpus_documents": corpus.documents,
                "corpus_tokens": corpus.total_tokens,
                **self.passages.short,
                "precision": result.precision,
                "resumed_from": result.resumed_from,
                "recipe": asdict(self.recipe),
            },
        )

    def _lineage(self, result: TrainingResult) -> dict[str, Any]:
        return {
            **self.passages.told,
            "recipe": recipe_hash(self.recipe),
            "seed": self.recipe.seed,
            "steps": result.steps,
            "learning_rate": self.recipe.learning_rate,
            "train_tokens": result.train_tokens,
            "precision": result.precision,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        }


def corpus_run(
    ground: Ground,
    recipe: CorpusRecipe,
    folder: ModelFolder,
    config: EncoderConfig,
    sources: CorpusSources,
) -> CorpusRun:
    """Read the passages of a run and find its budget.

    Raises:
        InputError: settings, a corpus or files that cannot be used; see `read_passages`.
    """
    if recipe.max_length > config.max_length:
        raise RecipeError(
            f"max_length is {recipe.max_length}", allowed=f"at most {config.max_length}"
        )
    tokenizer = folder.tokenizer()
    precision = resolve_precision(recipe.precision, ground.device, training=True)
    probes = read_probes(
        sources.probes, tokenizer, max_length=recipe.max_length, precision=precision
    )
    passages = read_passages(sources, tokenizer, recipe, ground)
    tokens = int(passages.train.lengths.sum(dtype=np.int64))
    return CorpusRun(
        ground=ground,
        recipe=settled(recipe, corpus_tokens=tokens),
        folder=folder,
        config=config,
        tokenizer=tokenizer,
        passages=passages,
        precision=precision,
        probes=probes,
    )


def perplexity_of(loss: Measured) -> Measured:
    """Return e to the power of a loss in nats, with its interval; inf where no float holds it."""
    assert loss.low is not None, "a held-out loss has an interval"
    assert loss.high is not None, "a held-out loss has an interval"
    with np.errstate(over="ignore"):
        value, low, high = np.exp([loss.value, loss.low, loss.high]).tolist()
    return Measured(value=value, low=low, high=high, greater_is_better=False)
