"""`finetune --task masked-lm`: a model learns to guess hidden tokens, from scratch or further."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from potstill.architectures.config import EncoderConfig
from potstill.architectures.heads import HeadSpec
from potstill.architectures.presets import PRESETS, preset
from potstill.bundle.manifest import Manifest, fingerprint
from potstill.bundle.opening import open_model
from potstill.bundle.write import BundleContent, write_bundle
from potstill.errors import RecipeError
from potstill.files import require_free, told_in_one_line
from potstill.models.loading import load_task_model, load_with_new_head, tensors_of
from potstill.models.precision import resolve_precision
from potstill.models.task_model import TaskModel
from potstill.recipe import recipe_hash, settings_named
from potstill.report import Measured, Report
from potstill.train.checkpoints import CheckpointFolder
from potstill.train.held_out import HeldOutLoss
from potstill.train.loop import TrainingResult, train
from potstill.train.masked_lm_objective import MaskedLMObjective
from potstill.train.progress import Listener, log_to
from potstill.workflows.corpus_recipe import CorpusRecipe, settled
from potstill.workflows.passages import CorpusSources, Ground, read_passages
from potstill.workflows.task_rows import joined_world, own_device, run_folder

TASK = "masked-lm"
HEAD = HeadSpec(kind="masked-lm")


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedLMRecipe(CorpusRecipe):
    """How a masked-LM model is trained.

    Raises:
        RecipeError: a setting outside its range.
    """

    scratch: str = ""  # a preset's name, or WIDTHxLAYERS: nothing but the tokenizer is kept


# By name for --recipe; what they leave out is the default.
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "standard": {},
    # The masking of the original DistilBERT code, but drawn for each passage by itself.
    "distilbert": {"mask_smoothing": 0.7, "weight_decay": 0.0, "clip_norm": 5.0},
}


def named_recipe(name: str) -> Mapping[str, Any]:
    """Return the settings of a recipe that --recipe names; see `settings_named`."""
    return settings_named(name, RECIPES)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedLMInputs:
    """What a training reads."""

    model: str | Path  # a folder or "hub:NAME"; from scratch, its tokenizer alone
    corpus: CorpusSources
    allow_pickle: bool = False


def train_masked_lm(
    inputs: MaskedLMInputs,
    recipe: MaskedLMRecipe,
    *,
    out: Path,
    device: str = "auto",
    threads: int | None = None,
    listeners: tuple[Listener, ...] = (),
) -> Report:
    """Train a model to guess hidden tokens and write it as a bundle.

    A model without a masked-LM head gets one; its decoder is the word table itself. The run's state
    stands in `<out>.run` until the bundle is written, the corpus stays in `<out>.corpus`; the same
    call again resumes.

    Raises:
        InputError: wrong model, corpus, settings or output.
        RunError: out of memory, diverged, disk full.
        Stopped: by a signal; resumable.
    """
    require_free(out)
    with joined_world(device, threads) as world:
        ground = Ground(out=out, world=world, device=own_device(device, world), listeners=listeners)
        return _Training(inputs, recipe, ground).run()


class _Training:
    """The parts of one training, made in order."""

    def __init__(self, inputs: MaskedLMInputs, recipe: MaskedLMRecipe, ground: Ground) -> None:
        self.out, self.world, self.device = ground.out, ground.world, ground.device
        self.precision = resolve_precision(recipe.precision, self.device, training=True)
        self.folder = open_model(inputs.model, allow_pickle=inputs.allow_pickle)
        self.tokenizer = self.folder.tokenizer()
        self.scratch = scratch_config(
            recipe.scratch, self.folder.config, vocabulary_size=self.tokenizer.vocabulary_size
        )
        self.config = self.scratch or self.folder.config
        if recipe.max_length > self.config.max_length:
            raise RecipeError(
                f"max_length is {recipe.max_length}", allowed=f"at most {self.config.max_length}"
            )
        self.listeners = ground.listeners
        self.passages = read_passages(inputs.corpus, self.tokenizer, recipe, ground)
        tokens = int(self.passages.train.lengths.sum(dtype=np.int64))
        self.recipe = settled(recipe, corpus_tokens=tokens)

    def run(self) -> Report:
        """Train, keep the best, write the bundle."""
        model = self._start().to(self.device)
        held_out = HeldOutLoss(
            self.passages.held_out, self.passages.masking, precision=self.precision
        )
        before = held_out.measured(model)
        checkpoints = CheckpointFolder(run_folder(self.out))
        listeners = self.listeners
        if self.world.is_main:
            with told_in_one_line(checkpoints.path):
                checkpoints.path.mkdir(parents=True, exist_ok=True)
            log = checkpoints.path / "log.jsonl"
            listeners = (*listeners, told_in_one_line(log)(log_to(log)))
        result = train(
            model,
            MaskedLMObjective(self.passages.train, self.passages.masking),
            self.recipe,
            checkpoints=checkpoints,
            recipe_hash=recipe_hash(
                self.recipe, model=fingerprint(self.folder.path), corpus=self.passages.identity
            ),
            score=lambda: -held_out.of(model),
            listeners=listeners,
            world=self.world,
        )
        return self._finish(model, result, checkpoints.path, before, held_out.measured(model))

    def _start(self) -> TaskModel:
        """Return the model before its first step."""
        if self.scratch is not None:
            model = TaskModel(self.scratch, HEAD)
            model.initialize(self.recipe.seed)
            return model
        if self.folder.head.kind == HEAD.kind:
            return load_task_model(self.folder)
        return load_with_new_head(self.folder, HEAD, seed=self.recipe.seed)

    def _finish(
        self,
        model: TaskModel,
        result: TrainingResult,
        run: Path,
        before: Measured,
        after: Measured,
    ) -> Report:
        manifest = Manifest(
            task=TASK,
            max_length=self.config.max_length,
            lineage=self._lineage(result),
            measurements={
                "held_out_loss": after.value,
                "perplexity": math.exp(after.value),
                "train_seconds": round(result.seconds, 1),
            },
        )
        identity = ""
        if self.world.is_main:
            content = BundleContent(
                config=model.config,
                head=model.spec,
                tensors=tensors_of(model),
                tokenizer=self.tokenizer,
                manifest=manifest,
                hf_extras={} if self.scratch else self.folder.hf_config,
            )
            identity = write_bundle(self.out, content)
            shutil.rmtree(run, ignore_errors=True)
        return Report(
            bundle=self.out,
            fingerprint=identity,
            task=TASK,
            metrics={"held_out_loss": after, "perplexity": perplexity_of(after)},
            seconds=result.seconds,
            steps=result.steps,
            warnings=[*self.folder.warnings(), *self.passages.warnings, *result.warnings],
            details={
                "metrics_on": "held-out documents",
                "before": {"held_out_loss": before.to_json()},
                "best_step": result.best_step,
                "train_tokens": result.train_tokens,
                "corpus": str(self.passages.corpus.folder),
                "corpus_documents": self.passages.corpus.documents,
                "corpus_tokens": self.passages.corpus.total_tokens,
                "precision": result.precision,
                "resumed_from": result.resumed_from,
                "recipe": asdict(self.recipe),
            },
        )

    def _lineage(self, result: TrainingResult) -> dict[str, Any]:
        return {
            "verb": "finetune",
            "model": self.recipe.scratch or self.folder.path.name,
            "model_fingerprint": fingerprint(self.folder.path),
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


def perplexity_of(loss: Measured) -> Measured:
    """Return e to the power of a loss in nats, with its interval."""
    assert loss.low is not None, "a held-out loss has an interval"
    assert loss.high is not None, "a held-out loss has an interval"
    return Measured(
        value=math.exp(loss.value),
        low=math.exp(loss.low),
        high=math.exp(loss.high),
        greater_is_better=False,
    )


def scratch_config(word: str, like: EncoderConfig, *, vocabulary_size: int) -> EncoderConfig | None:
    """Return the sizes of a model that is drawn anew; None where an old one is trained further.

    Args:
        word: a preset's name, or WIDTHxLAYERS such as 384x6; empty: nothing is drawn anew.
        like: what WIDTHxLAYERS leaves open is as here; heads are 64 wide where that divides.
        vocabulary_size: of the tokenizer.

    Raises:
        RecipeError: neither, or sizes that no encoder can have.
    """
    if not word:
        return None
    if word in PRESETS:
        return replace(preset(word), vocabulary_size=vocabulary_size)
    width, sign, layers = word.partition("x")
    if not (sign and width.isdecimal() and layers.isdecimal()):
        raise RecipeError(
            f"scratch is {word!r}",
            allowed=f"WIDTHxLAYERS such as 384x6, {', '.join(sorted(PRESETS))}",
        )
    size = int(width)
    heads = size // 64 if size >= 64 and size % 64 == 0 else like.heads
    return replace(
        like,
        layers=int(layers),
        hidden_size=size,
        heads=heads,
        feed_forward_size=4 * size,
        vocabulary_size=vocabulary_size,
    )
