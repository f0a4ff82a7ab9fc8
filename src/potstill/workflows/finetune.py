"""`finetune`: a task model from a pre-trained one."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from potstill.architectures.heads import POOLINGS, Pooling
from potstill.bundle.manifest import Manifest, fingerprint
from potstill.bundle.opening import open_model
from potstill.bundle.write import BundleContent, write_bundle
from potstill.data.columns import Columns
from potstill.data.rows import Rows
from potstill.files import require_free, told_in_one_line
from potstill.models.loading import load_task_model, load_with_new_head, tensors_of
from potstill.models.output_scale import answer_in_numbers
from potstill.models.precision import resolve_precision
from potstill.models.task_model import TaskModel
from potstill.recipe import (
    TrainingRecipe,
    recipe_hash,
    require_choice,
    require_range,
    settings_named,
)
from potstill.report import Measured, Report
from potstill.tasks.classification import Classification
from potstill.tasks.embedding import Embedding
from potstill.tasks.evaluation import require_value
from potstill.tasks.kinds import ANSWERABLE, task_from_rows
from potstill.tasks.regression import Regression
from potstill.tasks.task import Task
from potstill.text.ragged import RaggedBatch
from potstill.train.answer_losses import AnswerLoss, ClassLoss, loss_of
from potstill.train.automatic import settle
from potstill.train.checkpoints import CheckpointFolder
from potstill.train.compact_words import only_words_of
from potstill.train.label_objective import LabelObjective
from potstill.train.loop import TrainingResult, train
from potstill.train.objective import Objective
from potstill.train.pair_objective import PairObjective
from potstill.train.progress import LOG_NAME, Listener, log_to
from potstill.train.world import World
from potstill.workflows.dev_score import DevScore
from potstill.workflows.sole_writer import sole_writer
from potstill.workflows.task_facts import embedding_head, task_facts, vector_recipe_of
from potstill.workflows.task_rows import (
    asked_lengths,
    joined_world,
    learnable,
    own_device,
    require_lengths,
    rows_hash,
    run_folder,
    train_and_dev,
    warn_of_rows,
    windows_of,
)

TASKS = ANSWERABLE
CLASS_WEIGHTS = ("none", "sqrt", "balanced")
_TEXTS_SEEN = 30_000  # of all epochs together, where the recipe leaves epochs open


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneRecipe(TrainingRecipe):
    """How a task model is trained.

    Raises:
        RecipeError: a setting outside its range.
    """

    epochs: float = 0.0  # 0: by the number of rows, 3 to 15
    learning_rate: float = 0.0  # 0: by the width of the model, 2e-5 to 1e-4
    task: str = "classification"
    pooling: str = "first"  # first: Hugging Face's form; mean: potstill's alone
    primary: str = ""  # metric to choose by on dev; empty: the task's own
    class_weights: str = "none"  # none; sqrt, balanced: rare classes count more in the loss
    max_length: int = 128  # tokens of a text, or of a window
    long_texts: str = ""  # cut: the rest is lost and counted; windows; empty: the task's way
    overlap: int = 0  # tokens that two windows share; 0: a quarter of max_length
    dev_share: float = 0.1  # of the training rows, where no dev file is given

    def __post_init__(self) -> None:
        """Refuse what cannot be run, with the setting's name."""
        TrainingRecipe.__post_init__(self)
        require_choice("task", self.task, TASKS)
        require_choice("pooling", self.pooling, POOLINGS)
        require_choice("class_weights", self.class_weights, CLASS_WEIGHTS)
        require_range("max_length", self.max_length, at_least=3)
        require_lengths(self.long_texts, self.overlap, self.max_length)
        require_range("dev_share", self.dev_share, above=0.0, below=1.0)


