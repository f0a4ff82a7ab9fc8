"""Read questions: SQuAD's JSON (1.1, 2.0), the flat form of Hugging Face's sets, and our own.

Our own columns are id, question, context, answers (texts; none: there is no answer) and
answer_starts (the place of each in the context: Unicode code points from 0).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from potstill.data import fields
from potstill.data.columns import Columns, checked_column, select_columns
from potstill.data.opening import decoded, numbered_lines, opened
from potstill.data.rows import Rows
from potstill.errors import DataError

_NAMES = ("id", "question", "context", "answers", "answer_starts")
_SQUAD = '{"data": [{"paragraphs": [{"context": ..., "qas": [{"question": ..., "answers": []}]}]}]}'
_ANSWERS = '[{"text": ..., "answer_start": ...}] or {"text": [...], "answer_start": [...]}'
_ROWS_INSTEAD = "for rows of another kind write one JSON object a line and name the file .jsonl"


def read_squad(path: Path, *, limit: int | None = None) -> Rows:
    """Read the first `limit` questions of a file of SQuAD's form, or all of them.

    Values are taken as they stand: `question_rows` checks them. A question that is marked
    impossible has no answers, whatever else stands there (`plausible_answers` are none).

    Raises:
        DataError: not JSON, or JSON of another form; the place in it is named.
    """
    source = str(path)
    with opened(path) as stream:
        content = b"".join(line for _, line in numbered_lines(stream, source))
    questions = list(islice(_questions(_parsed(content, source), source), limit))
    return Rows({name: [row[name] for row in questions] for name in _NAMES}, source)


def question_rows(rows: Rows, columns: Columns, *, labelled: bool = True) -> Rows:
    """Return questions under our own names and in canonical form, from any of the three forms.

    A row without an id has its number for one. Whether an answer stands at its place is not asked:
    see `answers_in_place`.

    Args:
        rows: with columns `question` and `context`; where those are absent, or `columns` names
            others, the columns of the text and of the second text.
        columns: the user's names.
        labelled: answers are needed; else they are left out.

    Raises:
        DataError: a column is absent, or a value is wrong; file, row and field are named.
    """
    asked = replace(
        columns,
        text=_column_of("question", columns.text, Columns().text, rows),
        text_pair=_column_of("context", columns.text_pair, Columns().text_pair, rows),
    )
    texts = select_columns(rows, asked, required=("text", "text_pair"), optional=())
    found = {
        "id": _ids(rows),
        "question": texts.column("text"),
        "context": texts.column("text_pair"),
    }
    return replace(rows, columns=found | (_answers(rows) if labelled else {}))


def answers_in_place(rows: Rows) -> tuple[Rows, list[str]]:
    """Return questions that can be learned from, and a line for what was mended or left out.

    An answer that does not stand at its place is moved to where it stands if it stands exactly
    once in the context, and else left out: nobody knows which one is meant. A question that has
    lost all its answers is left out too. Questions without an answer stay as they are.

    Args:
        rows: of `question_rows`.

    Raises:
        DataError: no question is left.
    """
    placed = [_placed(*row) for row in _answered(rows)]
    kept = [index for index, found in enumerate(placed) if found.can_be_learned]
    if not kept:
        raise DataError(
            f"none of the {len(rows):,} questions has an answer that stands in its context",
            where=rows.source,
            allowed="an answer is a part of its context; answer_start counts Unicode code points",
        )
    texts = [placed[index].texts for index in kept]
    starts = [placed[index].starts for index in kept]
    taken = rows.take(kept).with_columns({"answers": texts, "answer_starts": starts})
    return taken, _told(rows, placed)


@dataclass(frozen=True, slots=True)
class _Placed:
    """The answers of one question that have a place in its context."""

    texts: list[str]
    starts: list[int]
    moved: int  # of them
    lost: int  # beside them

    @property
    def can_be_learned(self) -> bool:
        return bool(self.texts) or not self.lost


def _answered(rows: Rows) -> Iterator[tuple[str, list[str], list[int]]]:
    names = ("context", "answers", "answer_starts")
    return zip(*(rows.column(name) for name in names), strict=True)


def _placed(context: str, texts: list[str], starts: list[int]) -> _Placed:
    places = [_place(context, text, start) for text, start in zip(texts, starts, strict=True)]
    found = [(text, place) for text, place in zip(texts, places, strict=True) if place is not None]
    return _Placed(
        texts=[text for text, _ in found],
        starts=[place for _, place in found],
        moved=sum(place not in (None, start) for start, place in zip(starts, places, strict=True)),
        lost=len(texts) - len(found),
    )


def _place(context: str, text: str, start: int) -> int | None:
    if context.startswith(text, start):
        return start
    only = context.find(text)
    return None if only < 0 or context.find(text, only + 1) >= 0 else only


def _told(rows: Rows, placed: list[_Placed]) -> list[str]:
    """Say in one line what was mended and left out, where anything was."""
    total = sum(map(len, rows.column("answers")))
    moved, lost = sum(each.moved for each in placed), sum(each.lost for each in placed)
    told = []
    if moved:
        told.append(f"{moved:,} of {total:,} answers stood elsewhere than said and were mended")
    if lost:
        first = next(index for index, each in enumerate(placed) if each.lost)
        dropped = sum(not each.can_be_learned for each in placed)
        told.append(
            f"{lost:,} of {total:,} answers were left out, since they do not stand exactly once in "
            f"their context, and {dropped:,} questions that have no other; "
            f"the first: {rows.where(first)}, question {rows.column('id')[first]}"
        )
    return [f"{rows.source}: {'; '.join(told)}"] if told else []


def _parsed(content: bytes, source: str) -> Any:
    import orjson  # here, so that rows from memory need numpy alone

    try:
        return orjson.loads(content)
    except json.JSONDecodeError as error:  # the base class of orjson's own
        for number, line in enumerate(content.split(b"\n"), start=1):
            decoded(line, f"{source}, line {number}")  # a wrong encoding is told as such
        raise DataError(
            f"not valid JSON: {error.msg}",
            where=f"{source}, line {error.lineno}, column {error.colno}",
            allowed="one JSON object of SQuAD's form",
            cure=_ROWS_INSTEAD,
        ) from None


def _questions(content: Any, source: str) -> Iterator[dict[str, Any]]:
    """Yield a row of our columns for each question."""
    for article, at_article in _items(content, "data", source, "article"):
        for paragraph, at_paragraph in _items(article, "paragraphs", at_article, "paragraph"):
            for question, at_question in _items(paragraph, "qas", at_paragraph, "question"):
                if not isinstance(question, dict):
                    raise _not_squad("the question is no object", at_question)
                yield _row(question, paragraph.get("context"))


def _items(content: Any, name: str, where: str, unit: str) -> Iterator[tuple[Any, str]]:
    """Yield the items of a list in an object, each with its place."""
    found = content.get(name) if isinstance(content, dict) else None
    if not isinstance(found, list):
        raise _not_squad(f"there is no list {name!r}", where)
    for number, item in enumerate(found, start=1):
        yield item, f"{where}, {unit} {number}"


def _not_squad(what: str, where: str) -> DataError:
    return DataError(
        f"this is no SQuAD file: {what}", where=where, allowed=_SQUAD, cure=_ROWS_INSTEAD
    )


def _row(question: dict[str, Any], context: Any) -> dict[str, Any]:
    answers = _parts(question.get("answers"), is_impossible=question.get("is_impossible"))
    values = (question.get("id"), question.get("question"), context, *answers)
    return dict(zip(_NAMES, values, strict=True))


def _column_of(ours: str, asked: str, unasked: str, rows: Rows) -> str:
    """Return the user's column if one is asked for, or if only that is there; else ours."""
    return asked if asked != unasked or (ours not in rows and asked in rows) else ours


