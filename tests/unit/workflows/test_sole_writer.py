"""One run at a time writes to a place."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from potstill import locks
from potstill.errors import OutputError
from potstill.locks import LOCK, locked
from potstill.train.world import World
from potstill.workflows.sole_writer import sole_writer

pytest.importorskip("fcntl", reason="nothing is held on Windows")

HOLDING = """
import sys
from pathlib import Path
from potstill.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder_of(folder: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", HOLDING, str(folder)]
    child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


def test_the_second_is_refused_and_told_who_holds_it_until_a_kill(tmp_path: Path) -> None:
    child = holder_of(tmp_path / "out.run")
    try:
        with (
            pytest.raises(OutputError, match=rf"process {child.pid}\); to mend it: wait for it"),
            sole_writer(tmp_path / "out", World()),
        ):
            pass
    finally:
        child.kill()
        child.communicate(timeout=60)
    with sole_writer(tmp_path / "out", World()):
        assert (tmp_path / "out.run" / "lock").read_text() == str(os.getpid())


def test_two_in_one_process_are_two(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "run"),
        pytest.raises(OutputError, match="another run is writing here"),
        locked(tmp_path / "run"),
    ):
        pass


def test_nothing_is_left_where_nothing_was_written(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b" / "run"):
        assert (tmp_path / "a" / "b" / "run").is_dir()
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "run"):
        (tmp_path / "run" / "state").touch()
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["state"]


def test_what_a_killed_run_has_left_empty_goes_with_the_next(tmp_path: Path) -> None:
    child = holder_of(tmp_path / "run")
    child.kill()
    child.communicate(timeout=60)
    assert (tmp_path / "run" / LOCK).exists()
    with locked(tmp_path / "run"):
        pass
    assert not (tmp_path / "run").exists()


def test_the_lock_of_a_newcomer_is_left_to_it(tmp_path: Path) -> None:
    with locked(tmp_path / "run"):
        shutil.rmtree(tmp_path / "run")  # as a run does at its end
        child = holder_of(tmp_path / "run")
    try:
        with pytest.raises(OutputError, match=f"process {child.pid}"), locked(tmp_path / "run"):
            pass
    finally:
        child.kill()
        child.communicate(timeout=60)


def test_who_waits_is_told_once_and_then_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_POLL_S", 0.01)
    child = holder_of(tmp_path / "run")
    threading.Timer(0.2, child.kill).start()
    told: list[str] = []
    with locked(tmp_path / "run", waiting=told.append):
        assert (tmp_path / "run" / LOCK).read_text() == str(os.getpid())
    assert told == [str(child.pid)]
    child.communicate(timeout=60)


def test_a_folder_that_a_holder_removes_under_our_feet_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    knows = locks._knows_locks

    def removed() -> bool:
        (tmp_path / "run").rmdir()
        return knows()

    monkeypatch.setattr(locks, "_knows_locks", removed)
    with locked(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK).exists()


def test_where_nothing_can_be_held_no_file_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with locked(tmp_path / "run"), locked(tmp_path / "run"):
        assert list((tmp_path / "run").iterdir()) == []


def test_another_process_of_the_same_run_takes_no_lock(tmp_path: Path) -> None:
    with sole_writer(tmp_path / "out", World(size=2)), sole_writer(tmp_path / "out", World(rank=1)):
        pass


def test_what_was_finished_in_the_meantime_is_not_done_again(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").touch()
    with pytest.raises(OutputError, match="not empty"), sole_writer(tmp_path / "out", World()):
        pass
