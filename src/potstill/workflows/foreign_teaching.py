"""A teacher that potstill does not run itself: what it says is asked for, or read from files.

The student is then a model of its own, `--student`: a pre-trained one of a family that potstill
knows, whole or with layers taken out, under a new head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from potstill.architectures.heads import HeadSpec
from potstill.bundle.folder import ModelFolder
from potstill.data.columns import Columns
from potstill.data.rows import Rows
from potstill.distillation.answer_files import read_answers
from potstill.distillation.foreign import ForeignModel, labels_in_order, open_foreign
from potstill.distillation.signals import Tell
from potstill.errors import InputError
from potstill.models.loading import load_with_new_head
from potstill.models.task_model import TaskModel
from potstill.tasks import reading
from potstill.tasks.embedding import Embedding
from potstill.tasks.kinds import ANSWERABLE, task_from_rows, task_of_model
from potstill.tasks.task import Task
from potstill.tasks.token_classification import TokenClassification
from potstill.workflows.task_facts import embedding_head
from potstill.workflows.transfer_set import TransferSources

Floats = NDArray[np.float32]

_OF_TOKENS = ("token-classification", "question-answering")


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenSources:
    """Where a teacher's answers come from."""

    student: str | Path | None = None  # the model that learns
    task: str = "classification"  # the kind
    foreign: str | Path | None = None  # any transformers model: a folder or "hub:NAME"
    answers: Sequence[str | Path] = ()  # files: of the training rows, then of the unlabelled ones

    @property
    def is_asked_for(self) -> bool:
        """Tell whether a teacher is given, not run."""
        return self.foreign is not None or bool(self.answers)


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenLesson:
    """A task, the model that learns it, and where rows and answers come from."""

    task: Task
    student: TaskModel
    sources: TransferSources
    labels: tuple[str, ...] = field(default=())


def prepare_lesson(  # noqa: PLR0913 - what one lesson is made of
    given: GivenSources,
    folder: ModelFolder,
    sources: TransferSources,
    *,
    max_length: int,
    seed: int,
    device: torch.device,
    tell: Tell,
) -> GivenLesson:
    """Find the task, put its head on the student, and open the teacher or its files.

    Args:
        given: what the user named.
        folder: the student's model.
        sources: rows.
        max_length: tokens of a text, for a foreign teacher.
        seed: of the new head.
        device: where a foreign teacher runs.
        tell: takes the rows that it has answered, and the rows of all.

    Raises:
        InputError: nothing tells the labels, or more files than sets of rows.
        ModelError: a foreign model that cannot be used, or whose labels are others.
        DataError: a file of answers that does not fit the rows.
    """
    foreign = (
        None
        if given.foreign is None
        else open_foreign(given.foreign, given.task, device=device.type)
    )
    task = _task(given, sources, foreign)
    if foreign is not None:
        order = labels_in_order(foreign.labels, task.labels) if task.labels else []

        def ask(rows: Rows) -> Any:
            return _ordered(foreign.answers(rows, max_length=max_length, tell=tell), order)

        width = foreign.width
        sources = replace(sources, ask=ask)
    else:
        sources, width = _with_files(given, sources, task)
    head = _head(task, folder, width)
    if isinstance(task, Embedding):
        task = Embedding(head)
    return GivenLesson(
        task=task, student=load_with_new_head(folder, head, seed=seed), sources=sources
    )


def _task(given: GivenSources, sources: TransferSources, foreign: ForeignModel | None) -> Task:
    if given.task == Embedding.name:
        return Embedding()
    if sources.train is not None:
        rows = reading.labelled(given.task, sources.train, sources.columns)
        return task_from_rows(given.task, rows)
    if foreign is None:
        raise InputError(
            "nothing tells which labels the answers are of",
            cure="give --train with labelled rows",
        )
    kind: Any = "classification"
    if given.task == TokenClassification.name:
        kind = given.task
    return task_of_model(given.task, HeadSpec(kind=kind, labels=foreign.labels), {}, {})


def _head(task: Task, folder: ModelFolder, width: int | None) -> HeadSpec:
    if not isinstance(task, Embedding):
        return task.head("first")
    own = embedding_head(folder)
    is_other = width is not None and width != folder.config.hidden_size
    return replace(own, width=width if is_other else None)


def _with_files(
    given: GivenSources, sources: TransferSources, task: Task
) -> tuple[TransferSources, int | None]:
    """Read the files of answers; the first is of the training rows where there are any."""
    if not task.head("first").answers_whole_texts:
        raise InputError(
            f"a file has one answer a row, and {task.name} needs one for each token",
            where="--teacher-answers",
            allowed=", ".join(name for name in ANSWERABLE if name not in _OF_TOKENS),
            cure="let the teacher itself answer, with --foreign-teacher or --teacher",
        )
    sets = [
        (name, rows)
        for name, rows in (("train", sources.train), ("unlabelled", sources.unlabelled))
        if rows is not None
    ]
    if len(given.answers) != len(sets):
        raise InputError(
            f"there are {len(given.answers)} files of answers for {len(sets)} files of rows",
            where="--teacher-answers",
            allowed="one for --train and one for --unlabelled, in this order",
        )
    found: dict[str, Floats] = {}
    for path, (name, source) in zip(given.answers, sets, strict=True):
        count = len(_rows(given.task, name, source, sources.columns))
        found[name] = read_answers(
            Path(path), rows=count, labels=task.labels, yes_or_no=task.loss == "yes-or-no"
        )
    width = next(iter(found.values())).shape[1] if isinstance(task, Embedding) else None
    return (
        replace(
            sources,
            train_answers=found.get("train"),
            unlabelled_answers=found.get("unlabelled"),
        ),
        width,
    )


def _rows(task: str, name: str, source: object, columns: Columns) -> Rows:
    is_labelled = name == "train" and task != Embedding.name
    return (reading.labelled if is_labelled else reading.unlabelled)(task, source, columns)


def _ordered(answers: Any, order: list[int]) -> Any:
    """Return answers with their columns in the order of our labels."""
    if not order:
        return answers
    if isinstance(answers, list):
        return [each[:, order] for each in answers]
    return answers[:, order]
