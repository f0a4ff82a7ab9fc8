"""The control: what a student of the same shape learns without the teacher.

"pretrained" is the control proper: architecture and layers as the student's, taken from the model
that the teacher was tuned from, hard labels only, as many optimizer steps, over the labelled rows,
learning rate from the same grid on dev. "tuned" is the ablation: the same, begun from the tuned
teacher's own layers and head. "cut" is the student before its first step: what taking layers out
costs, and the one control where nothing but a teacher says what is right (embeddings).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from potstill.bundle.folder import ModelFolder
from potstill.bundle.manifest import fingerprint
from potstill.distillation.student import cut_student
from potstill.errors import ModelError
from potstill.models.loading import load_task_model, load_with_new_head
from potstill.models.task_model import TaskModel
from potstill.report import Report
from potstill.train.label_objective import LabelObjective
from potstill.train.learnable import Learnable
from potstill.train.loop import TrainingResult
from potstill.workflows.student_run import (
    StudentRun,
    Trained,
    best_of_rates,
    dev_score,
    write_trained,
)

CUT_ALONE = "cut"
CONTROLS = ("pretrained", "tuned", CUT_ALONE)


def train_control(run: StudentRun, start: ModelFolder, steps: int, out: Path, kind: str) -> Report:
    """Train the control of a student that took `steps` optimizer steps, and write its bundle."""
    run = replace(run, start=fingerprint(start.path))
    name = "control" if kind == "pretrained" else "ablation"
    labelled = run.data.labelled

    def build() -> TaskModel:
        if kind == "tuned":
            whole = load_task_model(start)
        else:
            whole = load_with_new_head(start, run.teachers[0].spec, seed=run.recipe.seed)
        student = cut_student(whole, run.config, run.kept)
        return run.prepared(student) if kind == "tuned" else student

    def objective_of(rows: Learnable) -> LabelObjective:
        return LabelObjective(rows.take(labelled), run.loss)

    steps_per_epoch = -(-len(labelled) // run.recipe.rows_per_step)
    epochs = steps / steps_per_epoch
    dev = dev_score(run)
    trained = best_of_rates(
        run,
        name,
        build=build,
        objective_of=objective_of,
        recipe=replace(run.recipe, epochs=epochs, scores_per_epoch=_scores(run, epochs)),
        dev=dev,
    )
    assert trained.result.steps == steps, "a control takes as many steps as its student"
    lineage: dict[str, Any] = {
        "verb": "distill --control" if kind == "pretrained" else "distill --control tuned",
        "layers_kept": list(run.kept),
        "model": start.path.name,
        "model_fingerprint": run.start,
    }
    return write_trained(run, trained, dev, out, lineage=lineage, details={"control": kind})


def write_cut(run: StudentRun, out: Path) -> Report:
    """Write the student as it is before its first step."""
    dev = dev_score(run)
    model = run.untaught().to(run.device)
    result = TrainingResult(
        steps=0,
        train_tokens=0,
        seconds=0.0,
        best_score=dev.of(model, run.data.dev_texts),
        best_step=0,
        scores=[],
        precision=run.precision,
        resumed_from=None,
        warnings=[],
    )
    lineage = {
        "verb": "distill --control cut",
        "layers_kept": list(run.kept),
        "model": run.teacher_folders[0].path.name,
    }
    trained = Trained(model=model, result=result, rate=0.0, tried=[])
    return write_trained(run, trained, dev, out, lineage=lineage, details={"control": CUT_ALONE})


def _scores(run: StudentRun, epochs: float) -> int:
    """Return scores per epoch so that the control is looked at as often as the student was."""
    scores = float(run.recipe.epochs) * int(run.recipe.scores_per_epoch)
    return max(1, round(scores / epochs))


def require_same_shape(start: ModelFolder, teacher: ModelFolder) -> None:
    """Check that a control can start from this model.

    Raises:
        ModelError: it is of another shape than the teacher.
    """
    for name in ("family", "layers", "hidden_size", "vocabulary_size"):
        ours, theirs = getattr(start.config, name), getattr(teacher.config, name)
        if ours != theirs:
            raise ModelError(
                f"its {name} is {ours}, the teacher's {theirs}",
                where=str(start.path),
                allowed="the model that the teacher was tuned from",
            )
