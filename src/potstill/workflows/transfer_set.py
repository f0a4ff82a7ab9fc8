"""The rows of a distillation: labelled ones, and others that only the teacher speaks of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.folder import ModelFolder
from potstill.data.columns import Columns
from potstill.data.rows import Rows
from potstill.data.text_keys import text_keys
from potstill.errors import DataError, InputError, ModelError
from potstill.runtime.answering import lengths_of_folder, task_of_folder
from potstill.tasks import reading
from potstill.tasks.embedding import Embedding
from potstill.tasks.regression import Regression
from potstill.tasks.task import Lengths, Task
from potstill.tasks.token_classification import with_words
from potstill.text.ragged import RaggedBatch, concatenate
from potstill.text.tokenizer import Tokenizer
from potstill.text.windows import Windows
from potstill.train.learnable import Learnable, joined
from potstill.workflows.given_answers import (
    COLUMN,
    outputs_over,
    with_answers,
    without_silence,
)
from potstill.workflows.task_rows import (
    carved,
    has_labels,
    learnable,
    rows_hash,
    train_and_dev,
    warn_of_rows,
    windows_of,
)

Int64 = NDArray[np.int64]
Floats = NDArray[np.float32]
Answers = Sequence[Any] | Floats  # one a row


class RowSettings(Protocol):
    """What of a recipe decides the rows."""

    @property
    def seed(self) -> int: ...  # noqa: D102 - a field of the recipe
    @property
    def dev_share(self) -> float: ...  # noqa: D102
    @property
    def max_length(self) -> int: ...  # noqa: D102
    @property
    def long_texts(self) -> str: ...  # noqa: D102
    @property
    def overlap(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSet:
    """All rows, as windows of tokens. Those of labelled rows stand first."""

    task: Task
    tokenizer: Tokenizer  # of the first teacher, and of the student
    lengths: Lengths
    rows: Learnable  # as the first teacher and the student read them
    row_count: int  # of which the windows are made
    teacher_texts: Sequence[RaggedBatch]  # as each teacher's own tokenizer reads them
    dev_rows: Rows
    dev_windows: Windows
    dev_gold: Any | None  # None: no row has a label, so the teacher's answers are the measure
    has_pairs: bool  # rows have two segments
    given: Floats | None = None  # outputs of a teacher that is not run here, of texts or tokens
    given_dev: Floats | None = None  # the same of the dev texts
    sources: dict[str, object]  # for the lineage: which files, how many rows
    identity: str  # hash of tokens and labels
    warnings: list[str] = field(default_factory=list)

    @property
    def texts(self) -> RaggedBatch:
        """Return the texts as the student reads them."""
        return self.rows.texts

    @property
    def dev_texts(self) -> RaggedBatch:
        """Return the dev texts."""
        return self.dev_windows.texts

    @property
    def labelled(self) -> Int64:
        """Return the numbers of the labelled texts."""
        return np.flatnonzero(self.rows.is_labelled)

    def search_rows(self, most: int) -> Learnable:
        """Return a part of the training texts, spread over all of them."""
        return self.rows.take(np.arange(0, len(self.rows), max(1, len(self.rows) // most))[:most])


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSources:
    """Where the rows come from."""

    train: object | None = None
    dev: object | None = None
    unlabelled: object | None = None
    columns: Columns = field(default_factory=Columns)
    augment: Callable[[Rows], Rows] | None = None  # makes more rows without labels
    train_answers: Answers | None = None  # a teacher's, of each training row
    unlabelled_answers: Answers | None = None  # and of each row without a label
    ask: Callable[[Rows], Answers] | None = None  # a foreign teacher


def read_transfer_set(
    folders: Sequence[ModelFolder],
    sources: TransferSources,
    recipe: RowSettings,
    *,
    task: Task | None = None,
) -> TransferSet:
    """Read and encode the rows of a distillation.

    Args:
        folders: the teachers; of a teacher that is not run here the model that becomes the student.
        sources: where rows and, if no teacher is run, answers come from.
        recipe: what decides the rows.
        task: None: that of the first teacher.

    Raises:
        InputError: neither labelled nor unlabelled rows, or a teacher that answers no task.
        DataError: a row that cannot be used; file, line and field are named.
        ModelError: teachers of different labels or tasks.
    """
    if sources.train is None and sources.unlabelled is None:
        raise InputError(
            "there is nothing to learn from",
            allowed="--train with labelled rows, --unlabelled with texts, or both",
        )
    task = task or _common_task(folders)
    warnings = [warning for folder in folders for warning in folder.warnings()]
    labelled, free, dev_rows = _rows(task.name, sources, recipe, warnings)
    free = _without_dev_texts(_more(free, labelled, sources), labelled, dev_rows, warnings)
    if labelled is not None and isinstance(task, Regression):
        task = Regression.from_rows(labelled)
    if labelled is not None and has_labels(dev_rows):
        warn_of_rows(task, labelled, dev_rows, warnings)
    parts = [rows for rows in (labelled, free) if rows is not None and len(rows)]
    if sources.ask is not None:
        parts = [with_answers(rows, sources.ask(rows)) for rows in parts]
        if task.name != Embedding.name or "text_pair" not in dev_rows:  # of two texts one vector
            dev_rows = with_answers(dev_rows, sources.ask(dev_rows))
    lengths = _lengths(folders[0], task, recipe)
    tokenizer = folders[0].tokenizer()
    windows = [windows_of(task, tokenizer, rows, lengths, warnings=warnings) for rows in parts]
    dev_windows = windows_of(task, tokenizer, dev_rows, lengths, warnings=warnings)
    rows, given = _learned(task, parts, windows, labelled)
    return TransferSet(
        task=task,
        tokenizer=tokenizer,
        lengths=lengths,
        rows=rows,
        row_count=sum(map(len, parts)),
        teacher_texts=[
            rows.texts,
            *(
                _others_texts(task, folders[0], other, parts, lengths, windows)
                for other in folders[1:]
            ),
        ],
        dev_rows=dev_rows,
        dev_windows=dev_windows,
        dev_gold=task.gold(dev_rows) if has_labels(dev_rows) else None,
        has_pairs=any(each.texts.token_types is not None for each in windows),
        given=given,
        given_dev=_given(task, dev_rows, dev_windows),
        sources={
            "train": _name(labelled),
            "train_rows": len(labelled) if labelled is not None else 0,
            "unlabelled": _name(free),
            "unlabelled_rows": len(free) if free is not None else 0,
            "dev_rows": len(dev_rows),
        },
        identity=rows_hash([*windows, dev_windows], [*parts, dev_rows], given),
        warnings=warnings,
    )


def _learned(
    task: Task, parts: Sequence[Rows], windows: Sequence[Windows], labelled: Rows | None
) -> tuple[Learnable, Floats | None]:
    """Return all rows as a training reads them, and a given teacher's outputs for them."""
    rows = joined(
        [
            learnable(task, part, each, has_labels=place == 0 and labelled is not None)
            for place, (part, each) in enumerate(zip(parts, windows, strict=True))
        ]
    )
    given = [_given(task, part, each) for part, each in zip(parts, windows, strict=True)]
    if given[0] is None:
        return rows, None
    return without_silence(rows, np.concatenate([each for each in given if each is not None]))


