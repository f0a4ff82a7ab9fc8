"""What a value of each field must be, and its canonical form.

Each check takes one value and returns its canonical form, or raises a DataError that does not
name the place yet: the caller knows file, line and field.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from potstill.errors import DataError

_SHOWN_CHARACTERS = 40


def text(value: Any) -> str:
    """Return a text as it is; the empty one is allowed."""
    if not isinstance(value, str):
        raise DataError(
            "the value is missing" if _is_missing(value) else f"{_shown(value)} is not a string",
            allowed="a string",
        )
    if not value.isascii():
        _require_whole_pairs(value)
    return value


def class_label(value: Any) -> str:
    """Return the name of a class: 1, 1.0 and "1" are "1", True is "true", outer blanks go."""
    plain = _plain(value)
    if isinstance(plain, str):
        label = text(plain).strip()
    elif isinstance(plain, bool):
        label = "true" if plain else "false"
    elif isinstance(plain, int) or (isinstance(plain, float) and plain.is_integer()):
        label = str(int(plain))
    elif _is_missing(plain):
        label = ""
    else:
        raise DataError(
            f"{_shown(value)} is not the name of a class",
            allowed="a string, a whole number, true or false",
        )
    if not label:
        raise DataError("the label is empty", cure="give it a label, or leave the row out")
    return label


def class_labels(value: Any) -> list[str]:
    """Return the names of a row's classes, none twice: a list, or one string with | between."""
    if isinstance(value, str):
        value = [part for part in value.split("|") if part.strip()]
    return list(dict.fromkeys(class_label(each) for each in _items(value)))


def number(value: Any) -> float:
    """Return the target of a regression: a finite number, or a string that holds one."""
    plain = _plain(value)
    try:
        found = math.nan if isinstance(plain, bool) else float(plain)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise DataError(
            "the value is missing" if _is_missing(plain) else f"{_shown(value)} is not a number",
            allowed="a finite number",
        )
    return found


def tokens(value: Any) -> list[str]:
    """Return the words of a text that is already cut into words."""
    return [text(word) for word in _items(value)]


def tags(value: Any) -> list[str]:
    """Return the tags of a text's words, each in the form of a class label."""
    return [class_label(tag) for tag in _items(value)]


def identifier(value: Any) -> str:
    """Return the name by which other files call a row: 7, 7.0 and " 7 " are "7"."""
    plain = _plain(value)
    is_whole = isinstance(plain, int) or (isinstance(plain, float) and plain.is_integer())
    if is_whole and not isinstance(plain, bool):
        return str(int(plain))
    if not isinstance(plain, str) and not _is_missing(plain):
        raise DataError(f"{_shown(value)} is not an id", allowed="a string, a whole number")
    found = "" if _is_missing(plain) else text(plain).strip()
    if not found:
        raise DataError("the id is empty", allowed="a string, a whole number")
    return found


def answer_texts(value: Any) -> list[str]:
    """Return the texts of a question's answers as they are; none may be blank."""
    found = [text(answer) for answer in _items(value, "a list of texts, empty for no answer")]
    if not all(answer.strip() for answer in found):
        raise DataError(
            "an answer is empty",
            cure="leave it out: a question without an answer has an empty list of answers",
        )
    return found


def answer_starts(value: Any) -> list[int]:
    """Return the places of a question's answers: characters of the context, counted from 0."""
    return [_offset(start) for start in _items(value, "a list of whole numbers, one an answer")]


def _offset(value: Any) -> int:
    plain = _plain(value)
    if isinstance(plain, float) and plain.is_integer():
        plain = int(plain)
    if not isinstance(plain, int) or isinstance(plain, bool) or plain < 0:
        raise DataError(
            f"the start {_shown(value)} is not a place in the context",
            allowed="a whole number, 0 or more: characters before the answer",
        )
    return plain


def _items(value: Any, allowed: str = "a list of words or labels") -> list[Any]:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        raise DataError(
            "the value is missing" if _is_missing(value) else f"{_shown(value)} is not a list",
            allowed=allowed,
        )
    return list(value)


def _require_whole_pairs(value: str) -> None:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"a lone surrogate U+{ord(value[error.start]):04X} stands at character "
            f"{error.start + 1}",
            allowed="strings that can be written as UTF-8",
            cure="replace it, for instance by U+FFFD",
        ) from None


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _shown(value: Any) -> str:
    written = repr(value)
    return written if len(written) <= _SHOWN_CHARACTERS else f"{written[:_SHOWN_CHARACTERS]}..."