# By name for --recipe; what they leave out is the default.
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "standard": {},
    # Devlin et al. 2018, appendix A.3: for large data and models of BERT-base's width.
    "bert": {"epochs": 3.0, "learning_rate": 2e-5, "warmup_share": 0.1},
    # A rare class counts more in the loss and as much as any other in the choice.
    "imbalanced": {"primary": "macro_f1", "class_weights": "sqrt"},
    # Few rows: more passes, and the score taken seldom enough to mean something.
    "small": {"epochs": 20.0, "warmup_share": 0.1},
    # Many rows: one pass sees enough; dev is asked often, so that the best moment is not missed.
    "large": {"epochs": 2.0, "scores_per_epoch": 4},
}


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
    with joined_world(device, threads) as world:
        tuning = _Finetuning(inputs, recipe, out, device, world)
        with sole_writer(out, world):
            return tuning.run(listeners)


class _Finetuning:
    """The parts of one fine-tuning, made in order."""

    task: Task

    def __init__(
        self, inputs: Inputs, recipe: FinetuneRecipe, out: Path, device: str, world: World
    ) -> None:
        self.out, self.world, self.recipe = out, world, recipe
        self.device = own_device(device, world)
        precision = resolve_precision(recipe.precision, self.device, training=True)
        self.folder = open_model(inputs.model, allow_pickle=inputs.allow_pickle)
        self.tokenizer = self.folder.tokenizer()
        self.warnings = self.folder.warnings()
        self.train_rows, self.dev_rows = train_and_dev(
            recipe.task,
            inputs.train,
            inputs.dev,
            inputs.columns,
            dev_share=recipe.dev_share,
            seed=recipe.seed,
            warnings=self.warnings,
            pose=self._pose,
        )
        if isinstance(self.task, Regression):
            self.task = Regression.from_rows(self.train_rows)  # the scale of what is learned
        elif isinstance(self.task, Embedding):
            self.task = Embedding(embedding_head(self.folder))
        primary = recipe.primary or self.task.primary(has_gold=True)
        self.task.metric(primary)
        gold = self.task.gold(self.dev_rows)
        require_value(self.task, primary, gold, source=self.dev_rows.source)
        self.recipe = settle(
            replace(recipe, primary=primary),
            rows=len(self.train_rows),
            width=self.folder.config.hidden_size,
            texts_seen=_TEXTS_SEEN,
            rate_factor=1.0,
        )
        self.lengths = asked_lengths(
            self.task,
            max_length=min(recipe.max_length, self.folder.config.max_length),
            long_texts=recipe.long_texts,
            overlap=recipe.overlap,
        )
        self.texts, dev_texts = (
            windows_of(self.task, self.tokenizer, rows, self.lengths, warnings=self.warnings)
            for rows in (self.train_rows, self.dev_rows)
        )
        warn_of_rows(self.task, self.train_rows, self.dev_rows, self.warnings)
        self.rows = learnable(self.task, self.train_rows, self.texts, has_labels=True)
        self.dev = DevScore(
            task=self.task,
            rows=self.dev_rows,
            windows=dev_texts,
            gold=gold,
            primary=primary,
            precision=precision,
        )

    def _pose(self, rows: Rows) -> None:
        """Find the task in all labelled rows: those that are carved to be dev rows belong to it."""
        self.task = task_from_rows(self.recipe.task, rows)

    def run(self, listeners: tuple[Listener, ...]) -> Report:
        """Train, keep the best, write the bundle."""
        pooling: Pooling = "mean" if self.recipe.pooling == "mean" else "first"
        head = self.task.head(pooling)
        if self.folder.vector_map is not None and isinstance(self.task, Embedding):
            model = load_task_model(self.folder)  # with the map that it has
        else:
            model = load_with_new_head(self.folder, head, seed=self.recipe.seed)
        model = model.to(self.device)
        checkpoints = CheckpointFolder(run_folder(self.out))
        if self.world.is_main:
            log = checkpoints.path / LOG_NAME
            listeners = (*listeners, told_in_one_line(log)(log_to(log)))
        dev_texts = self.dev.windows.texts
        with only_words_of(model, [self.rows.texts, dev_texts]) as renumber:
            result = train(
                model,
                self._objective(renumber(self.rows.texts)),
                self.recipe,
                checkpoints=checkpoints,
                inputs={
                    "model": fingerprint(self.folder.path),
                    "rows": rows_hash(
                        [self.texts, self.dev.windows], [self.train_rows, self.dev_rows]
                    ),
                },
                score=self.dev.watching(model, renumber(dev_texts)),
                listeners=listeners,
                world=self.world,
            )
        return self._finish(model, result, checkpoints.path)

    def _objective(self, texts: RaggedBatch) -> Objective:
        if isinstance(self.task, Embedding):
            return PairObjective(texts, self.task.likeness(self.train_rows))
        return LabelObjective(self.rows.with_texts(texts), self._loss())

    def _loss(self) -> AnswerLoss:
        if not isinstance(self.task, Classification):
            return loss_of(self.task)
        labels = self.task.gold(self.train_rows)
        return ClassLoss(class_weights(self.recipe.class_weights, labels, len(self.task.labels)))

    def _finish(self, model: TaskModel, result: TrainingResult, run: Path) -> Report:
        score = result.best_score
        assert score is not None, "the dev score is taken after the last step"
        primary = self.recipe.primary
        if isinstance(self.task, Regression):
            answer_in_numbers(model, center=self.task.center, scale=self.task.scale)
        manifest = Manifest(
            primary=primary,
            **task_facts(self.dev.fitted_task(model), model.spec, self.lengths, self.dev_rows),
            lineage=self._lineage(result),
            measurements={f"dev_{primary}": score, "train_seconds": round(result.seconds, 1)},
        )
        identity = ""
        if self.world.is_main:
            content = BundleContent(
                config=model.config,
                head=model.spec,
                tensors=tensors_of(model),
                tokenizer=self.tokenizer,
                vectors=vector_recipe_of(self.folder, model.spec),
                manifest=manifest,
                hf_extras=self.folder.hf_config,
                training_log=run / LOG_NAME,
            )
            identity = write_bundle(self.out, content)
            shutil.rmtree(run, ignore_errors=True)
        return Report(
            bundle=self.out,
            fingerprint=identity,
            task=self.recipe.task,
            metrics={primary: Measured(value=score)},
            seconds=result.seconds,
            steps=result.steps,
            warnings=[*self.warnings, *result.warnings],
            details={
                "metrics_on": "dev",
                "primary": primary,
                "best_step": result.best_step,
                "train_tokens": result.train_tokens,
                "precision": result.precision,
                "resumed_from": result.resumed_from,
                "recipe": asdict(self.recipe),
            },
        )

    def _lineage(self, result: TrainingResult) -> dict[str, Any]:
        return {
            "verb": "finetune",
            "model": self.folder.path.name,
            "model_fingerprint": fingerprint(self.folder.path),
            "train": Path(self.train_rows.source).name,  # not where it stands on this disk
            "train_rows": len(self.train_rows),
            "dev_rows": len(self.dev_rows),
            "recipe": recipe_hash(self.recipe),
            "seed": self.recipe.seed,
            "steps": result.steps,
            "learning_rate": self.recipe.learning_rate,
            "train_tokens": result.train_tokens,
            "precision": result.precision,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        }


def named_recipe(name: str) -> Mapping[str, Any]:
    """Return the settings of a recipe that --recipe names; see `settings_named`."""
    return settings_named(name, RECIPES)


def class_weights(how: str, targets: NDArray[np.int64], classes: int) -> NDArray[np.float32] | None:
    """Return how much a row of each class counts in the loss, (C,), 1 on average over the rows.

    "balanced" gives every class the same say, "sqrt" goes half the way (in logarithms).
    """
    if how == "none":
        return None
    shares = np.bincount(targets, minlength=classes) / len(targets)
    weights = np.maximum(shares, 1e-9) ** (-1.0 if how == "balanced" else -0.5)
    normed: NDArray[np.float32] = (weights / (weights * shares).sum()).astype(np.float32)
    return normed
