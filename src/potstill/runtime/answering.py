"""From rows to answers: what every verb does that asks a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from potstill.bundle.folder import ModelFolder
from potstill.data.ahead import made_ahead
from potstill.data.in_memory import Frame
from potstill.data.rows import Rows
from potstill.errors import DataError, InputError
from potstill.runtime.engine import Engine
from potstill.tasks.kinds import ANSWERABLE, task_of_model
from potstill.tasks.task import Lengths, Task
from potstill.text.tokenizer import Tokenizer
from potstill.text.windows import Windows

_NAMES_OF_PAIRS = ("text", "text_pair")
PAIRED = ("classification", "multi-label", "regression")  # tasks of single texts, or of pairs


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """Answers to rows, and the windows in which the model read them."""

    answers: Any  # one a row, see `Task.answers`
    windows: Windows


def task_of_folder(folder: ModelFolder) -> Task:
    """Return the task that a model answers.

    Raises:
        InputError: it is a bare encoder, or of a task without answers.
    """
    if folder.task not in ANSWERABLE:
        raise InputError(
            f"the task of this model is {folder.task or 'none (a bare encoder)'}",
            where=str(folder.path),
            allowed=", ".join(ANSWERABLE),
            cure="fine-tune it first (potstill finetune), or use embed for its vectors",
        )
    manifest = folder.manifest
    return task_of_model(
        folder.task,
        folder.answering_head,
        manifest.thresholds if manifest else {},
        manifest.settings if manifest else {},
    )


def require_form(folder: ModelFolder, rows: Rows) -> None:
    """Check that rows are pairs where the model has learned from pairs.

    Raises:
        DataError: they are single texts, which it would answer all the same.
    """
    settings = folder.manifest.settings if folder.manifest else {}
    if settings.get("pairs") is True and "text_pair" not in rows and len(rows):
        raise DataError(
            "these are single texts, and the model has learned from pairs of them",
            where=rows.source,
            allowed="rows with text and text_pair",
            cure="name the column of the second texts with --text-pair-column",
        )


def lengths_of_folder(folder: ModelFolder, task: Task, *, max_length: int) -> Lengths:
    """Return how long texts may be for this model, and what becomes of longer ones."""
    manifest = folder.manifest
    return Lengths(
        max_length=max_length,
        long_texts=(manifest.long_texts if manifest else None) or task.long_texts,
        overlap=_fitting((manifest.overlap if manifest else None) or 0, max_length),
    )


def _fitting(overlap: int, max_length: int) -> int:
    """Return the overlap, or 0 (a share of the length) where the user asks for shorter windows."""
    return overlap if overlap <= max_length // 2 else 0


def answer_rows(
    task: Task, rows: Rows, tokenizer: Tokenizer, engine: Engine, lengths: Lengths
) -> Answered:
    """Answer all rows."""
    return _answered(task, rows, task.windows(tokenizer, rows, lengths), engine)


def answer_parts(
    task: Task, parts: Iterable[Rows], tokenizer: Tokenizer, engine: Engine, lengths: Lengths
) -> Iterator[tuple[Rows, Answered]]:
    """Answer rows part by part, in order; the next part is tokenized while one is computed."""
    read = ((rows, task.windows(tokenizer, rows, lengths)) for rows in parts)
    for rows, windows in made_ahead(read):
        yield rows, _answered(task, rows, windows, engine)


def _answered(task: Task, rows: Rows, windows: Windows, engine: Engine) -> Answered:
    outputs = engine.run(windows.texts)["logits"]
    return Answered(task.answers(outputs, windows, rows), windows)


def rows_of_inputs(task: str, inputs: Iterable[Any]) -> Rows:
    """Turn what a caller hands to `predict` into unlabelled rows of the task.

    Args:
        task: the kind.
        inputs: an iterable of texts; pairs of texts; of entities also lists of words; of questions
            pairs or dicts of question and context; or dicts with our columns.

    Raises:
        DataError: something else, with its place in the list.
    """
    from potstill.data.columns import Columns
    from potstill.tasks.reading import unlabelled

    records = [_record(task, given, place) for place, given in enumerate(_listed(inputs))]
    if not records:
        return Rows({name: [] for name in _columns_of(task)}, "list")
    return unlabelled(task, records, Columns())


def _listed(inputs: Any) -> list[Any]:
    """Return the inputs one by one; what gives its columns' names when it is iterated is refused.

    Raises:
        DataError: one input instead of several, or a table.
    """
    if isinstance(inputs, str):
        raise DataError("texts is one string", allowed="a list of strings", cure="[text]")
    is_table = isinstance(inputs, Mapping | Frame)
    if is_table or not isinstance(inputs, Iterable):
        raise DataError(
            f"the inputs are a {type(inputs).__name__}",
            allowed="a list of texts, of pairs, or of dicts",
            cure='frame["text"].tolist(), or frame.to_dict("records")'
            if isinstance(inputs, Frame)
            else "put it into a list",
        )
    return list(inputs)


def inputs_of_rows(rows: Rows) -> list[Any]:
    """Return rows as `Model.predict` takes them: texts, or dicts of several columns."""
    if "question" in rows:
        names: tuple[str, ...] = ("question", "context")
    elif "tokens" in rows:
        names = ("tokens",)
    elif "text_pair" in rows:
        names = _NAMES_OF_PAIRS
    else:
        return list(rows.column("text"))
    parts = zip(*(rows.column(name) for name in names), strict=True)
    return [dict(zip(names, each, strict=True)) for each in parts]


def inputs_of_texts(task: str | None, texts: Sequence[str]) -> list[Any]:
    """Make inputs of any task out of plain texts, to time a model without rows of its own."""
    if task not in {"question-answering", "ranking"}:
        return list(texts)
    names = ("question", "context") if task == "question-answering" else _NAMES_OF_PAIRS
    return [dict(zip(names, (texts[0], text), strict=True)) for text in texts]


def _columns_of(task: str) -> tuple[str, ...]:
    if task == "question-answering":
        return ("id", "question", "context")
    if task == "token-classification":
        return ("text", "tokens", "word_spans")
    return _NAMES_OF_PAIRS if task == "ranking" else ("text",)


def _record(task: str, given: Any, place: int) -> dict[str, Any]:
    if isinstance(given, dict):
        return given
    names = ("question", "context") if task == "question-answering" else _NAMES_OF_PAIRS
    needs_two = task in {"question-answering", "ranking"}
    if isinstance(given, str) and not needs_two:
        return {"text": given}
    is_list = isinstance(given, tuple | list) and all(isinstance(each, str) for each in given)
    if is_list and task == "token-classification":
        return {"tokens": list(given)}
    if is_list and len(given) == len(names):
        return dict(zip(names, given, strict=True))
    raise _no_input(given, names if needs_two else None, place)


def _no_input(given: Any, names: tuple[str, str] | None, place: int) -> DataError:
    """Return what is wrong with an input; `names` are those of the two texts that are needed."""
    is_list = isinstance(given, tuple | list) and all(isinstance(each, str) for each in given)
    found = f"{len(given)} strings" if is_list else type(given).__name__
    if names is None:
        return DataError(
            f"text is {found}, not a string",
            where=f"item {place}",
            allowed="a string, or a pair of strings",
        )
    first, second = names
    return DataError(
        f"{'one text' if isinstance(given, str) else found}, where this model reads two",
        where=f"item {place}",
        allowed=f"pairs ({first}, {second}), or dicts of these",
        cure=f"on the command line --input FILE with the columns {first} and {second}",
    )
