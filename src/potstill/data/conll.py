"""Read CoNLL columns: a word a line, its tag in the last column, an empty line after a sentence.

A line that holds a tab has its columns between tabs, so that a word may hold a blank; in all other
lines blanks part the columns. The first column is the word, the last the tag, those between are
passed over. In a file of one column there are words alone.

A line "# ..." before the first word of a sentence is a comment, unless it reads as a word of this
file: as many columns as the others, a tag in the last ("# O"). Later in a sentence "#" is a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import dropwhile, islice
from pathlib import Path
from typing import BinaryIO

from potstill.data.opening import decoded, numbered_lines, opened
from potstill.data.rows import Rows
from potstill.errors import DataError

_DOCUMENT = "-DOCSTART-"
_TAG = re.compile(r"O|[A-Z]-\S+")
_FORM = "in each line a word and, last, its tag; an empty line between sentences"


@dataclass(frozen=True, slots=True)
class _Line:
    number: int  # in the file, from 1
    columns: list[str]
    may_be_comment: bool


def read_conll(path: Path, *, limit: int | None = None) -> Rows:
    """Read the first `limit` sentences as rows of `tokens` and `tags`, or all of them.

    Lines that begin with -DOCSTART- end a sentence, as empty lines do. A sentence is known by the
    line of its first word. Without a second column there is no column `tags`.

    Raises:
        DataError: with file and line of the first fault: not UTF-8, a word without a tag, another
            number of columns than the line of the first word.
    """
    source = str(path)
    with opened(path) as stream:
        sentences = list(islice(_sentences(stream, source), limit))
    words = [[line.columns[0] for line in sentence] for sentence in sentences]
    tags = [[line.columns[-1] for line in sentence] for sentence in sentences]
    is_tagged = bool(sentences) and len(sentences[0][0].columns) > 1
    return Rows(
        {"tokens": words, "tags": tags} if is_tagged else {"tokens": words},
        source,
        line_numbers=[sentence[0].number for sentence in sentences],
    )


def _sentences(stream: BinaryIO, source: str) -> Iterator[list[_Line]]:
    """Yield sentences without their comments, all of one number of columns."""
    first: _Line | None = None
    for block in _blocks(stream, source):
        first = first or next((line for line in block if not line.may_be_comment), None)
        width = len(first.columns) if first else None
        sentence = list(dropwhile(partial(_is_comment, width=width), block))
        if sentence:
            first = first or sentence[0]
            _require_columns_of(first, sentence, source)
            yield sentence


def _blocks(stream: BinaryIO, source: str) -> Iterator[list[_Line]]:
    """Yield the lines between two empty ones."""
    block: list[_Line] = []
    for number, raw in numbered_lines(stream, source):
        text = _text_of(raw, f"{source}, line {number}")
        columns = _columns_of(text)
        if columns and not text.startswith(_DOCUMENT):
            block.append(_Line(number, columns, may_be_comment=text.startswith("# ")))
        elif block:
            yield block
            block = []
    if block:
        yield block


def _text_of(raw: bytes, where: str) -> str:
    text = decoded(raw, where).rstrip("\r\n")
    if "\r" in text:
        raise DataError(
            "a carriage return stands inside the line",
            where=where,
            allowed="lines that end with a line feed",
            cure="tr '\\r' '\\n' < OLD > NEW",
        )
    return text


def _columns_of(text: str) -> list[str]:
    # Only blanks and tabs part columns: a word may hold any other sign, also U+00A0.
    parts = (part.strip(" ") for part in text.split("\t" if "\t" in text else " "))
    return [part for part in parts if part]


def _is_comment(line: _Line, width: int | None) -> bool:
    is_word = width in (None, len(line.columns)) and _TAG.fullmatch(line.columns[-1])
    return line.may_be_comment and len(line.columns) > 1 and not is_word


def _require_columns_of(first: _Line, sentence: list[_Line], source: str) -> None:
    width = len(first.columns)
    for line in sentence:
        found = len(line.columns)
        if found != width:
            raise DataError(
                f"the word {line.columns[0]!r:.40} has no tag"
                if found == 1
                else f"the number of columns is {found}, in line {first.number} it is {width}",
                where=f"{source}, line {line.number}",
                allowed=_FORM,
                cure="put tabs between the columns, so that a word may hold a blank"
                if found > width
                else None,
            )
