"""IOB2 tags: O, B-TYPE at the first word of an entity, I-TYPE at those that follow."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from potstill.data.columns import Columns
from potstill.data.rows import Rows
from potstill.errors import DataError

_OUTSIDE = "O"
_ALLOWED = "IOB2: O, B-TYPE for the first word of an entity, I-TYPE for those that follow"


def require_iob2(rows: Rows, columns: Columns) -> None:
    """Check that the tags of all rows are IOB2.

    Args:
        rows: with `tags`, lists of strings; with `tokens` a message shows the word too.
        columns: the user's names of the columns.

    Raises:
        DataError: naming file, row, word, what stands there and how to mend it; files of IOB1,
            BIOES and BILOU are told as such.
    """
    for row, tags in enumerate(rows.column("tags")):
        for place, (before, tag) in enumerate(pairwise([_OUTSIDE, *tags])):
            if not _is_iob2(before, tag):
                what, cure = _fault(before, tag, rows)
                raise DataError(
                    f"the tag of word {place + 1}{_word(rows, row, place)} is {what}",
                    where=rows.where(row, columns.tags),
                    allowed=_ALLOWED,
                    cure=cure,
                )


def entity_types(rows: Rows) -> list[str]:
    """Return the types of entities in the rows' tags, sorted."""
    return sorted({_type_of(tag) for tag in _distinct(rows) if tag != _OUTSIDE})


def tag_names(types: Sequence[str]) -> tuple[str, ...]:
    """Return all tags of these types: O, B-LOC, I-LOC, ..."""
    return (_OUTSIDE, *(f"{sign}-{kind}" for kind in types for sign in "BI"))


def _is_iob2(before: str, tag: str) -> bool:
    if tag.startswith("I-"):
        return bool(_type_of(tag)) and before in (f"B-{_type_of(tag)}", tag)
    return tag == _OUTSIDE or (tag.startswith("B-") and bool(_type_of(tag)))


def _fault(before: str, tag: str, rows: Rows) -> tuple[str, str | None]:
    """Return what stands there, and how to mend it."""
    found = f"{tag!r:.40}"
    if tag.startswith("I-") and _type_of(tag):
        what = f"{found}, but no entity of type {_type_of(tag)!r:.40} is open: {before!r} precedes"
        return what, _mended_start(tag, rows)
    scheme = _other_scheme(tag, rows)
    if scheme is not None:
        name, mended = scheme
        return f"{found}: these look like {name} tags", mended
    if tag.isdecimal():
        return f"{found}, a number", "write the tags' names in the place of their numbers"
    if tag in ("B-", "I-"):
        return f"{found}, without a type", "name the type of the entity, such as B-PER"
    return found, "write O for the words outside of entities"


def _mended_start(tag: str, rows: Rows) -> str:
    if _looks_like_iob1(rows):
        return "these look like IOB1 tags: the first I-X of an entity must be B-X"
    return f"write B-{_type_of(tag)} at the first word of the entity"


def _looks_like_iob1(rows: Rows) -> bool:
    """Tell whether B- stands only where IOB1 needs it: right after an entity of the same type."""
    return all(
        before in (tag, f"I-{_type_of(tag)}")
        for tags in rows.column("tags")
        for before, tag in pairwise([_OUTSIDE, *tags])
        if tag.startswith("B-")
    )


def _other_scheme(tag: str, rows: Rows) -> tuple[str, str] | None:
    """Return the name of the scheme that has such tags, and the way from it to IOB2."""
    signs = {each[:2] for each in _distinct(rows)}
    if tag[:2] not in ("S-", "E-", "U-", "L-"):
        return None
    if signs & {"U-", "L-"}:
        return "BILOU", "write U-X as B-X and L-X as I-X"
    return "BIOES", "write S-X as B-X and E-X as I-X"


def _distinct(rows: Rows) -> set[str]:
    return {tag for tags in rows.column("tags") for tag in tags}


def _type_of(tag: str) -> str:
    return tag[2:]


def _word(rows: Rows, row: int, place: int) -> str:
    return f" ({rows.column('tokens')[row][place]!r:.40})" if "tokens" in rows else ""
