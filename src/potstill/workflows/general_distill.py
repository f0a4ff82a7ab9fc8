"""`distill --corpus`: a student of all text, before any task, as DistilBERT is one of BERT."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from potstill.bundle.folder import ModelFolder
from potstill.bundle.manifest import Manifest, fingerprint
from potstill.bundle.opening import open_model
from potstill.bundle.write import BundleContent, write_bundle
from potstill.distillation.general_objective import TERMS, GeneralObjective
from potstill.distillation.held_out_terms import HeldOutTerms
from potstill.distillation.layers import kept_as_asked
from potstill.distillation.objective import RELATIONS, require_terms
from potstill.distillation.student import cut_student, student_config
from potstill.errors import InputError, RecipeError, RunError
from potstill.files import require_free, told_in_one_line
from potstill.models.loading import load_task_model, tensors_of
from potstill.models.precision import resolve_precision
from potstill.models.task_model import TaskModel
from potstill.recipe import recipe_hash
from potstill.report import Measured, Report
from potstill.train.checkpoints import CheckpointFolder
from potstill.train.held_out import HeldOutLoss
from potstill.train.loop import TrainingResult, train
from potstill.train.progress import Listener, log_to
from potstill.workflows.corpus_recipe import settled
from potstill.workflows.general_recipe import GeneralRecipe
from potstill.workflows.masked_lm import TASK, perplexity_of
from potstill.workflows.passages import CorpusSources, Ground, read_passages
from potstill.workflows.task_rows import joined_world, own_device, run_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneralInputs:
    """What a general distillation reads."""

    teacher: str | Path  # a model with a masked-LM head: a folder or "hub:NAME"
    corpus: CorpusSources
    allow_pickle: bool = False


def distill_general(
    inputs: GeneralInputs,
    recipe: GeneralRecipe,
    *,
    out: Path,
    device: str = "auto",
    threads: int | None = None,
    listeners: tuple[Listener, ...] = (),
) -> Report:
    """Cut a student out of a masked-LM teacher, teach it on a corpus and write it as a bundle.

    The run's state stands in `<out>.run` until the bundle is written, the corpus stays in
    `<out>.corpus`; the same call again resumes.

    Raises:
        InputError: wrong teacher, corpus, settings or output.
        RunError: out of memory, diverged, disk full, or a student no better than its start.
        Stopped: by a signal; resumable.
    """
    require_free(out)
    with joined_world(device, threads) as world:
        ground = Ground(out=out, world=world, device=own_device(device, world), listeners=listeners)
        return _Distillation(inputs, recipe, ground).run()


class _Distillation:
    """The parts of one general distillation, made in order."""

    def __init__(self, inputs: GeneralInputs, recipe: GeneralRecipe, ground: Ground) -> None:
        self.out, self.world, self.device = ground.out, ground.world, ground.device
        self.listeners = ground.listeners
        require_terms({name: getattr(recipe, name) for name in TERMS})
        self.precision = resolve_precision(recipe.precision, self.device, training=True)
        self.folder = open_model(inputs.teacher, allow_pickle=inputs.allow_pickle)
        require_masked_lm(self.folder)
        self.tokenizer = self.folder.tokenizer()
        self.kept = kept_as_asked(
            recipe.keep,
            recipe.layers,
            teacher_layers=self.folder.config.layers,
            choice=recipe.choose,
        )
        self.config = student_config(
            self.folder.config, len(self.kept), architecture=recipe.architecture
        )
        self.relation_layers = len(self.kept), _relation_layer(recipe, self.folder)
        self.relation_heads = recipe.relation_heads or self.folder.config.heads
        _require_relations(recipe, self.folder, self.relation_heads)
        if recipe.max_length > self.config.max_length:
            raise RecipeError(
                f"max_length is {recipe.max_length}", allowed=f"at most {self.config.max_length}"
            )
        self.passages = read_passages(inputs.corpus, self.tokenizer, recipe, ground)
        tokens = int(self.passages.train.lengths.sum(dtype=np.int64))
        self.recipe = settled(recipe, corpus_tokens=tokens)

    def run(self) -> Report:
        """Train, keep the best, check that it was worth it, write the bundle."""
        teacher = load_task_model(self.folder).to(self.device)
        teacher.requires_grad_(False)  # noqa: FBT003 - torch's own signature
        student = cut_student(teacher, self.config, self.kept).to(self.device)
        objective = self._objective(teacher)
        held_out = HeldOutLoss(
            self.passages.held_out, self.passages.masking, precision=self.precision
        )
        terms = HeldOutTerms(objective, held_out)
        before, start = terms.of(student), held_out.of(student)
        checkpoints = CheckpointFolder(run_folder(self.out))
        result = train(
            student,
            objective,
            self.recipe,
            checkpoints=checkpoints,
            recipe_hash=recipe_hash(
                self.recipe, teacher=fingerprint(self.folder.path), corpus=self.passages.identity
            ),
            score=lambda: -terms.total(terms.of(student)),
            listeners=self._listeners(checkpoints.path),
            world=self.world,
        )
        after = terms.of(student)
        if terms.total(after) >= terms.total(before):
            raise RunError(
                f"the student is no better than the cut it began from: its loss on held-out text "
                f"was {terms.total(before):.4f} and is {terms.total(after):.4f}",
                where=str(checkpoints.path),
                cure="lower --learning-rate, or train on more tokens",
            )
        found = {
            "start": {
                "student": {**before, "held_out_loss": start},
                "teacher": {"held_out_loss": held_out.of(teacher)},
            },
            "held_out": after,
        }
        return self._finish(student, result, checkpoints.path, held_out.measured(student), found)

    def _objective(self, teacher: TaskModel) -> GeneralObjective:
        recipe = self.recipe
        return GeneralObjective(
            passages=self.passages.train,
            masking=self.passages.masking,
            teacher=teacher,
            term_weights={name: getattr(recipe, name) for name in TERMS},
            temperature=recipe.temperature,
            other_share=recipe.other_share,
            relation_layers=self.relation_layers,
            relation_heads=self.relation_heads,
            precision=self.precision,
        )

    def _listeners(self, run: Path) -> tuple[Listener, ...]:
        if not self.world.is_main:
            return ()
        with told_in_one_line(run):
            run.mkdir(parents=True, exist_ok=True)
        log = run / "log.jsonl"
        return (*self.listeners, told_in_one_line(log)(log_to(log)))

    def _finish(
        self,
        student: TaskModel,
        result: TrainingResult,
        run: Path,
        loss: Measured,
        found: Mapping[str, Any],
    ) -> Report:
        manifest = Manifest(
            task=TASK,
            max_length=self.config.max_length,
            lineage=self._lineage(result),
            measurements={
                "held_out_loss": loss.value,
                **{f"held_out_{name}": value for name, value in found["held_out"].items()},
                "train_seconds": round(result.seconds, 1),
            },
        )
        identity = ""
        if self.world.is_main:
            content = BundleContent(
                config=student.config,
                head=student.spec,
                tensors=tensors_of(student),
                tokenizer=self.tokenizer,
                manifest=manifest,
                hf_extras=self.folder.hf_config,
            )
            identity = write_bundle(self.out, content)
            shutil.rmtree(run, ignore_errors=True)
        return Report(
            bundle=self.out,
            fingerprint=identity,
            task=TASK,
            metrics={"held_out_loss": loss, "perplexity": perplexity_of(loss)},
            seconds=result.seconds,
            steps=result.steps,
            warnings=[*self.folder.warnings(), *self.passages.warnings, *result.warnings],
            details={
                "metrics_on": "held-out documents",
                **found,
                "layers_kept": list(self.kept),
                "architecture": student.config.family,
                "best_step": result.best_step,
                "train_tokens": result.train_tokens,
                "corpus": str(self.passages.corpus.folder),
                "precision": result.precision,
                "resumed_from": result.resumed_from,
                "recipe": asdict(self.recipe),
            },
        )

    def _lineage(self, result: TrainingResult) -> dict[str, Any]:
        return {
            "verb": "distill",
            "teachers": [self.folder.path.name],
            "teacher_fingerprint": fingerprint(self.folder.path),
            "layers_kept": list(self.kept),
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


def require_masked_lm(folder: ModelFolder) -> None:
    """Check that a teacher can guess hidden tokens.

    Raises:
        InputError: it has no masked-LM head.
    """
    if folder.head.kind != "masked-lm":
        raise InputError(
            "the teacher has no masked-LM head, so it has no guesses to be learned",
            where=str(folder.path),
            allowed="a model of ForMaskedLM",
            cure=f"give it one: potstill finetune --task {TASK} --model {folder.path.name} "
            "--train … --out …",
        )


def _relation_layer(recipe: GeneralRecipe, folder: ModelFolder) -> int:
    depth = folder.config.layers
    if recipe.relation_layer > depth:
        raise RecipeError(f"relation_layer is {recipe.relation_layer}", allowed=f"1 to {depth}")
    return recipe.relation_layer or depth


def _require_relations(recipe: GeneralRecipe, folder: ModelFolder, heads: int) -> None:
    width = folder.config.hidden_size
    if getattr(recipe, RELATIONS) and width % heads:
        raise RecipeError(
            f"relation_heads is {heads}", allowed=f"a divisor of the teacher's width, {width}"
        )
