"""Files and folders are whole or absent, and a place that cannot be written is told early."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from potstill.errors import DataError, OutputError, PotstillError, StorageError
from potstill.files import (
    folder_whole_or_absent,
    leftovers,
    require_free,
    require_writable_file,
    sha256_of_file,
    told_in_one_line,
    workspace_beside,
    write_atomically,
    write_output,
)
from potstill.stages import stage_of
from tests.command_line import tree_of

FULL_FILE = Path("/dev/full")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)
WRONG_PLACE = (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EROFS)

KILLED_INSIDE = """
import os, signal, sys
from pathlib import Path
from potstill.files import folder_whole_or_absent
with folder_whole_or_absent(Path(sys.argv[1])) as staging:
    (staging / "half").write_bytes(b"h")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def fails_with(number: int) -> object:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def break_step(step: str, patch: pytest.MonkeyPatch) -> None:
    """Let one step of a writing fail as on a full disk."""
    fail = fails_with(errno.ENOSPC)
    if step == "flush":
        patch.setattr(os, "fsync", fail)
    elif step == "write":
        patch.setattr(Path, "open", open_on_a_full_disk)
    else:
        patch.setattr(Path, step, fail)


def open_on_a_full_disk(path: Path, mode: str) -> io.FileIO:
    path.touch()
    return io.FileIO(FULL_FILE, mode)


def test_what_was_written_is_there(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"first")
    write_atomically(tmp_path / "file", b"second")
    assert tree_of(tmp_path) == {"file": b"second"}


def test_two_that_write_the_same_file_at_once_do_not_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = os.fsync

    def meanwhile(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", flush)
        write_atomically(tmp_path / "file", b"the other's")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", meanwhile)
    write_atomically(tmp_path / "file", b"own")
    assert tree_of(tmp_path) == {"file": b"own"}


def test_what_a_killed_writer_left_is_found_by_the_name_of_its_file(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", fails_with(errno.EIO))
        patch.setattr(Path, "unlink", lambda path, **options: None)
        with pytest.raises(StorageError):
            write_atomically(tmp_path / "f[1]", b"half")
    (tmp_path / "f1.0.potstill-part").write_bytes(b"another's")
    (left,) = leftovers(tmp_path / "f[1]")
    assert left.read_bytes() == b"half"


@pytest.mark.parametrize("step", ["open", "write", "flush", "replace"])
@pytest.mark.parametrize("old", [{"file": b"old"}, {}])
def test_a_failure_at_any_step_leaves_what_stood_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: dict[str, bytes], step: str
) -> None:
    if step == "write" and not FULL_FILE.exists():
        pytest.skip("needs /dev/full, as Linux has it")
    for name, content in old.items():
        (tmp_path / name).write_bytes(content)
    with monkeypatch.context() as patch:
        break_step(step, patch)
        with pytest.raises(StorageError, match="cannot write: No space left on device"):
            write_atomically(tmp_path / "file", b"new")
    assert tree_of(tmp_path) == old


@pytest.mark.parametrize("number", FULL)
def test_a_disk_that_fails_is_told_as_such(number: int) -> None:
    with pytest.raises(StorageError) as caught, told_in_one_line(Path("place")):
        fails_with(number)()
    assert caught.value.exit_status == 1
    assert str(caught.value).startswith(f"place: cannot write: {os.strerror(number)}")


@pytest.mark.parametrize("number", WRONG_PLACE)
def test_a_wrong_place_is_the_users_to_mend(number: int) -> None:
    with pytest.raises(OutputError) as caught, told_in_one_line(Path("place")):
        fails_with(number)()
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("error", [DataError("bad"), ValueError("a bug"), KeyboardInterrupt()])
def test_other_faults_go_through_as_they_are(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, told_in_one_line(Path("place")):
        raise error
    assert caught.value is error


@pytest.mark.parametrize("before", [[], ["out"]])
def test_a_folder_appears_whole(tmp_path: Path, before: list[str]) -> None:
    for name in before:
        (tmp_path / name).mkdir()
    with folder_whole_or_absent(tmp_path / "out") as staging:
        (staging / "sub").mkdir()
        (staging / "sub" / "file").write_bytes(b"f")
        assert [path.name for path in tmp_path.iterdir() if path != staging] == before
    assert tree_of(tmp_path) == {"out": None, "out/sub": None, "out/sub/file": b"f"}


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), KeyboardInterrupt(), OSError(errno.EIO, "")]
)
def test_a_folder_that_was_not_finished_leaves_no_trace(
    tmp_path: Path, error: BaseException
) -> None:
    def begin(target: Path) -> None:
        with folder_whole_or_absent(target) as staging:
            (staging / "half").write_bytes(b"h")
            raise error

    with pytest.raises((PotstillError, type(error))):
        begin(tmp_path / "out")
    assert tree_of(tmp_path) == {}


def test_a_kill_inside_leaves_no_half_folder(tmp_path: Path) -> None:
    child = subprocess.run([sys.executable, "-c", KILLED_INSIDE, tmp_path / "out"])
    assert child.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    with folder_whole_or_absent(tmp_path / "out") as staging:
        (staging / "file").write_bytes(b"f")
    assert tree_of(tmp_path) == {"out": None, "out/file": b"f"}


