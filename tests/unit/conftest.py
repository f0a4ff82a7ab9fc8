"""What no test of a single part may inherit from the training runs before it."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def _tiny_floats_are_kept() -> None:
    """Undo what engines and training set for their process: that tiny floats count as zero."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)
