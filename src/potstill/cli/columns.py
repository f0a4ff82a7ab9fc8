"""The columns that a command line names."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from potstill.data.columns import Columns


def given_columns(text_pair: str, label: str, tokens: str, tags: str) -> dict[str, str | None]:
    """Return by their parameters the columns that were named otherwise than usual, else None."""
    from potstill.data.columns import Columns

    named = {"text_pair": text_pair, "label": label, "tokens": tokens, "tags": tags}
    return {
        f"{ours}_column": None if theirs == getattr(Columns(), ours) else theirs
        for ours, theirs in named.items()
    }


def columns_named(text: str, text_pair: str, label: str, tokens: str, tags: str) -> Columns:
    """Return the user's names of our columns, in the order of the flags."""
    from potstill.data.columns import Columns

    return Columns(text=text, text_pair=text_pair, label=label, tokens=tokens, tags=tags)