def _ids(rows: Rows) -> list[str]:
    given = rows.columns.get("id", [None] * len(rows))
    ids = [index + 1 if value is None else value for index, value in enumerate(given)]
    return checked_column(rows.with_columns({"id": ids}), "id", fields.identifier)


def _answers(rows: Rows) -> dict[str, list[Any]]:
    absent = [None] * len(rows)
    impossible = rows.columns.get("is_impossible", absent)
    given = zip(
        rows.column("answers"), rows.columns.get("answer_starts", absent), impossible, strict=True
    )
    parts = [_parts(*each) for each in given]
    names = ("answers", "answer_starts")
    shaped = rows.with_columns({name: [part[i] for part in parts] for i, name in enumerate(names)})
    texts = checked_column(shaped, "answers", fields.answer_texts)
    starts = checked_column(shaped, "answer_starts", fields.answer_starts)
    for index, (some, places) in enumerate(zip(texts, starts, strict=True)):
        if len(some) != len(places):
            raise DataError(
                f"{len(places)} starts for {len(some)} answers",
                where=rows.where(index, "answers"),
                allowed=_ANSWERS,
            )
    return dict(zip(names, (texts, starts), strict=True))


def _parts(answers: Any, starts: Any = None, is_impossible: Any = None) -> tuple[Any, Any]:
    """Return texts and starts from any of the three forms; what has no form, as it stands."""
    if is_impossible is True:
        return [], []
    if isinstance(answers, Mapping):
        return answers.get("text"), answers.get("answer_start")
    items = answers.tolist() if hasattr(answers, "tolist") else answers
    if not isinstance(items, list | tuple):
        return items, starts
    if items and all(isinstance(each, Mapping) for each in items):
        return [each.get("text") for each in items], [each.get("answer_start") for each in items]
    return items, [] if starts is None and not items else starts
