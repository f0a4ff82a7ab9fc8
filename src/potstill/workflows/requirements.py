"""What a verb needs beyond the base install, asked for before its modules are imported."""

from __future__ import annotations

import importlib

from potstill.errors import MissingExtraError


def require_torch(needed_for: str) -> None:
    """Check that torch is installed.

    Raises:
        MissingExtraError: it is not; the message holds the install line.
    """
    try:
        importlib.import_module("torch")
    except ModuleNotFoundError as error:
        raise MissingExtraError("torch", extra="train", needed_for=needed_for) from error
