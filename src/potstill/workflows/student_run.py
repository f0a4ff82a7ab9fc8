"""One student's training: signals, learning rates, the bundle and what is told about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from potstill.architectures.config import EncoderConfig
from potstill.bundle.folder import ModelFolder
from potstill.bundle.manifest import Manifest, fingerprint
from potstill.bundle.write import BundleContent, write_bundle
from potstill.distillation.layer_map import LayerMap
from potstill.distillation.layers import Kept
from potstill.distillation.objective import DistillObjective, needed_states
from potstill.distillation.search import Candidate
from potstill.distillation.signals import LiveTeacher, Teacher
from potstill.distillation.stored_signals import SignalShape, StoredSignals, store_signals
from potstill.distillation.student import cut_student
from potstill.files import told_in_one_line
from potstill.losses.hard_labels import hard_label_loss
from potstill.losses.soft_targets import soft_target_loss
from potstill.models.loading import load_task_model, tensors_of
from potstill.models.precision import Precision
from potstill.models.task_model import TaskModel
from potstill.recipe import TrainingRecipe, recipe_hash
from potstill.report import Measured, Report
from potstill.runtime.torch_engine import TorchEngine
from potstill.text.ragged import RaggedBatch
from potstill.train.checkpoints import CheckpointFolder
from potstill.train.compact_words import only_words_of
from potstill.train.loop import TrainingResult, train
from potstill.train.objective import Objective
from potstill.train.progress import Listener, counting, log_to, named
from potstill.train.world import World
from potstill.workflows.dev_score import DevScore
from potstill.workflows.transfer_set import TransferSet

_EXACT_TEXTS = 64  # on which the embedding outputs are compared


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentRun:
    """All that one distillation is made of."""

    recipe: Any  # a DistillRecipe
    folder: Path  # state of the run
    data: TransferSet
    teacher_folders: Sequence[ModelFolder]
    teachers: Sequence[TaskModel]
    kept: Kept
    config: EncoderConfig  # of the student
    layer_map: LayerMap
    rates: Sequence[float]  # learning rates to try
    precision: Precision
    device: torch.device
    world: World
    listeners: tuple[Listener, ...]
    start: str = ""  # fingerprint of what a control begins from; the student begins from a teacher

    @property
    def primary(self) -> str:
        """Return the metric to choose by: as asked, else the teacher's own, else accuracy."""
        manifest = self.teacher_folders[0].manifest
        return str(self.recipe.primary or (manifest and manifest.primary) or "accuracy")

    @property
    def relation_layers(self) -> tuple[int, int]:
        """Return the layers of student and teacher whose relations are compared: the last."""
        return self.config.layers, self.teachers[0].config.layers

    def identity(self) -> dict[str, str]:
        """Return the hashes of what decides the student beside the recipe."""
        return {
            "teachers": ",".join(fingerprint(folder.path) for folder in self.teacher_folders),
            "rows": self.data.identity,
            "kept": str(self.kept),
            **({"start": self.start} if self.start else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The best of the learning rates tried."""

    model: TaskModel
    result: TrainingResult
    rate: float
    tried: list[dict[str, float]]  # learning rate and best dev score of each


def train_student(run: StudentRun, out: Path, *, search: Sequence[Candidate]) -> Report:
    """Teach the student and write its bundle."""
    dev = dev_score(run)
    start = _start(run, dev)
    teacher = _teacher(run)
    trained = best_of_rates(
        run,
        "student",
        build=lambda: cut_student(run.teachers[0], run.config, run.kept),
        objective_of=lambda texts: _objective(run, texts, teacher),
        recipe=run.recipe,
        dev=dev,
    )
    details = {
        "start": start,
        "teacher_dev": dev.of(run.teachers[0], run.data.dev_texts),
        "search": [candidate.to_json() for candidate in search],
        "signals": run.recipe.signals,
    }
    lineage = {"verb": "distill", "layers_kept": list(run.kept), **_origins(run)}
    return write_trained(run, trained, out, lineage=lineage, details=details)


def dev_score(run: StudentRun) -> DevScore:
    """Return the score to choose by; without labels it is agreement with the teacher."""
    run.data.task.metric(run.primary)
    targets = run.data.dev_targets
    if targets is None:
        engine = TorchEngine(run.teachers[0], precision=run.precision)
        targets = engine.run(run.data.dev_texts)["logits"].argmax(axis=-1).astype(np.int64)
    return DevScore(
        task=run.data.task, targets=targets, primary=run.primary, precision=run.precision
    )


def best_of_rates(
    run: StudentRun,
    name: str,
    *,
    build: Callable[[], TaskModel],
    objective_of: Callable[[RaggedBatch], Objective],
    recipe: TrainingRecipe,
    dev: DevScore,
) -> Trained:
    """Train once with each learning rate and return the best on dev.

    Each training has a folder of its own, so an interrupted verb goes on inside the one it was in:
    those that were done are read back from their last checkpoint.
    """
    best: Trained | None = None
    tried: list[dict[str, float]] = []
    for rate in run.rates:
        model = build().to(run.device)
        result = _train_once(
            run,
            f"{name} at {rate:g}",
            model,
            objective_of,
            replace(recipe, learning_rate=rate),
            dev,
        )
        assert result.best_score is not None, "the dev score is taken after the last step"
        tried.append({"learning_rate": rate, "dev": result.best_score})
        if best is None or result.best_score > (best.result.best_score or 0.0):
            best = Trained(model=model, result=result, rate=rate, tried=tried)
    assert best is not None, "there is at least one learning rate"
    return best


def _train_once(
    run: StudentRun,
    name: str,
    model: TaskModel,
    objective_of: Callable[[RaggedBatch], Objective],
    recipe: TrainingRecipe,
    dev: DevScore,
) -> TrainingResult:
    checkpoints = CheckpointFolder(run.folder / name.replace(" at ", "-"))
    listeners = tuple(named(listener, name) for listener in run.listeners)
    if run.world.is_main:
        with told_in_one_line(checkpoints.path):
            checkpoints.path.mkdir(parents=True, exist_ok=True)
        log = checkpoints.path / "log.jsonl"
        listeners = (*listeners, told_in_one_line(log)(log_to(log)))
    with only_words_of(model, [run.data.texts[0], run.data.dev_texts]) as renumber:
        return train(
            model,
            objective_of(renumber(run.data.texts[0])),
            recipe,
            checkpoints=checkpoints,
            recipe_hash=recipe_hash(recipe, name=name, **run.identity()),
            score=dev.watching(model, renumber(run.data.dev_texts)),
            listeners=listeners,
            world=run.world,
        )


def write_trained(
    run: StudentRun,
    trained: Trained,
    out: Path,
    *,
    lineage: Mapping[str, Any],
    details: Mapping[str, Any],
) -> Report:
    """Write the bundle of a trained model and tell what was found."""
    result, model = trained.result, trained.model
    score = result.best_score
    assert score is not None, "the dev score is taken after the last step"
    manifest = Manifest(
        task="classification",
        pooling=model.spec.pooling,
        primary=run.primary,
        max_length=run.data.max_length,
        lineage={
            **lineage,
            **run.data.sources,
            "recipe": recipe_hash(run.recipe),
            "seed": run.recipe.seed,
            "steps": result.steps,
            "learning_rate": trained.rate,
            "train_tokens": result.train_tokens,
            "precision": result.precision,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        },
        measurements={f"dev_{run.primary}": score, "train_seconds": round(result.seconds, 1)},
    )
    identity = ""
    if run.world.is_main:
        content = BundleContent(
            config=model.config,
            head=model.spec,
            tensors=tensors_of(model),
            tokenizer=run.data.tokenizer,
            manifest=manifest,
            hf_extras=run.teacher_folders[0].hf_config,
        )
        identity = write_bundle(out, content)
    return Report(
        bundle=out,
        fingerprint=identity,
        task="classification",
        metrics={run.primary: Measured(value=score)},
        seconds=result.seconds,
        steps=result.steps,
        warnings=[*run.data.warnings, *result.warnings],
        details={
            "metrics_on": "dev" if run.data.dev_targets is not None else "dev, by the teacher",
            "primary": run.primary,
            "layers_kept": list(run.kept),
            "architecture": model.config.family,
            "best_step": result.best_step,
            "train_tokens": result.train_tokens,
            "learning_rate": trained.rate,
            "learning_rates": trained.tried,
            "precision": result.precision,
            "resumed_from": result.resumed_from,
            "recipe": asdict(run.recipe),
            **details,
        },
    )


def teachers_of(folders: Sequence[ModelFolder]) -> list[TaskModel]:
    """Load the teachers, never to be changed."""
    models = [load_task_model(folder) for folder in folders]
    for model in models:
        model.requires_grad_(False)  # noqa: FBT003 - torch's own signature
    return models


def _objective(run: StudentRun, texts: RaggedBatch, teacher: Teacher) -> DistillObjective:
    return DistillObjective(
        texts=texts,
        targets=run.data.targets,
        teacher=teacher,
        term_weights=run.recipe.term_weights,
        temperature=run.recipe.temperature,
        layer_map=run.layer_map,
        relation_layers=run.relation_layers,
        teacher_encoder=run.teachers[0].encoder,
        relation_heads=run.config.heads,
    )


def _teacher(run: StudentRun) -> Teacher:
    """Return the source of signals: the teachers themselves, or what they said on disk."""
    states = needed_states(run.recipe.term_weights, run.layer_map, run.relation_layers)
    live = LiveTeacher(
        models=run.teachers,
        texts=run.data.texts,
        temperature=run.recipe.temperature,
        precision=run.precision,
        state_indices=states,
    )
    if run.recipe.signals == "live":
        return live
    shape = SignalShape(
        lengths=run.data.texts[0].lengths,
        classes=len(run.data.task.labels),
        width=run.teachers[0].config.hidden_size,
        state_indices=states,
    )
    folder = run.folder / "signals"
    if run.world.is_main:
        identity = recipe_hash(
            _SignalKey(run.recipe.temperature, run.precision, states), **run.identity()
        )
        tell = counting(run.listeners, "teacher's signals")
        store_signals(folder, live, shape, identity=identity, tell=tell)
    run.world.from_main(True, run.device)  # noqa: FBT003 - the others wait until all is written
    return StoredSignals(folder, shape, device=run.device)


@dataclass(frozen=True, slots=True)
class _SignalKey:
    temperature: float
    precision: str
    states: tuple[int, ...]


def _start(run: StudentRun, dev: DevScore) -> dict[str, Any]:
    """Return what teacher and student lose on dev before the first step, and how exact the cut is.

    Losses are means over dev rows in nats: hard_labels to the labels, soft_targets to the teacher.
    """
    teacher, student = run.teachers[0], cut_student(run.teachers[0], run.config, run.kept)
    student = student.to(run.device)
    theirs, ours = (
        torch.from_numpy(
            TorchEngine(model, precision=run.precision).run(run.data.dev_texts)["logits"]
        )
        for model in (teacher, student)
    )
    targets = torch.from_numpy(dev.targets)
    temperature = run.recipe.temperature
    return {
        "teacher": {"hard_labels": _mean(hard_label_loss(theirs, targets)), "soft_targets": 0.0},
        "student": {
            "hard_labels": _mean(hard_label_loss(ours, targets)),
            "soft_targets": _mean(soft_target_loss(ours, theirs, temperature=temperature)),
        },
        "embedding_difference": embedding_difference(teacher, student, run.data.dev_texts),
    }


def embedding_difference(teacher: TaskModel, student: TaskModel, texts: RaggedBatch) -> float:
    """Return the largest difference of the embedding outputs of some single texts, in fp32."""
    some = texts.take(np.arange(min(_EXACT_TEXTS, len(texts))))

    def embedded(model: TaskModel) -> NDArray[np.float32]:
        output: NDArray[np.float32] = TorchEngine(model).run(some, ["state.0"])["state.0"]
        return output

    return float(np.abs(embedded(teacher) - embedded(student)).max())


def _origins(run: StudentRun) -> dict[str, Any]:
    return {
        "teacher": ", ".join(folder.path.name for folder in run.teacher_folders),
        "teacher_fingerprint": fingerprint(run.teacher_folders[0].path),
    }


def _mean(values: torch.Tensor) -> float:
    return float(values.double().mean())
