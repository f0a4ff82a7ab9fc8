"""transformers as the reference: without its remarks on unused weights."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _without_remarks() -> None:
    transformers = pytest.importorskip("transformers", reason="pip install 'transformers>=5'")
    transformers.logging.set_verbosity_error()
