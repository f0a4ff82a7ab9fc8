"""What the answers to held-out rows tell about models: quality, retention, agreement, flips.

Legend: B rows, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.folder import ModelFolder
from potstill.data.columns import Columns, select_columns
from potstill.data.readers import read_rows
from potstill.data.rows import Rows
from potstill.errors import InputError
from potstill.files import sha256_of_file
from potstill.metrics.agreement import agreement
from potstill.metrics.bootstrap import Interval
from potstill.metrics.metric import Metric
from potstill.metrics.retention import gain_retained, is_above, retention
from potstill.tasks.classification import Classification
from potstill.tasks.evaluation import Evaluation, evaluate_classification, majority_answer
from potstill.tasks.flips import Flips, find_flips
from potstill.workflows.comparison import HeldOutRows, Quality

Floats = NDArray[np.floating[Any]]
Int64 = NDArray[np.int64]

UNSOLVED = "the baseline does not solve this task: it is not surely above the most frequent class"
_LABELS_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Proof:
    """Held-out rows that all models answer in the same labels."""

    rows: Rows
    task: Classification
    targets_B: Int64
    metric: Metric  # that retention speaks of
    orders: Mapping[str, list[int]]  # by model: where each of the baseline's labels stands
    sha256: str | None  # of the file
    seed: int  # of the resampled intervals

    @property
    def primary(self) -> str:
        """Return the name of the metric."""
        return self.metric.name

    def statistics(self, predicted_B: Int64) -> Floats:
        """Return what the metric needs of each row."""
        return self.metric.statistics(predicted_B, self.targets_B)

    def facts(self, evaluation: Evaluation) -> HeldOutRows:
        """Return what a report says about the rows."""
        return HeldOutRows(
            source=shown_path(self.rows.source),
            rows=len(self.rows),
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
    seed: int,
) -> Proof:
    """Read held-out rows for models by name, the baseline first.

    Args:
        folders: the models; all must classify into the same labels, in any order.
        test: anything that `read_rows` takes.
        columns: the names of its columns.
        primary: the metric; None: the one that the baseline was chosen by, else accuracy.
        seed: of the resampled intervals.

    Raises:
        InputError: a model without a classifier, or with other labels than the baseline.
        DataError: the rows cannot be read, or hold a label that the models do not have.
        RecipeError: no such metric.
    """
    for name, folder in folders.items():
        _require_classifier(name, folder)
    baseline, folder = next(iter(folders.items()))
    task = Classification(folder.head.labels)
    orders = {name: _label_order(name, other, baseline, folder) for name, other in folders.items()}
    chosen = primary or (folder.manifest.primary if folder.manifest else None) or "accuracy"
    metric = task.metric(chosen)
    rows = select_columns(read_rows(test), columns, required=("text", "label"), optional=())
    return Proof(rows, task, task.targets(rows), metric, orders, _sha256(test), seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the answers tell, by model."""

    quality: Mapping[str, Quality]
    agreement: Mapping[str, Interval]  # with the baseline
    flips: Mapping[str, Flips]  # against the baseline
    test: HeldOutRows
    note: str | None  # why there is no retention, where there is none
    warnings: Sequence[str]


def judge(proof: Proof, stored_BC: Mapping[str, Floats]) -> Judged:
    """Judge the models' logits, by name, the baseline first, columns in each model's own order."""
    logits_of = {name: logits[:, proof.orders[name]] for name, logits in stored_BC.items()}
    evaluations = {name: _evaluation(proof, logits) for name, logits in logits_of.items()}
    answers = {name: logits.argmax(axis=-1) for name, logits in logits_of.items()}
    statistics = {name: proof.statistics(predicted) for name, predicted in answers.items()}
    majority = proof.statistics(majority_answer(proof.targets_B))
    baseline, *others = logits_of
    teacher = statistics[baseline]
    is_solved = is_above(proof.metric, [teacher], [majority], seed=proof.seed)
    beside = _Beside(teacher, majority) if is_solved else None
    return Judged(
        quality={
            name: _quality(proof, evaluation, statistics[name], beside)
            for name, evaluation in evaluations.items()
        },
        agreement={
            name: agreement(answers[baseline], answers[name], seed=proof.seed) for name in others
        },
        flips={name: _flips(proof, logits_of[baseline], logits_of[name]) for name in others},
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


def _evaluation(proof: Proof, logits_BC: Floats) -> Evaluation:
    return evaluate_classification(
        proof.task, logits_BC, proof.targets_B, primary=proof.primary, seed=proof.seed
    )


def _quality(proof: Proof, evaluation: Evaluation, own: Floats, beside: _Beside | None) -> Quality:
    kept = gain = None
    if beside is not None:
        metric, seed = proof.metric, proof.seed
        kept = retention(metric, [own], [beside.baseline], seed=seed)
        gain = gain_retained(metric, [own], [beside.baseline], beside.majority, seed=seed)
    return Quality(
        metrics=evaluation.metrics,
        per_class=tuple(evaluation.per_class),
        retention=kept,
        gain_retained=gain,
    )


def _flips(proof: Proof, teacher_BC: Floats, student_BC: Floats) -> Flips:
    return find_flips(proof.task.labels, proof.rows, proof.targets_B, teacher_BC, student_BC)


def _require_classifier(name: str, folder: ModelFolder) -> None:
    if folder.task != "classification":
        raise InputError(
            f"the task of model {name} is {folder.task or 'none (a bare encoder)'}, so it has no "
            "answers to --test",
            allowed="classification",
            cure="fine-tune it first (potstill finetune), or leave --test out to compare speed",
        )


def _label_order(
    name: str, folder: ModelFolder, baseline: str, baseline_folder: ModelFolder
) -> list[int]:
    """Return where each of the baseline's labels stands among the model's own."""
    own, labels = folder.head.labels, baseline_folder.head.labels
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


def shown_path(source: str) -> str:
    """Return a source as it was named; of a place on somebody's disk only the last part."""
    return Path(source).name if Path(source).is_absolute() else source


def _sha256(test: object) -> str | None:
    is_file = isinstance(test, str | Path) and Path(test).is_file()
    return sha256_of_file(Path(str(test))) if is_file else None
