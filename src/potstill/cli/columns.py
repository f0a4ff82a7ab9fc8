"""The columns that a command line names."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from potstill.data.columns import Columns


def columns_named(text: str, text_pair: str, label: str, tokens: str, tags: str) -> Columns:
    """Return the user's names of our columns, in the order of the flags."""
    from potstill.data.columns import Columns

    return Columns(text=text, text_pair=text_pair, label=label, tokens=tokens, tags=tags)