def _given(task: Task, rows: Rows, windows: Windows) -> Floats | None:
    if COLUMN not in rows:
        return None
    return outputs_over(rows, windows, classes=len(task.labels))


def _more(free: Rows | None, labelled: Rows | None, sources: TransferSources) -> Rows | None:
    """Return the rows without labels, with those that are made of all rows."""
    if sources.augment is None:
        return free
    made = [sources.augment(rows) for rows in (labelled, free) if rows is not None]
    parts = [*([] if free is None else [free]), *made]
    names = [name for name in ("text", "text_pair", "tokens") if name in made[0]]
    columns = {name: [value for part in parts for value in part.column(name)] for name in names}
    found = Rows(columns, free.source if free is not None else made[0].source)
    return with_words(found) if "tokens" in names else found


def _lengths(folder: ModelFolder, task: Task, recipe: RowSettings) -> Lengths:
    """Return the recipe's lengths; what it leaves open is as the teacher has it."""
    max_length = min(recipe.max_length or folder.max_length, folder.config.max_length)
    own = lengths_of_folder(folder, task, max_length=max_length)
    return Lengths(
        max_length=max_length,
        long_texts=recipe.long_texts or own.long_texts,
        overlap=recipe.overlap or own.overlap,
    )


def _others_texts(
    task: Task,
    first: ModelFolder,
    other: ModelFolder,
    parts: Sequence[Rows],
    lengths: Lengths,
    windows: Sequence[Windows],
) -> RaggedBatch:
    """Return the rows as another teacher's tokenizer reads them.

    Raises:
        ModelError: outputs could not be matched: other tokens or another number of windows.
    """
    tokenizer = other.tokenizer()
    own = [task.windows(tokenizer, rows, lengths) for rows in parts]
    are_matched = all(
        len(mine.texts) == len(theirs.texts)
        and (
            task.readable(mine) is None or np.array_equal(mine.texts.offsets, theirs.texts.offsets)
        )
        for mine, theirs in zip(own, windows, strict=True)
    )
    if not are_matched:
        raise ModelError(
            f"its tokenizer reads the rows otherwise than that of {first.path.name}, so their "
            "answers cannot be averaged token by token",
            where=str(other.path),
            allowed="teachers of one tokenizer for this task",
        )
    return concatenate([each.texts for each in own])


