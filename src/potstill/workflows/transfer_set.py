"""The rows of a distillation: labelled ones, and texts that only the teacher speaks of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.folder import ModelFolder
from potstill.data.columns import Columns
from potstill.data.rows import Rows
from potstill.data.splits import split_rows
from potstill.data.text_keys import text_keys
from potstill.distillation.objective import UNLABELLED
from potstill.errors import DataError, InputError, ModelError
from potstill.tasks.classification import Classification
from potstill.text.ragged import RaggedBatch, concatenate
from potstill.text.tokenizer import Tokenizer
from potstill.workflows.task_rows import (
    encode_rows,
    labelled_rows,
    rows_hash,
    train_and_dev,
    unlabelled_rows,
    warn_of_rows,
)

Int64 = NDArray[np.int64]


class RowSettings(Protocol):
    """What of a recipe decides the rows."""

    @property
    def seed(self) -> int: ...  # noqa: D102 - a field of the recipe
    @property
    def dev_share(self) -> float: ...  # noqa: D102
    @property
    def max_length(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSet:
    """All rows, as tokens. The labelled ones stand first."""

    task: Classification
    tokenizer: Tokenizer  # of the first teacher, and of the student
    max_length: int  # tokens of a text
    texts: Sequence[RaggedBatch]  # as each teacher's own tokenizer reads them
    targets: Int64  # (R,), UNLABELLED for texts that only the teacher speaks of
    dev_texts: RaggedBatch
    dev_targets: Int64 | None  # None: no row has a label, so the teacher's answers are the measure
    sources: dict[str, object]  # for the lineage: which files, how many rows
    identity: str  # hash of tokens and labels
    warnings: list[str] = field(default_factory=list)

    @property
    def labelled(self) -> Int64:
        """Return the numbers of the labelled rows."""
        return np.flatnonzero(self.targets != UNLABELLED)

    def search_texts(self, most: int) -> RaggedBatch:
        """Return a part of the training texts, spread over all of them."""
        texts = self.texts[0]
        return texts.take(np.arange(0, len(texts), max(1, len(texts) // most))[:most])


def read_transfer_set(
    folders: Sequence[ModelFolder],
    *,
    train: object | None,
    dev: object | None,
    unlabelled: object | None,
    columns: Columns,
    recipe: RowSettings,
) -> TransferSet:
    """Read and encode the rows of a distillation.

    Raises:
        InputError: neither labelled nor unlabelled rows.
        DataError: a row that cannot be used; file, line and field are named.
        ModelError: teachers of different labels.
    """
    if train is None and unlabelled is None:
        raise InputError(
            "there is nothing to learn from",
            allowed="--train with labelled rows, --unlabelled with texts, or both",
        )
    task = _common_task(folders)
    warnings = [warning for folder in folders for warning in folder.warnings()]
    labelled, free, dev_rows = _rows(train, dev, unlabelled, columns, recipe)
    free = _without_dev_texts(free, labelled, dev_rows, warnings)
    if labelled is not None and "label" in dev_rows:
        warn_of_rows(labelled, dev_rows, warnings)
    tokenizers = [folder.tokenizer() for folder in folders]
    max_length = min(recipe.max_length or folders[0].max_length, folders[0].config.max_length)
    parts = [rows for rows in (labelled, free) if rows is not None and len(rows)]
    encoded = [
        encode_rows(tokenizers[0], rows, max_length=max_length, warnings=warnings)
        for rows in (*parts, dev_rows)
    ]
    others = [
        concatenate(
            [tokenizer.encode(rows.column("text"), max_length=max_length).batch for rows in parts]
        )
        for tokenizer in tokenizers[1:]
    ]
    targets = [
        task.targets(rows) if "label" in rows else np.full(len(rows), UNLABELLED) for rows in parts
    ]
    labels = [rows.column("label") for rows in (*parts, dev_rows) if "label" in rows]
    return TransferSet(
        task=task,
        tokenizer=tokenizers[0],
        max_length=max_length,
        texts=[concatenate([part.batch for part in encoded[:-1]]), *others],
        targets=np.concatenate(targets),
        dev_texts=encoded[-1].batch,
        dev_targets=task.targets(dev_rows) if "label" in dev_rows else None,
        sources={
            "train": _name(labelled),
            "train_rows": len(labelled) if labelled is not None else 0,
            "unlabelled": _name(free),
            "unlabelled_rows": len(free) if free is not None else 0,
            "dev_rows": len(dev_rows),
        },
        identity=rows_hash(encoded, labels),
        warnings=warnings,
    )


def _common_task(folders: Sequence[ModelFolder]) -> Classification:
    first = folders[0]
    for other in folders[1:]:
        if other.head.labels != first.head.labels:
            raise ModelError(
                f"its labels are {', '.join(other.head.labels)}, those of {first.path.name} are "
                f"{', '.join(first.head.labels)}",
                where=str(other.path),
                allowed="teachers of the same labels in the same order",
            )
    return Classification(first.head.labels)


def _rows(
    train: object | None,
    dev: object | None,
    unlabelled: object | None,
    columns: Columns,
    recipe: RowSettings,
) -> tuple[Rows | None, Rows | None, Rows]:
    """Return labelled rows, texts without labels, and dev rows."""
    free = None if unlabelled is None else unlabelled_rows(unlabelled, columns)
    share, seed = recipe.dev_share, recipe.seed
    if train is not None:
        labelled, dev_rows = train_and_dev(train, dev, columns, dev_share=share, seed=seed)
        return labelled, free, dev_rows
    assert free is not None, "checked before"
    if dev is not None:
        return None, free, labelled_rows(dev, columns)
    free, dev_rows = split_rows(free, fraction=share, seed=seed, stratify_by=None)
    return None, free, dev_rows


def _without_dev_texts(
    free: Rows | None, labelled: Rows | None, dev: Rows, warnings: list[str]
) -> Rows | None:
    """Leave out unlabelled texts that stand in the dev rows, or among the labelled ones."""
    if free is None:
        return None
    held_out = set(text_keys(dev))
    known = held_out | (set(text_keys(labelled)) if labelled is not None else set())
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
