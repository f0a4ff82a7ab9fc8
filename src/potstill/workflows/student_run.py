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
from potstill.distillation.collapse import Likeness, likeness, require_not_collapsed
from potstill.distillation.layer_map import LayerMap
from potstill.distillation.layers import Kept
from potstill.distillation.narrow import narrow
from potstill.distillation.objective import (
    COSINE,
    HARD,
    RELATIONS,
    SOFT,
    SQUARED,
    DistillObjective,
    needed_states,
)
from potstill.distillation.search import Candidate
from potstill.distillation.signals import LiveTeacher, Teacher
from potstill.distillation.stored_signals import SignalShape, StoredSignals, store_signals
from potstill.distillation.student import cut_student
from potstill.errors import Diverged
from potstill.files import told_in_one_line
from potstill.metrics.metric import point
from potstill.models.loading import load_task_model, tensors_of
from potstill.models.output_scale import answer_in_deviations, answer_in_numbers
from potstill.models.precision import Precision
from potstill.models.task_model import TaskModel
from potstill.recipe import TrainingRecipe, recipe_hash
from potstill.report import Measured, Report
from potstill.runtime.torch_engine import TorchEngine
from potstill.tasks.embedding import Embedding
from potstill.tasks.regression import Regression
from potstill.tasks.task import Task
from potstill.train.answer_losses import AnswerLoss, VectorLoss, loss_of
from potstill.train.checkpoints import CheckpointFolder
from potstill.train.compact_words import only_words_of
from potstill.train.learnable import Learnable
from potstill.train.loop import TrainingResult, train
from potstill.train.objective import Objective
from potstill.train.progress import LOG_NAME, Listener, counting, log_to, named
from potstill.train.world import World
from potstill.workflows.dev_score import DevScore
from potstill.workflows.given_answers import GivenTeacher
from potstill.workflows.student_start import start_of
from potstill.workflows.task_facts import task_facts, vector_recipe_of
from potstill.workflows.transfer_set import TransferSet

