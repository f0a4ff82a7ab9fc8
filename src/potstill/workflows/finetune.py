"""`finetune`: a task model from a pre-trained one."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from potstill.architectures.heads import POOLINGS, Pooling
from potstill.bundle.manifest import Manifest, fingerprint
from potstill.bundle.opening import open_model
from potstill.bundle.write import BundleContent, write_bundle
from potstill.data.columns import Columns, select_columns
from potstill.data.overlap import find_overlap
from potstill.data.readers import read_rows
from potstill.data.rows import Rows
from potstill.data.splits import split_rows
from potstill.files import require_free, told_in_one_line
from potstill.hardware import usable_threads
from potstill.models.loading import load_with_new_head, tensors_of
from potstill.models.precision import resolve_device, resolve_precision
from potstill.models.task_model import TaskModel
from potstill.recipe import TrainingRecipe, recipe_hash, require_choice, require_range
from potstill.report import Measured, Report
from potstill.runtime.torch_engine import TorchEngine
from potstill.tasks.classification import Classification
from potstill.text.encoded import Encoded
from potstill.text.ragged import RaggedBatch
from potstill.train.checkpoints import CheckpointFolder
from potstill.train.compact_words import only_words_of
from potstill.train.hard_label_objective import HardLabelObjective
from potstill.train.loop import TrainingResult, train
from potstill.train.progress import Listener, log_to
from potstill.train.world import World, join_world, leave_world

TASKS = ("classification",)
_LOG_NAME = "log.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneRecipe(TrainingRecipe):
    """How a task model is trained.

    Raises:
        RecipeError: a setting outside its range.
    """

    task: str = "classification"
    pooling: str = "first"  # first: Hugging Face's form; mean: potstill's alone
    max_length: int = 128  # tokens of a text; longer ones are cut and counted
    dev_share: float = 0.1  # of the training rows, where no dev file is given

    def __post_init__(self) -> None:
        """Refuse what cannot be run, with the setting's name."""
        TrainingRecipe.__post_init__(self)
        require_choice("task", self.task, TASKS)
        require_choice("pooling", self.pooling, POOLINGS)
        require_range("max_length", self.max_length, at_least=3)
        require_range("dev_share", self.dev_share, above=0.0, below=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a fine-tuning reads."""

    model: str | Path  # a folder or "hub:NAME"
    train: object  # anything that read_rows takes
    dev: object | None = None  # None: carved from the training rows with the seed
    allow_pickle: bool = False  # convert a pickle-only model once, in a child process
    columns: Columns = field(default_factory=Columns)


def finetune(
    inputs: Inputs,
    recipe: FinetuneRecipe,
    *,
    out: Path,
    device: str = "auto",
    threads: int | None = None,
    listeners: tuple[Listener, ...] = (),
) -> Report:
    """Fine-tune a model and write it as a bundle.

    The run's state stands in `<out>.run` until the bundle is written; the same call again resumes.

    Raises:
        InputError: wrong model, rows, settings or output.
        RunError: out of memory, diverged, disk full.
        Stopped: by a signal; resumable.
    """
    require_free(out)
    if threads is not None:
        require_range("threads", threads, at_least=1)
    world = join_world(device)
    torch.set_num_threads(threads or max(1, usable_threads() // world.local_size))
    try:
        return _Finetuning(inputs, recipe, out, device, world).run(listeners)
    finally:
        leave_world()


class _Finetuning:
    """The parts of one fine-tuning, made in order."""

    def __init__(
        self, inputs: Inputs, recipe: FinetuneRecipe, out: Path, device: str, world: World
    ) -> None:
        self.recipe, self.out, self.world = recipe, out, world
        self.device = _own_device(device, world)
        resolve_precision(recipe.precision, self.device, training=True)
        self.folder = open_model(inputs.model, allow_pickle=inputs.allow_pickle)
        self.tokenizer = self.folder.tokenizer()
        self.train_rows, self.dev_rows = _rows(inputs, recipe)
        self.task = Classification.from_rows(self.train_rows)
        self.targets = self.task.targets(self.train_rows)
        self.dev_targets = self.task.targets(self.dev_rows)
        self.max_length = min(recipe.max_length, self.folder.config.max_length)
        self.warnings = self.folder.warnings()

    def run(self, listeners: tuple[Listener, ...]) -> Report:
        """Train, keep the best, write the bundle."""
        texts = self._encode(self.train_rows)
        dev_texts = self._encode(self.dev_rows)
        self._note_overlap()
        pooling: Pooling = "mean" if self.recipe.pooling == "mean" else "first"
        head = self.task.head(pooling)
        model = load_with_new_head(self.folder, head, seed=self.recipe.seed).to(self.device)
        checkpoints = CheckpointFolder(self.out.with_name(self.out.name + ".run"))
        if self.world.is_main:
            with told_in_one_line(checkpoints.path):
                checkpoints.path.mkdir(parents=True, exist_ok=True)
            log = checkpoints.path / _LOG_NAME
            listeners = (*listeners, told_in_one_line(log)(log_to(log)))
        with only_words_of(model, [texts.batch, dev_texts.batch]) as renumber:
            result = train(
                model,
                HardLabelObjective(renumber(texts.batch), self.targets),
                self.recipe,
                checkpoints=checkpoints,
                recipe_hash=self._hash(texts, dev_texts),
                score=self._scorer(model, renumber(dev_texts.batch)),
                listeners=listeners,
                world=self.world,
            )
        return self._finish(model, result, checkpoints.path)

    def _encode(self, rows: Rows) -> Encoded:
        encoded = self.tokenizer.encode(rows.column("text"), max_length=self.max_length)
        cut = int(np.count_nonzero(encoded.truncated))
        if cut:
            self.warnings.append(
                f"{cut} of {len(rows)} texts of {rows.source} were cut at {self.max_length} "
                f"tokens; {int(encoded.dropped_tokens.sum()):,} tokens were dropped"
            )
        return encoded

    def _note_overlap(self) -> None:
        overlap = find_overlap(self.train_rows, self.dev_rows)
        if overlap.count:
            self.warnings.append(overlap.describe())

    def _scorer(self, model: TaskModel, dev_texts: RaggedBatch) -> Callable[[], float]:
        precision = resolve_precision(self.recipe.precision, self.device, training=True)
        engine = TorchEngine(model, precision=precision)

        def score() -> float:
            return self.task.score(engine.run(dev_texts)["logits"], self.dev_targets)

        return score

    def _hash(self, *encoded: Encoded) -> str:
        """Return the hash of all that decides the result: settings, model, rows."""
        digest = hashlib.sha256()
        for texts in encoded:
            digest.update(texts.batch.ids.tobytes() + texts.batch.offsets.tobytes())
        for rows in (self.train_rows, self.dev_rows):
            digest.update("\0".join(rows.column("label")).encode())
        return recipe_hash(
            self.recipe, model=fingerprint(self.folder.path), rows=digest.hexdigest()
        )

    def _finish(self, model: TaskModel, result: TrainingResult, run_folder: Path) -> Report:
        score = result.best_score
        assert score is not None, "the dev score is taken after the last step"
        manifest = Manifest(
            task=self.recipe.task,
            pooling=model.spec.pooling,
            max_length=self.max_length,
            lineage=self._lineage(result),
            measurements={"dev_accuracy": score, "train_seconds": round(result.seconds, 1)},
        )
        identity = ""
        if self.world.is_main:
            content = BundleContent(
                config=model.config,
                head=model.spec,
                tensors=tensors_of(model),
                tokenizer=self.tokenizer,
                manifest=manifest,
                hf_extras=self.folder.hf_config,
            )
            identity = write_bundle(self.out, content)
            shutil.rmtree(run_folder, ignore_errors=True)
        return Report(
            bundle=self.out,
            fingerprint=identity,
            task=self.recipe.task,
            metrics={"accuracy": Measured(value=score)},
            seconds=result.seconds,
            steps=result.steps,
            warnings=[*self.warnings, *result.warnings],
            details={
                "metrics_on": "dev",
                "best_step": result.best_step,
                "train_tokens": result.train_tokens,
                "precision": result.precision,
                "resumed_from": result.resumed_from,
            },
        )

    def _lineage(self, result: TrainingResult) -> dict[str, Any]:
        return {
            "verb": "finetune",
            "model": self.folder.path.name,
            "model_fingerprint": fingerprint(self.folder.path),
            "train": self.train_rows.source,
            "train_rows": len(self.train_rows),
            "dev_rows": len(self.dev_rows),
            "recipe": recipe_hash(self.recipe),
            "seed": self.recipe.seed,
            "steps": result.steps,
            "train_tokens": result.train_tokens,
            "precision": result.precision,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        }


def _rows(inputs: Inputs, recipe: FinetuneRecipe) -> tuple[Rows, Rows]:
    """Read training and dev rows; carve the latter from the former where none are given."""
    rows = select_columns(
        read_rows(inputs.train), inputs.columns, required=("text", "label"), optional=()
    )
    if inputs.dev is None:
        kept, dev = split_rows(rows, fraction=recipe.dev_share, seed=recipe.seed)
        return kept, dev
    dev = select_columns(
        read_rows(inputs.dev), inputs.columns, required=("text", "label"), optional=()
    )
    return rows, dev


def _own_device(device: str, world: World) -> torch.device:
    chosen = resolve_device(device)
    if chosen.type == "cuda" and world.size > 1:
        return torch.device("cuda", world.local_rank)
    return chosen
