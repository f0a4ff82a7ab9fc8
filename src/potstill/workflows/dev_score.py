"""The score by which weights are chosen: the primary metric of dev rows, through the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from potstill.data.rows import Rows
from potstill.metrics.metric import point
from potstill.models.precision import Precision
from potstill.models.task_model import TaskModel
from potstill.runtime.torch_engine import TorchEngine
from potstill.tasks.task import Task
from potstill.text.ragged import RaggedBatch
from potstill.text.windows import Windows


@dataclass(frozen=True, slots=True, kw_only=True)
class DevScore:
    """What a score needs beside the model."""

    task: Task
    rows: Rows
    windows: Windows
    gold: Any
    primary: str
    precision: Precision

    def of(self, model: TaskModel, texts: RaggedBatch) -> float:
        """Return the primary metric of the model as it is now; greater is better.

        Thresholds are chosen on the same dev rows, as they will be for the bundle.
        """
        answers = self.answers(model, texts)
        task = self.task.fitted(answers, self.gold)
        metric = task.metric(self.primary)
        return point(metric, task.statistics(metric, answers, self.gold))

    def answers(self, model: TaskModel, texts: RaggedBatch) -> Any:
        """Return the model's answers to the dev rows."""
        outputs = TorchEngine(model, precision=self.precision).run(texts)["logits"]
        return self.task.answers(outputs, self.windows, self.rows)

    def fitted_task(self, model: TaskModel) -> Task:
        """Return the task with the thresholds that suit a model."""
        return self.task.fitted(self.answers(model, self.windows.texts), self.gold)

    def watching(self, model: TaskModel, texts: RaggedBatch) -> Callable[[], float]:
        """Return the score as the training loop takes it."""
        return lambda: self.of(model, texts)
