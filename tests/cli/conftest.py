"""What tests of quantizing share: a classifier with opinions, and rows that it answers rightly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.quantizing import write_answered_rows, write_source


@pytest.fixture(scope="session", autouse=True)
def speeds_of_copies_are_not_measured() -> Iterator[None]:
    """Save a second of each bundle that is quantized; `test_copy_speed.py` measures."""
    from potstill.workflows.copy_speed import CopySpeed

    with pytest.MonkeyPatch.context() as patch:
        for module in ("quantize", "bf16"):
            name = f"potstill.workflows.{module}.measured_speed"
            patch.setattr(name, lambda *folders, **options: CopySpeed())
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for what the tests of a module write once."""
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def source(place: Path) -> Path:
    return write_source(place / "source")


@pytest.fixture(scope="module")
def rows(place: Path, source: Path) -> Path:
    return write_answered_rows(source, place / "rows.jsonl")
