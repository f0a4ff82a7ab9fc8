"""Rows of each kind of task: which columns they need, with and without what is to be learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from potstill.data.columns import Columns, LabelKind, select_columns
from potstill.data.iob2 import require_iob2
from potstill.data.readers import read_rows
from potstill.data.rows import Rows
from potstill.data.squad import answers_in_place, question_rows
from potstill.errors import DataError
from potstill.tasks.token_classification import with_words

_PAIRS = ("text", "text_pair", "label")
_MOST_UNLABELLED_LABELS = 50  # different texts: below it a column of texts looks like labels


@dataclass(frozen=True, slots=True, kw_only=True)
class RowKind:
    """How the rows of a task are read."""

    label: LabelKind | None = None  # of the column `label`, None where there is none
    needs_pair: bool = False
    names: str | None = None  # the column of what a model can answer only if it was taught
    stratify: bool = False  # dev rows are carved so that each class keeps its share
    splits_pairs: bool = True  # a text may stand in train and dev with other second texts


KINDS: Mapping[str, RowKind] = {
    "classification": RowKind(label="class", names="label", stratify=True),
    "multi-label": RowKind(label="classes", names="label"),
    "regression": RowKind(label="number"),
    "ranking": RowKind(label="number", needs_pair=True, splits_pairs=False),
    "token-classification": RowKind(names="tags"),
    "question-answering": RowKind(splits_pairs=False),
    "embedding": RowKind(label="number"),
}


def labelled(task: str, source: object, columns: Columns) -> Rows:
    """Read rows with what is to be learned.

    Raises:
        DataError: with file, line and field.
    """
    rows = read_rows(source)
    if task == "question-answering":
        return question_rows(rows, columns)
    if task == "token-classification":
        found = select_columns(rows, columns, required=("tokens", "tags"), optional=())
        require_iob2(found, columns)
        return with_words(found)
    kind = KINDS[task]
    required: tuple[str, ...] = ("text", "label")
    optional: tuple[str, ...] = ("text_pair",)
    if task == "embedding":  # pairs with a number where there are numbers, else texts
        has_numbers = columns.label in rows and columns.text_pair in rows
        required, optional = _PAIRS if has_numbers else ("text",), ()
    elif kind.needs_pair:
        required, optional = _PAIRS, ()
    return select_columns(rows, columns, required, optional, label_kind=kind.label or "class")


def for_training(task: str, rows: Rows) -> tuple[Rows, list[str]]:
    """Return labelled rows that can be learned from, and what was mended or left out."""
    if task == "question-answering":
        return answers_in_place(rows)
    return rows, []


def unlabelled(task: str, source: object, columns: Columns) -> Rows:
    """Read rows without what is to be learned: for predictions, and for a teacher to speak of.

    Raises:
        DataError: no such column, or a column of labels that is mistaken for one of texts.
    """
    rows = read_rows(source)
    if task == "question-answering":
        return question_rows(rows, columns, labelled=False)
    if task == "token-classification":
        name = "tokens" if columns.tokens in rows else "text"
        return with_words(select_columns(rows, columns, required=(name,), optional=()))
    required = ("text", "text_pair") if KINDS[task].needs_pair else ("text",)
    optional = () if "text_pair" in required or task == "embedding" else ("text_pair",)
    return select_columns(rows, columns, required, optional)


def require_texts(rows: Rows, columns: Columns) -> None:
    """Check that a column of texts is none of labels.

    Raises:
        DataError: few short values that come again and again.
    """
    if "text" not in rows or "tokens" in rows:
        return
    texts = rows.column("text")
    different = set(texts)
    is_few = 0 < len(different) <= min(_MOST_UNLABELLED_LABELS, len(texts) // 4)
    if is_few and max(len(text.split()) for text in different) <= 2:
        raise DataError(
            f"column {columns.text!r} holds {len(different)} different values in "
            f"{len(texts):,} rows, such as {min(different)!r}: it looks like labels, not texts",
            where=rows.source,
            cure="name the column of texts with --text-column",
        )


def require_one_form(train: Rows, other: Rows) -> None:
    """Check that all rows of a run are pairs, or none.

    Raises:
        DataError: a model would learn from pairs and be judged by single texts, or the reverse.
    """
    if ("text_pair" in train) == ("text_pair" in other):
        return
    alone, paired = (other, train) if "text_pair" in train else (train, other)
    raise DataError(
        f"there is no second text, but there is one in {paired.source}",
        where=alone.source,
        cure="give both files the column that --text-pair-column names (text_pair), or neither",
    )
