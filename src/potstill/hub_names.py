"""How a name on the Hugging Face hub, of a model or of rows, is told from a path."""

from __future__ import annotations

PREFIX = "hub:"


def is_hub(name: object) -> bool:
    """Tell whether a name is one on the hub."""
    return str(name).startswith(PREFIX)
