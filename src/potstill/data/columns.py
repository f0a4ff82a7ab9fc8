"""From the columns of the user's file to ours: names, presence, the type of each value."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from dataclasses import fields as fields_of
from difflib import get_close_matches
from typing import Any, Literal, TypeVar

from potstill.data import fields
from potstill.data.rows import Rows
from potstill.errors import DataError

T = TypeVar("T")
LabelKind = Literal["class", "classes", "number"]
_LIKENESS = 0.8  # of two names: "texts" is near to "text" (0.89), "intent" is not (0.6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The names of our columns in the user's file."""

    text: str = "text"
    text_pair: str = "text_pair"
    label: str = "label"
    tokens: str = "tokens"
    tags: str = "tags"

    def renamed(self) -> dict[str, str]:
        """Return what is not called as usual: theirs by "OURS_column".

        For keys of what is stored: where all is called as usual they stay as they were.
        """
        usual = Columns()
        return {
            f"{field.name}_column": getattr(self, field.name)
            for field in fields_of(self)
            if getattr(self, field.name) != getattr(usual, field.name)
        }


def select_columns(
    rows: Rows,
    columns: Columns,
    required: Sequence[str] = ("text", "label"),
    optional: Sequence[str] = ("text_pair",),
    *,
    label_kind: LabelKind = "class",
) -> Rows:
    """Return the columns asked for, under our names and in canonical form; all others are left out.

    Texts are strings, labels of kind "class" strings too (1, 1.0 and "1" are one class), of kind
    "number" floats, tokens and tags lists of strings of one length. An optional column without any
    value counts as absent; one that the user has named must be there.

    Raises:
        DataError: a required column is absent, or a value is wrong; file, line, field are named.
    """
    check_of = CHECKS | {"label": LABEL_CHECKS[label_kind]}
    asked = [name for name in optional if getattr(columns, name) != getattr(Columns(), name)]
    for name in (*required, *asked):
        _require(rows, columns, name)
    present = [name for name in optional if _has_values(rows, getattr(columns, name))]
    selected = {
        name: checked_column(rows, getattr(columns, name), check_of[name])
        for name in (*required, *present)
    }
    if "tokens" in selected and "tags" in selected:
        _require_one_tag_a_token(rows, selected, columns)
    return replace(rows, columns=selected)


def checked_column(rows: Rows, name: str, check: Callable[[Any], T]) -> list[T]:
    """Return one column's values in canonical form.

    Args:
        rows: with the column.
        name: of the column, as a message names it.
        check: of `fields`, or of that kind.

    Raises:
        DataError: what the check raises, with the place of the value.
    """
    values = []
    for index, value in enumerate(rows.column(name)):
        try:
            values.append(check(value))
        except DataError as fault:
            raise DataError(
                fault.what, where=rows.where(index, name), allowed=fault.allowed, cure=fault.cure
            ) from None
    return values


def count_empty_texts(rows: Rows) -> int:
    """Return how many texts (or contexts) hold nothing but blanks: allowed, but worth a warning."""
    texts = rows.column("context" if "context" in rows else "text")
    return sum(not text or text.isspace() for text in texts)


CHECKS: dict[str, Callable[[Any], Any]] = {
    "text": fields.text,
    "text_pair": fields.text,
    "tokens": fields.tokens,
    "tags": fields.tags,
}
LABEL_CHECKS: dict[LabelKind, Callable[[Any], Any]] = {
    "class": fields.class_label,
    "classes": fields.class_labels,
    "number": fields.number,
}


def _require(rows: Rows, columns: Columns, ours: str) -> None:
    theirs = getattr(columns, ours)
    if theirs not in rows:
        raise DataError(
            f"there is no column {theirs!r} (the columns are: {rows.column_list()})",
            where=rows.source,
            cure=_how_to_name(rows, columns, ours),
        )


def _how_to_name(rows: Rows, columns: Columns, ours: str) -> str:
    flag = f"--{ours.replace('_', '-')}-column"
    taken = set(astuple(columns))
    free = {name.casefold(): name for name in rows.columns if name not in taken}
    close = get_close_matches(getattr(columns, ours).casefold(), free, n=1, cutoff=_LIKENESS)
    if not close:
        return f"name the right one with {flag} NAME"
    meant = free[close[0]]
    return f"did you mean {meant!r}? then add {flag} {shlex.quote(meant)}"


def _has_values(rows: Rows, theirs: str) -> bool:
    return theirs in rows and any(value is not None for value in rows.column(theirs))


def _require_one_tag_a_token(
    rows: Rows, selected: Mapping[str, list[list[str]]], columns: Columns
) -> None:
    pairs = zip(selected["tokens"], selected["tags"], strict=True)
    for index, (tokens, tags) in enumerate(pairs):
        if len(tokens) != len(tags):
            raise DataError(
                f"{len(tags)} tags for {len(tokens)} tokens",
                where=rows.where(index, columns.tags),
                allowed="one tag for each token",
            )
