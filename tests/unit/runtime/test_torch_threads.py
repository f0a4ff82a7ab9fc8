"""Torch's threads are those that `load` promises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import potstill
from potstill.hardware import chosen_threads
from tests.folders import write_tiny_model


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("asked", [None, 3])
def test_threads_are_as_asked_or_what_the_machine_allows(tmp_path: Path, asked: int | None) -> None:
    folder = write_tiny_model(tmp_path / "m", "classification", task="classification")
    torch.set_num_threads(7)
    potstill.load(folder, engine="torch", threads=asked)
    assert torch.get_num_threads() == (asked or chosen_threads())