_TEXTS_TO_TELL = 20  # fewer cannot tell whether vectors have collapsed
# Weights of soft targets and hard labels where the recipe leaves them open.
_USUAL = {"regression": (0.5, 0.5), "question-answering": (0.75, 0.25), "embedding": (1.0, 0.0)}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learner:
    """A pre-trained model that learns from a teacher, instead of layers of the teacher itself."""

    folder: ModelFolder
    model: TaskModel  # under a new head of the teacher's kind


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentRun:
    """All that one distillation is made of."""

    recipe: Any  # a DistillRecipe
    out: Path  # where the bundle will stand, for messages
    folder: Path  # state of the run
    data: TransferSet
    teacher_folders: Sequence[ModelFolder]  # of a given teacher the model that is cut
    teachers: Sequence[TaskModel]  # the first is cut, unless there is a learner
    kept: Kept
    config: EncoderConfig  # of the student
    layer_map: LayerMap
    rates: Sequence[float]  # learning rates to try
    precision: Precision
    device: torch.device
    world: World
    listeners: tuple[Listener, ...]
    learner: Learner | None = None
    start: str = ""  # fingerprint of what a control begins from; the student begins from a teacher

    @property
    def primary(self) -> str:
        """Return the metric to choose by: as asked, else the teacher's own, else accuracy."""
        manifest = self.teacher_folders[0].manifest
        has_gold = self.data.dev_gold is not None
        own = (manifest.primary if manifest and has_gold else None) or self.data.task.primary(
            has_gold=has_gold
        )
        return str(self.recipe.primary or own)

    @property
    def loss(self) -> AnswerLoss:
        """Return how outputs are held against labels and teacher."""
        loss = loss_of(self.data.task)
        if isinstance(loss, VectorLoss):
            return replace(loss, similarity=self.recipe.similarity)
        return loss

    def prepared(self, model: TaskModel) -> TaskModel:
        """Return a model as it is trained: numbers as deviations."""
        task = self.data.task
        if isinstance(task, Regression):
            return answer_in_deviations(model, center=task.center, scale=task.scale)
        return model

    @property
    def is_given(self) -> bool:
        """Tell whether the teacher's answers are given; nothing is then known of its layers."""
        return self.data.given is not None

    def untaught(self) -> TaskModel:
        """Return the student before its first step: layers taken out, made narrower if asked."""
        source = self.learner.model if self.learner else self.teachers[0]
        student = cut_student(source, self.config, self.kept)
        if self.is_given or self.learner:  # its head is new: it learns deviations from the start
            return student
        if self.recipe.width:
            student = narrow(student, self.recipe.width)
        return self.prepared(student)

    @property
    def term_weights(self) -> dict[str, float]:
        """Return each loss term's weight, those that were left open filled in."""
        return usual_weights(self.recipe, self.data.task)

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
            **({"learner": fingerprint(self.learner.folder.path)} if self.learner else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The best of the learning rates tried."""

    model: TaskModel
    result: TrainingResult
    rate: float
    tried: list[dict[str, Any]]  # learning rate and best dev score of each; None: it diverged
    log: Path | None = None  # of its progress

    def warnings(self) -> list[str]:
        """Say which learning rates led nowhere."""
        lost = [each for each in self.tried if each["dev"] is None]
        return [f"learning rate {each['learning_rate']:g}: {each['fault']}" for each in lost]


def train_student(run: StudentRun, out: Path, *, search: Sequence[Candidate]) -> Report:
    """Teach the student and write its bundle."""
    dev = dev_score(run)
    start = {} if run.is_given else start_of(run)
    teacher = _teacher(run)
    trained = best_of_rates(
        run,
        "student",
        build=run.untaught,
        objective_of=lambda rows: _objective(run, rows, teacher),
        recipe=run.recipe,
        dev=dev,
    )
    details = {
        "start": start,
        "teacher_dev": _teacher_score(run, dev),
        "search": [candidate.to_json() for candidate in search],
        "signals": run.recipe.signals,
    }
    teachers = _teachers_dev_vectors(run)
    if teachers is not None:
        details["vectors"] = _checked_vectors(run, trained.model, teachers).to_json()
    lineage = {"verb": "distill", "layers_kept": list(run.kept), **_origins(run)}
    return write_trained(run, trained, dev, out, lineage=lineage, details=details)


def _teachers_dev_vectors(run: StudentRun) -> NDArray[np.float32] | None:
    """Return the teacher's vectors of dev texts; None for other tasks, or where none are given."""
    if run.data.task.name != Embedding.name:
        return None
    if run.is_given:
        return run.data.given_dev
    return _vectors(run, run.teachers[0])


def _checked_vectors(
    run: StudentRun, student: TaskModel, teachers_BD: NDArray[np.float32]
) -> Likeness:
    """Compare vectors of dev texts with the teacher's, and refuse a student that has collapsed."""
    found = likeness(_vectors(run, student), teachers_BD)
    if found.texts >= _TEXTS_TO_TELL:
        require_not_collapsed(found, where=str(run.out))
    return found


def _vectors(run: StudentRun, model: TaskModel) -> NDArray[np.float32]:
    return TorchEngine(model, precision=run.precision).run(run.data.dev_texts)["logits"]


def usual_weights(recipe: Any, task: Task) -> dict[str, float]:
    """Return the weight of each loss term; soft targets and labels depend on the task if open.

    Source: Jiao et al. 2019 for numbers (half and half), Sanh et al. 2020's habit else.
    """
    soft, hard = _USUAL.get(task.name, (0.9, 0.1))
    return {
        SOFT: soft if recipe.soft_targets is None else recipe.soft_targets,
        HARD: hard if recipe.hard_labels is None else recipe.hard_labels,
        **{name: getattr(recipe, name) for name in (COSINE, SQUARED, RELATIONS)},
    }


def dev_score(run: StudentRun) -> DevScore:
    """Return the score to choose by; without labels it is agreement with the teacher."""
    run.data.task.metric(run.primary)
    score = DevScore(
        task=run.data.task,
        rows=run.data.dev_rows,
        windows=run.data.dev_windows,
        gold=run.data.dev_gold,
        primary=run.primary,
        precision=run.precision,
    )
    if score.gold is not None:
        return score
    return replace(score, gold=run.data.task.as_gold(_teachers_answers(run, score)))


def _teachers_answers(run: StudentRun, dev: DevScore) -> Any:
    """Return the teacher's answers to the dev rows."""
    if run.data.given_dev is None:
        return dev.answers(run.teachers[0], run.data.dev_texts)
    return run.data.task.answers(
        np.nan_to_num(run.data.given_dev), run.data.dev_windows, run.data.dev_rows
    )


def _teacher_score(run: StudentRun, dev: DevScore) -> float | None:
    """Return the teacher's dev score; None where its answers to these rows were not given."""
    if run.is_given and run.data.given_dev is None:
        return None
    answers, task = _teachers_answers(run, dev), run.data.task
    metric = task.metric(dev.primary)
    return point(metric, task.fitted(answers, dev.gold).statistics(metric, answers, dev.gold))


def best_of_rates(
    run: StudentRun,
    name: str,
    *,
    build: Callable[[], TaskModel],
    objective_of: Callable[[Learnable], Objective],
    recipe: TrainingRecipe,
    dev: DevScore,
) -> Trained:
    """Train once with each learning rate and return the best on dev.

    Each training has a folder of its own, so an interrupted verb goes on inside the one it was in:
    those that were done are read back from their last checkpoint. One that diverges is told and
    passed over.

    Raises:
        Diverged: all of them do.
    """
    best: Trained | None = None
    tried: list[dict[str, Any]] = []
    fault: Diverged | None = None
    for rate in run.rates:
        model = build().to(run.device)
        attempt = f"{name} at {rate:g}"
        asked = replace(recipe, learning_rate=rate)
        try:
            result = _train_once(run, attempt, model, objective_of, asked, dev)
        except Diverged as error:
            fault = error
            tried.append({"learning_rate": rate, "dev": None, "fault": error.what})
            continue
        assert result.best_score is not None, "the dev score is taken after the last step"
        tried.append({"learning_rate": rate, "dev": result.best_score})
        if best is None or result.best_score > (best.result.best_score or 0.0):
            log = _attempt_folder(run, attempt) / LOG_NAME
            best = Trained(model=model, result=result, rate=rate, tried=tried, log=log)
    if best is None:
        assert fault is not None, "there is at least one learning rate"
        raise fault
    return best


def _attempt_folder(run: StudentRun, name: str) -> Path:
    """Return where the state of one training stands, by its name."""
    return run.folder / name.replace(" at ", "-")


def _train_once(
    run: StudentRun,
    name: str,
    model: TaskModel,
    objective_of: Callable[[Learnable], Objective],
    recipe: TrainingRecipe,
    dev: DevScore,
) -> TrainingResult:
    checkpoints = CheckpointFolder(_attempt_folder(run, name))
    listeners = tuple(named(listener, name) for listener in run.listeners)
    if run.world.is_main:
        with told_in_one_line(checkpoints.path):
            checkpoints.path.mkdir(parents=True, exist_ok=True)
        log = checkpoints.path / LOG_NAME
        listeners = (*listeners, told_in_one_line(log)(log_to(log)))
    rows, dev_texts = run.data.rows, run.data.dev_texts
    with only_words_of(model, [rows.texts, dev_texts]) as renumber:
        return train(
            model,
            objective_of(rows.with_texts(renumber(rows.texts))),
            recipe,
            checkpoints=checkpoints,
            inputs={"name": name, **run.identity()},
            score=dev.watching(model, renumber(dev_texts)),
            listeners=listeners,
            world=run.world,
        )


def write_trained(
    run: StudentRun,
    trained: Trained,
    dev: DevScore,
    out: Path,
    *,
    lineage: Mapping[str, Any],
    details: Mapping[str, Any],
) -> Report:
    """Write the bundle of a trained model and tell what was found."""
    result, model = trained.result, trained.model
    score = result.best_score
    assert score is not None, "the dev score is taken after the last step"
    task = run.data.task
    if isinstance(task, Regression):
        answer_in_numbers(model, center=task.center, scale=task.scale)
    manifest = Manifest(
        primary=run.primary,
        **task_facts(_fitted(run, dev, model), model.spec, run.data.lengths, run.data.dev_rows),
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
            vectors=vector_recipe_of(run.teacher_folders[0], model.spec),
            manifest=manifest,
            hf_extras=(run.learner.folder if run.learner else run.teacher_folders[0]).hf_config,
            training_log=trained.log,
        )
        identity = write_bundle(out, content)
    return Report(
        bundle=out,
        fingerprint=identity,
        task=task.name,
        metrics={run.primary: Measured(value=score)},
        seconds=result.seconds,
        steps=result.steps,
        warnings=[*run.data.warnings, *result.warnings, *trained.warnings()],
        details={
            "metrics_on": "dev" if run.data.dev_gold is not None else "dev, by the teacher",
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


def _fitted(run: StudentRun, dev: DevScore, model: TaskModel) -> Task:
    """Return the task with the student's thresholds; without labels they stay the teacher's."""
    return run.data.task if run.data.dev_gold is None else dev.fitted_task(model)


def _objective(run: StudentRun, rows: Learnable, teacher: Teacher) -> DistillObjective:
    return DistillObjective(
        rows=rows,
        teacher=teacher,
        term_weights=run.term_weights,
        temperature=run.recipe.temperature,
        loss=run.loss,
        layer_map=run.layer_map,
        relation_layers=run.relation_layers,
        teacher_encoder=run.teachers[0].encoder,
        relation_heads=run.config.heads,
    )


def _teacher(run: StudentRun) -> Teacher:
    """Return the source of signals: the teachers, what they said on disk, or what was given."""
    if run.data.given is not None:
        is_whole = run.teachers[0].spec.answers_whole_texts
        offsets = None if is_whole else run.data.texts.offsets
        return GivenTeacher(run.data.given, offsets, run.device)
    states = needed_states(run.term_weights, run.layer_map, run.relation_layers)
    live = LiveTeacher(
        models=run.teachers,
        texts=run.data.teacher_texts,
        temperature=run.recipe.temperature,
        loss=run.loss,
        precision=run.precision,
        state_indices=states,
    )
    if run.recipe.signals == "live":
        return live
    spec = run.teachers[0].spec
    shape = SignalShape(
        lengths=run.data.texts.lengths,
        classes=len(spec.labels) or spec.width or run.teachers[0].config.hidden_size,
        width=run.teachers[0].config.hidden_size,
        state_indices=states,
        per_token=not spec.answers_whole_texts,
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


def _origins(run: StudentRun) -> dict[str, Any]:
    learner = {} if run.learner is None else {"student": run.learner.folder.path.name}
    return {
        **learner,
        "teacher": ", ".join(folder.path.name for folder in run.teacher_folders),
        "teacher_fingerprint": fingerprint(run.teacher_folders[0].path),
    }
