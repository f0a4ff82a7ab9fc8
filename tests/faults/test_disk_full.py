"""A full disk: one line, status 1, and all that stood there before is whole."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

import potstill
from potstill.cli import progress
from potstill.errors import StorageError
from potstill.files import folder_whole_or_absent, write_atomically
from potstill.train.progress import Listener, Progress
from potstill.workflows import finetune
from tests.command_line import Said, finetuning, said, tree_of, write_rows
from tests.folders import write_tiny_model

LEFT_BYTES = 32 * 2**10  # less than the weights of a tiny model, more than its small files
DISK_BYTES = 4 * 2**20


class Disk(Protocol):
    """A place that can be full for a while."""

    path: Path

    def filled(self, *, left_bytes: int = LEFT_BYTES) -> AbstractContextManager[None]:
        """Leave room for so many bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Limited:
    """A folder in which no file may grow longer than what is left."""

    path: Path

    @contextlib.contextmanager
    def filled(self, *, left_bytes: int = LEFT_BYTES) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (left_bytes, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


@dataclass(frozen=True, slots=True)
class Mounted:
    """A small disk of its own, with a file on it that takes up the room."""

    path: Path

    @contextlib.contextmanager
    def filled(self, *, left_bytes: int = LEFT_BYTES) -> Iterator[None]:
        told = os.statvfs(self.path)
        filler = self.path / "filler"
        filler.write_bytes(b"\0" * (told.f_bavail * told.f_frsize - left_bytes))
        try:
            yield
        finally:
            filler.unlink()


@pytest.fixture(params=["limited", "mounted"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    if request.param == "limited":
        yield Limited(tmp_path)
        return
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", tmp_path]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no right to mount a small disk here")
    try:
        yield Mounted(tmp_path)
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("disk") / "model")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("disk") / "rows.jsonl")


def test_a_bundle_is_whole_or_absent(disk: Disk, model: Path) -> None:
    loaded = potstill.load(model, precision="fp32")
    loaded.save(disk.path / "old")
    before = tree_of(disk.path)
    with disk.filled(), pytest.raises(StorageError) as caught:
        loaded.save(disk.path / "new")
    assert tree_of(disk.path) == before
    assert potstill.load(disk.path / "old", precision="fp32").fingerprint == loaded.fingerprint
    (line,) = str(caught.value).splitlines()
    assert str(disk.path) in line
    assert "what stood there before is whole; to mend it: free some space" in line
    assert loaded.save(disk.path / "new") == loaded.fingerprint


def test_a_file_that_is_replaced_keeps_its_content(disk: Disk) -> None:
    file = disk.path / "kept"
    write_atomically(file, b"old")
    with disk.filled(), pytest.raises(StorageError):
        write_atomically(file, b"n" * (2 * LEFT_BYTES))
    assert tree_of(disk.path) == {"kept": b"old"}


def test_a_fault_at_the_last_file_of_a_folder_takes_all_away(disk: Disk) -> None:
    def write_two_files() -> None:
        with folder_whole_or_absent(disk.path / "out") as staging:
            (staging / "small").write_bytes(b"s")
            (staging / "great").write_bytes(b"g" * (2 * LEFT_BYTES))

    with disk.filled(), pytest.raises(StorageError):
        write_two_files()
    assert tree_of(disk.path) == {}


def test_vectors_are_told_in_one_line_and_the_old_ones_stay(
    capsys: pytest.CaptureFixture[str], disk: Disk, model: Path, rows: Path
) -> None:
    output = disk.path / "vectors.npy"
    output.write_bytes(b"old")
    words = ["embed", model, "--input", rows, "--output", output, "--precision", "fp32"]
    with disk.filled(left_bytes=4096):
        told = said(capsys, *words)
    assert_storage(told, output)
    assert tree_of(disk.path) == {"vectors.npy": b"old"}


@pytest.mark.parametrize("left_bytes", [0, LEFT_BYTES])
def test_a_run_goes_on_from_its_last_checkpoint_when_there_is_room(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    disk: Disk,
    model: Path,
    rows: Path,
    left_bytes: int,
) -> None:
    words = [*finetuning(model, rows, disk.path / "out"), "--set", "checkpoint_every_s=0", "--json"]
    monkeypatch.setattr(progress, "progress_listener", lambda: _terminate)
    assert said(capsys, *words).status == 130
    monkeypatch.undo()
    before = checkpoints(disk.path / "out.run")
    assert {"step-000000002.json", "best-000000002.safetensors"} <= before.keys()

    with disk.filled(left_bytes=left_bytes):
        told = said(capsys, *words)
    assert_storage(told, disk.path / "out.run")
    assert before.items() <= checkpoints(disk.path / "out.run").items()
    assert [name for name in tree_of(disk.path) if "potstill-part" in name] == []

    answer = said(capsys, *words).answer
    assert answer["resumed_from"] == 2
    assert [path.name for path in disk.path.iterdir()] == ["out"]
    words[words.index(disk.path / "out")] = disk.path / "whole"
    assert said(capsys, *words).answer["fingerprint"] == answer["fingerprint"]


def test_a_log_that_cannot_be_written_is_told_like_all_else(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    model: Path,
    rows: Path,
) -> None:
    def log_to_nowhere(path: Path) -> Listener:
        assert path.parent.is_dir()
        return _fail

    monkeypatch.setattr(finetune, "log_to", log_to_nowhere)
    told = said(capsys, *finetuning(model, rows, tmp_path / "out"))
    assert_storage(told, tmp_path / "out.run" / "log.jsonl")


def _fail(moment: Progress) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _terminate(moment: Progress) -> None:
    del moment
    signal.raise_signal(signal.SIGTERM)


def assert_storage(told: Said, where: Path) -> None:
    assert told.status == 1
    assert told.complaint.startswith(str(where))
    assert "free some space and run the same command again" in told.complaint


def checkpoints(folder: Path) -> dict[str, bytes | None]:
    files = tree_of(folder)
    del files["log.jsonl"]
    return files