def _common_task(folders: Sequence[ModelFolder]) -> Task:
    first = folders[0]
    task = task_of_folder(first)
    for other in folders[1:]:
        if other.task != first.task:
            raise ModelError(
                f"its task is {other.task}, that of {first.path.name} is {first.task}",
                where=str(other.path),
                allowed="teachers of one task",
            )
        if other.head.labels != first.head.labels:
            raise ModelError(
                f"its labels are {', '.join(other.head.labels)}, those of {first.path.name} are "
                f"{', '.join(first.head.labels)}",
                where=str(other.path),
                allowed="teachers of the same labels in the same order",
            )
    return task


def _rows(
    task: str, sources: TransferSources, recipe: RowSettings, warnings: list[str]
) -> tuple[Rows | None, Rows | None, Rows]:
    """Return labelled rows, rows without labels, and dev rows."""
    columns = sources.columns
    free = None
    if sources.unlabelled is not None:
        free = reading.unlabelled(task, sources.unlabelled, columns)
        reading.require_texts(free, columns)
        free = with_answers(free, sources.unlabelled_answers)
    if task == Embedding.name:
        return _rows_of_vectors(free, sources, recipe)
    share, seed = recipe.dev_share, recipe.seed
    if sources.train is not None:
        labelled, dev_rows = train_and_dev(
            *(task, sources.train, sources.dev, columns),
            dev_share=share,
            seed=seed,
            warnings=warnings,
            attach=lambda rows: with_answers(rows, sources.train_answers),
        )
        if free is not None:
            reading.require_one_form(labelled, free)
        return labelled, free, dev_rows
    assert free is not None, "checked before"
    if sources.dev is not None:
        dev_rows = reading.labelled(task, sources.dev, columns)
        reading.require_one_form(free, dev_rows)
        return None, free, dev_rows
    free, dev_rows = carved(task, free, dev_share=share, seed=seed, has_labels=False)
    return None, free, dev_rows


def _rows_of_vectors(
    free: Rows | None, sources: TransferSources, recipe: RowSettings
) -> tuple[None, Rows, Rows]:
    """Return texts to align on and dev rows: nothing but a teacher says where a vector lies."""
    free = _all_texts(free, sources)
    if sources.dev is not None:
        return None, free, reading.labelled(Embedding.name, sources.dev, sources.columns)
    free, dev_rows = carved(
        Embedding.name, free, dev_share=recipe.dev_share, seed=recipe.seed, has_labels=False
    )
    return None, free, dev_rows


def _all_texts(free: Rows | None, sources: TransferSources) -> Rows:
    """Return the texts of both files: those of --train have no more to tell than others."""
    if sources.train is None:
        assert free is not None, "checked before"
        return free
    own = reading.unlabelled(Embedding.name, sources.train, sources.columns)
    own = with_answers(own, sources.train_answers)
    if free is None:
        return own
    columns = {name: [*own.column(name), *free.column(name)] for name in own.columns}
    return Rows(columns, " and ".join(Path(each.source).name for each in (own, free)))


def _without_dev_texts(
    free: Rows | None, labelled: Rows | None, dev: Rows, warnings: list[str]
) -> Rows | None:
    """Leave out unlabelled texts that stand in the dev rows, or among the labelled ones."""
    if free is None:
        return None
    with_pair = "text_pair" in free or "context" in free
    held_out = set(text_keys(dev, with_pair=with_pair))
    known = held_out | (
        set(text_keys(labelled, with_pair=with_pair)) if labelled is not None else set()
    )
    keys = text_keys(free)
    in_dev = sum(key in held_out for key in keys)
    if in_dev:
        warnings.append(
            f"{in_dev:,} of {len(free):,} unlabelled texts stand in the dev rows: left out"
        )
    left = free.take([row for row, key in enumerate(keys) if key not in known])
    if not len(left) and labelled is None:
        raise DataError(
            "every text stands in the dev rows too: there is nothing to learn from",
            where=free.source,
            cure="give other texts with --unlabelled, or leave --dev out",
        )
    return left


def _name(rows: Rows | None) -> str | None:
    """Return the file's name; of a place on somebody's disk only the last part."""
    return None if rows is None else Path(rows.source).name
