"""What a student is before its first step: its losses on dev rows, and how exact the cut is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from potstill.models.precision import Precision
from potstill.models.task_model import TaskModel
from potstill.runtime.torch_engine import TorchEngine
from potstill.tasks.regression import Regression
from potstill.tasks.task import Task
from potstill.text.ragged import RaggedBatch
from potstill.train.answer_losses import AnswerLoss, VectorLoss
from potstill.workflows.task_rows import learnable
from potstill.workflows.transfer_set import TransferSet

_EXACT_TEXTS = 64  # on which the embedding outputs are compared


class Startable(Protocol):
    """What of a run decides how it begins."""

    @property
    def recipe(self) -> Any: ...  # noqa: D102 - fields of a StudentRun
    @property
    def data(self) -> TransferSet: ...  # noqa: D102
    @property
    def teachers(self) -> Any: ...  # noqa: D102
    @property
    def loss(self) -> AnswerLoss: ...  # noqa: D102
    @property
    def learner(self) -> Any: ...  # noqa: D102
    @property
    def precision(self) -> Precision: ...  # noqa: D102
    @property
    def device(self) -> torch.device: ...  # noqa: D102
    def untaught(self) -> TaskModel: ...  # noqa: D102


def start_of(run: Startable) -> dict[str, Any]:
    """Return what the student loses on dev before the first step, and how exact the cut is.

    Losses are means over positions of the dev rows: hard_labels to the labels (null where there are
    none), soft_targets to the teacher.
    """
    data, teacher = run.data, run.teachers[0]
    student = run.untaught().to(run.device)
    rows = learnable(
        data.task, data.dev_rows, data.dev_windows, has_labels=data.dev_gold is not None
    )
    theirs, ours = (
        torch.from_numpy(TorchEngine(model, precision=run.precision).run(rows.texts)["logits"])
        for model in (teacher, student)
    )
    temperature, task = run.recipe.temperature, data.task
    loss = replace(run.loss, similarity=0.0) if isinstance(run.loss, VectorLoss) else run.loss
    return {
        "teacher": {
            "hard_labels": _mean(loss.labels(_as_trained(task, theirs), rows)),
            "soft_targets": 0.0,
        },
        "student": {  # it is as it will be trained already
            "hard_labels": _mean(loss.labels(ours, rows)),
            "soft_targets": _mean(loss.soft(ours, theirs, rows, temperature=temperature)),
        },
        "embedding_difference": None
        if run.recipe.width or run.learner
        else embedding_difference(teacher, student, rows.texts),
    }


def _as_trained(task: Task, outputs: torch.Tensor) -> torch.Tensor:
    """Return outputs as a model in training would give them: numbers as deviations."""
    return (outputs - task.center) / task.scale if isinstance(task, Regression) else outputs


def embedding_difference(teacher: TaskModel, student: TaskModel, texts: RaggedBatch) -> float:
    """Return the largest difference of the embedding outputs of some single texts, in fp32."""
    some = texts.take(np.arange(min(_EXACT_TEXTS, len(texts))))

    def embedded(model: TaskModel) -> NDArray[np.float32]:
        output: NDArray[np.float32] = TorchEngine(model).run(some, ["state.0"])["state.0"]
        return output

    return float(np.abs(embedded(teacher) - embedded(student)).max())


def _mean(values: torch.Tensor) -> float | None:
    return float(values.double().mean()) if len(values) else None
