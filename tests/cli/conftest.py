"""What tests of quantizing share: a classifier with opinions, and rows that it answers rightly."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.quantizing import write_answered_rows, write_source


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
