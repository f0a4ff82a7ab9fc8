"""What the answers to held-out rows tell about models: quality, retention, agreement, flips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.folder import ModelFolder
from potstill.data.columns import Columns
from potstill.data.rows import Rows
from potstill.errors import InputError
from potstill.files import sha256_of_file
from potstill.metrics.agreement import share_of
from potstill.metrics.bootstrap import Interval
from potstill.metrics.metric import Metric
from potstill.metrics.retention import gain_retained, is_above, retention
from potstill.runtime.answering import lengths_of_folder, require_form, task_of_folder
from potstill.tasks import reading
from potstill.tasks.evaluation import (
    Evaluation,
    evaluate_answers,
    is_metric_of_rows,
    require_value,
)
from potstill.tasks.flips import Flips, find_flips
from potstill.tasks.kinds import ANSWERABLE
from potstill.tasks.task import Task
from potstill.workflows.comparison import HeldOutRows, Quality
from potstill.workflows.shown_places import shown_path

Floats = NDArray[np.floating[Any]]

UNSOLVED = "the baseline does not solve this task: it is not surely above the trivial answer"
_LABELS_SHOWN = 8
_READ_BY_TOKEN = ("token-classification", "question-answering")  # others give one output a window


@dataclass(frozen=True, slots=True)
class Proof:
    """Held-out rows that all models answer."""

    rows: Rows
    tasks: Mapping[str, Task]  # by model, each with its own thresholds; the baseline first
    folders: Mapping[str, ModelFolder]
    gold: Any
    metric: Metric  # that retention speaks of
    orders: Mapping[str, list[int]]  # by model: where each of the baseline's labels stands
    sha256: str | None  # of the file
    max_length: int | None  # asked for all models; None: what each folder says
    seed: int  # of the resampled intervals

    @property
    def task(self) -> Task:
        """Return the baseline's task."""
        return next(iter(self.tasks.values()))

    @property
    def primary(self) -> str:
        """Return the name of the metric."""
        return self.metric.name

    def statistics(self, name: str, answers: Any) -> Floats:
        """Return what the metric needs of each row, by a model's own thresholds."""
        return self.tasks[name].statistics(self.metric, answers, self.gold)

    def answers(self, name: str, outputs: Floats) -> Any:
        """Return a model's answers from its outputs, in the baseline's order of labels."""
        folder, task = self.folders[name], self.tasks[name]
        length = self.max_length or folder.max_length
        windows = task.windows(
            folder.tokenizer(), self.rows, lengths_of_folder(folder, task, max_length=length)
        )
        parts = len(windows.texts.ids if task.name in _READ_BY_TOKEN else windows.texts)
        assert len(outputs) == parts, (
            f"{name} gave {len(outputs)} outputs for {parts} windows or tokens: this is a bug"
        )
        order = self.orders[name]
        return task.answers(outputs[:, order] if order else outputs, windows, self.rows)

    def facts(self, evaluation: Evaluation) -> HeldOutRows:
        """Return what a report says about the rows."""
        return HeldOutRows(
            source=shown_path(self.rows.source),
            rows=len(self.rows),
            drawn=evaluation.drawn,
            sha256=self.sha256,
            primary=self.primary,
            majority_label=evaluation.majority_label,
            majority_metrics=evaluation.majority,
        )


