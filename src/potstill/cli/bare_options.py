"""Options whose value may be left out, which typer itself does not know: `--control [tuned]`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# verb -> option -> what it says when it stands alone
BARE: Mapping[str, Mapping[str, str]] = {"distill": {"--control": "pretrained"}}


def with_values(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the value of each option that stands alone written out.

    An option stands alone at the end of the line, or before another option.
    """
    words = list(arguments)
    known = BARE.get(words[0], {}) if words else {}
    filled: list[str] = []
    for place, word in enumerate(words):
        filled.append(word)
        following = words[place + 1] if place + 1 < len(words) else "--"
        if word in known and following.startswith("-"):
            filled.append(known[word])
    return filled
