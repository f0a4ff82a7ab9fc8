"""A child that obeys, and every way in which it may fail: one line that names the model."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from potstill.errors import ModelError, OutOfMemory, RunError
from potstill.measure.commanded import Commanded


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Commanded]:
    with Commanded("small one", threads=1, complaints=tmp_path / "complaints.txt") as started:
        yield started


def test_a_killed_child_is_told_as_lack_of_memory(child: Commanded):
    os.kill(child.process_id, signal.SIGKILL)
    with pytest.raises(OutOfMemory, match=r"^model small one: .*killed by the system.*to mend it"):
        child.ask("memory")


def test_a_child_that_breaks_down_tells_its_last_line(child: Commanded):
    with pytest.raises(RunError, match=r"^model small one: .*status 1: KeyError: 'nonsense'"):
        child.ask("nonsense")


def test_a_wrong_folder_is_told_with_the_models_name(child: Commanded, tmp_path: Path):
    folder = str(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"^model small one, .*nowhere: no such folder") as caught:
        child.ask("load", folder=folder, engine="none", options={})
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError):  # it lives on and obeys
        child.ask("load", folder=folder, engine="none", options={})


def test_no_child_is_left_behind(tmp_path: Path):
    child = _started(tmp_path)
    with contextlib.suppress(KeyboardInterrupt), child:
        os.kill(child.process_id, 0)  # it is there
        raise KeyboardInterrupt
    with pytest.raises(ProcessLookupError):
        os.kill(child.process_id, 0)


def test_the_libraries_of_a_child_have_the_threads_that_were_asked_for(tmp_path: Path):
    with _started(tmp_path, threads=3) as child:
        environment = Path(f"/proc/{child.process_id}/environ")
        if not environment.exists():
            pytest.skip("this system does not show a process's environment")
        with pytest.raises(ModelError):  # what answers has begun: until then nothing is shown
            child.ask("load", folder=str(tmp_path / "nowhere"), engine="none", options={})
        told = environment.read_bytes().split(b"\0")
    assert {b"OMP_NUM_THREADS=3", b"MKL_NUM_THREADS=3", b"RAYON_NUM_THREADS=3"} <= set(told)


def _started(tmp_path: Path, threads: int = 1) -> Commanded:
    return Commanded("small one", threads=threads, complaints=tmp_path / "complaints.txt")