def read_proof(
    folders: Mapping[str, ModelFolder],
    test: object,
    columns: Columns,
    *,
    primary: str | None,
    max_length: int | None = None,
    seed: int,
) -> Proof:
    """Read held-out rows for models by name, the baseline first.

    Args:
        folders: the models; all must be of one task, with the same labels in any order.
        test: anything that `read_rows` takes.
        columns: the names of its columns.
        primary: the metric; None: the one that the baseline was chosen by, else the task's.
        max_length: tokens; None: what each folder says.
        seed: of the resampled intervals.

    Raises:
        InputError: a model without a task head, of another task or with other labels.
        DataError: the rows cannot be read, hold a label that the models do not have, or are single
            texts where a model has learned from pairs.
        RecipeError: no such metric.
    """
    for name, folder in folders.items():
        _require_answers(name, folder, next(iter(folders.values())))
    baseline, first = next(iter(folders.items()))
    tasks = {name: task_of_folder(folder) for name, folder in folders.items()}
    orders = {name: _label_order(name, other, baseline, first) for name, other in folders.items()}
    if first.task != "classification":
        _require_own_order(orders)
    task = tasks[baseline]
    told = first.manifest.primary if first.manifest else None
    own = told if is_metric_of_rows(task, told) else None
    chosen = primary or own or task.primary(has_gold=True)
    metric = task.metric(chosen)
    rows = reading.labelled(task.name, test, columns)
    for folder in folders.values():
        require_form(folder, rows)
    if first.task == "classification":  # one order of labels for all
        tasks = dict.fromkeys(tasks, task)
    gold = task.gold(rows)
    require_value(task, chosen, gold, source=rows.source)
    return Proof(
        rows=rows,
        tasks=tasks,
        folders=folders,
        gold=gold,
        metric=metric,
        orders=orders,
        sha256=_sha256(test),
        max_length=max_length,
        seed=seed,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the answers tell, by model."""

    quality: Mapping[str, Quality]
    agreement: Mapping[str, Interval]  # with the baseline
    flips: Mapping[str, Flips]  # against the baseline
    test: HeldOutRows
    note: str | None  # why there is no retention, where there is none
    warnings: Sequence[str]


def judge(proof: Proof, outputs: Mapping[str, Floats]) -> Judged:
    """Judge the models' outputs, by name, the baseline first, columns in each model's own order."""
    answers = {name: proof.answers(name, each) for name, each in outputs.items()}
    evaluations = {name: _evaluation(proof, name, each) for name, each in answers.items()}
    statistics = {name: proof.statistics(name, each) for name, each in answers.items()}
    baseline, *others = answers
    trivial, _ = proof.task.trivial(proof.gold)
    majority = proof.statistics(baseline, trivial)
    teacher = statistics[baseline]
    is_solved = is_above(proof.metric, [teacher], [majority], seed=proof.seed)
    beside = _Beside(teacher, majority) if is_solved else None
    return Judged(
        quality={
            name: _quality(proof, evaluation, statistics[name], beside)
            for name, evaluation in evaluations.items()
        },
        agreement={
            name: share_of(proof.task.same(answers[baseline], answers[name])) for name in others
        },
        flips={
            name: find_flips(proof.task, proof.rows, proof.gold, answers[baseline], answers[name])
            for name in others
        },
        test=proof.facts(evaluations[baseline]),
        note=None if is_solved else UNSOLVED,
        warnings=[
            *evaluations[baseline].warnings,
            *([] if is_solved else [f"{UNSOLVED}; no retention is told"]),
        ],
    )


@dataclass(frozen=True, slots=True)
class _Beside:
    """What a model is held against: statistics of each row."""

    baseline: Floats
    majority: Floats


def _evaluation(proof: Proof, name: str, answers: Any) -> Evaluation:
    return evaluate_answers(
        proof.tasks[name],
        answers,
        proof.gold,
        rows=len(proof.rows),
        primary=proof.primary,
        seed=proof.seed,
    )


def _quality(proof: Proof, evaluation: Evaluation, own: Floats, beside: _Beside | None) -> Quality:
    kept = gain = None
    if beside is not None and own is beside.baseline:
        kept = gain = Interval(1.0, 1.0, 1.0)  # whatever the rows are
    elif beside is not None:
        metric, seed = proof.metric, proof.seed
        kept = retention(metric, [own], [beside.baseline], seed=seed)
        gain = gain_retained(metric, [own], [beside.baseline], beside.majority, seed=seed)
    return Quality(
        metrics=evaluation.metrics,
        per_class=tuple(evaluation.per_class),
        retention=kept,
        gain_retained=gain,
    )


def _require_answers(name: str, folder: ModelFolder, baseline: ModelFolder) -> None:
    if folder.task not in ANSWERABLE:
        raise InputError(
            f"the task of model {name} is {folder.task or 'none (a bare encoder)'}, so it has no "
            "answers to --test",
            allowed=", ".join(ANSWERABLE),
            cure="fine-tune it first (potstill finetune), or leave --test out to compare speed",
        )
    if folder.task != baseline.task:
        raise InputError(
            f"the task of model {name} is {folder.task}, that of the baseline is {baseline.task}",
            allowed="models of one task",
            cure="leave --test out to compare speed alone",
        )


def _require_own_order(orders: Mapping[str, list[int]]) -> None:
    for name, order in orders.items():
        if order != sorted(order):
            raise InputError(
                f"the labels of model {name} stand in another order than the baseline's",
                cure="write them in one order in id2label of config.json, the weights with them",
            )


def _label_order(
    name: str, folder: ModelFolder, baseline: str, baseline_folder: ModelFolder
) -> list[int]:
    """Return where each of the baseline's labels stands among the model's own."""
    own, labels = folder.head.labels, baseline_folder.head.labels
    if folder.task == "regression":  # one number, whatever it is called
        return [0]
    lacks = [label for label in labels if label not in own]
    adds = [label for label in own if label not in labels]
    if lacks or adds:
        differences = [
            *([f"it lacks {_listed(lacks)}"] if lacks else []),
            *([f"it has {_listed(adds)}"] if adds else []),
        ]
        raise InputError(
            f"the labels of model {name} are not those of {baseline}: {', '.join(differences)}",
            cure="compare models of one task; labels are renamed in id2label of config.json",
        )
    return [own.index(label) for label in labels]


def _listed(labels: Sequence[str]) -> str:
    shown = ", ".join(repr(label) for label in labels[:_LABELS_SHOWN])
    hidden = len(labels) - _LABELS_SHOWN
    return f"{shown} and {hidden} more" if hidden > 0 else shown


def _sha256(test: object) -> str | None:
    is_file = isinstance(test, str | Path) and Path(test).is_file()
    return sha256_of_file(Path(str(test))) if is_file else None