@pytest.fixture
def ended() -> int:
    """Return the number of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def stages_of(target: Path, process: int, patch: pytest.MonkeyPatch) -> list[Path]:
    """Write what a process leaves that is killed while it prepares `target`."""
    with patch.context() as patched:
        patched.setattr(os, "getpid", lambda: process)
        folders = [stage_of(target, hidden=True), stage_of(target, "0a1b", hidden=True)]
        file = stage_of(target, "0a1b")
    for folder in folders:
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / "half").write_bytes(b"h")
    file.write_bytes(b"h")
    return [*folders, file]


def use_folder(target: Path) -> None:
    with folder_whole_or_absent(target) as staging:
        (staging / "file").write_bytes(b"f")


def use_workspace(target: Path) -> None:
    with workspace_beside(target) as place:
        (place / "file").write_bytes(b"f")


USES = {
    "folder": use_folder,
    "workspace": use_workspace,
    "file": lambda target: write_output(target, b"f"),
}


@pytest.mark.parametrize("use", USES)
def test_what_killed_processes_left_is_removed(
    use: str, tmp_path: Path, ended: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "o[1]"
    stages_of(target, ended, monkeypatch)
    USES[use](target)
    assert {path.name for path in tmp_path.iterdir()} <= {"o[1]"}


@pytest.mark.parametrize("use", USES)
def test_what_may_still_be_written_stays(
    use: str, tmp_path: Path, ended: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out"
    kept = stages_of(target, os.getppid(), monkeypatch)
    for name in ("out.run", "out1"):  # of a run that can go on, and of other places
        kept += stages_of(tmp_path / name, ended, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr("potstill.stages._machine", lambda: "0123abcd")
        kept += stages_of(target, ended, patch)
    (tmp_path / "out.run").mkdir()
    kept.append(tmp_path / "out.run")
    USES[use](target)
    assert {path.name for path in tmp_path.iterdir()} - {"out"} == {path.name for path in kept}


def test_a_link_in_the_place_of_a_stage_is_not_followed(
    tmp_path: Path, ended: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_bytes(b"p")
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: ended)
        stage_of(tmp_path / "out", hidden=True).symlink_to(tmp_path / "precious")
    write_output(tmp_path / "out", b"f")
    assert tree_of(tmp_path) == {"out": b"f", "precious": None, "precious/file": b"p"}


@pytest.mark.parametrize("begin", [folder_whole_or_absent, workspace_beside])
def test_parents_that_were_made_go_again_where_the_work_fails(
    begin: Callable[[Path], AbstractContextManager[Path]], tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(DataError), begin(tmp_path / "there" / "a" / "b" / "out"):
        raise DataError("refused")
    assert tree_of(tmp_path) == {"there": None}
    (tmp_path / "kept").mkdir()

    def meet_another() -> None:
        with begin(tmp_path / "kept" / "a" / "b" / "out"):
            (tmp_path / "kept" / "a" / "another's").touch()
            raise DataError("refused")

    with pytest.raises(DataError):
        meet_another()
    assert tree_of(tmp_path / "kept") == {"a": None, "a/another's": b""}


def test_parents_of_what_was_made_stay(tmp_path: Path) -> None:
    with workspace_beside(tmp_path / "a" / "out"):
        use_folder(tmp_path / "a" / "out")
    assert tree_of(tmp_path) == {"a": None, "a/out": None, "a/out/file": b"f"}


def test_a_full_folder_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_bytes(b"p")
    with pytest.raises(OutputError, match="not empty"), folder_whole_or_absent(tmp_path / "out"):
        raise AssertionError("the body must not run")
    assert tree_of(tmp_path) == {"out": None, "out/precious": b"p"}


@pytest.mark.parametrize("name", ["absent", "empty", "deep/below/absent"])
def test_a_place_is_free_where_nothing_stands(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    require_free(tmp_path / name)
    assert tree_of(tmp_path) == {"empty": None}


def test_a_place_that_is_not_free_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"f")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "mount").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "mount")
    why = {
        tmp_path: "not empty",
        tmp_path / "file": "a file, not a folder",
        tmp_path / "file" / "below": "a file, not a folder",
        tmp_path / "link": "a link",
        tmp_path / "mount": "mounted disk",
        Path(): "the folder one stands in",
        tmp_path / "..": "one above it",
    }
    for place, reason in why.items():
        with pytest.raises(OutputError, match=reason):
            require_free(place)


def test_a_file_can_be_written_where_its_folder_is(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"o")
    require_writable_file(tmp_path / "new")
    require_writable_file(tmp_path / "old")
    assert tree_of(tmp_path) == {"old": b"o"}
    with pytest.raises(OutputError, match=r"does not exist; to mend it: mkdir -p '.*a b'"):
        require_writable_file(tmp_path / "a b" / "new")
    with pytest.raises(OutputError, match="a folder, not a file"):
        require_writable_file(tmp_path)
    with pytest.raises(OutputError, match="old is a file, not a folder"):
        require_writable_file(tmp_path / "old" / "new")


def test_the_hash_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    assert sha256_of_file(tmp_path / "file") == hashlib.sha256(b"content").hexdigest()
