"""What is kept of compiled graphs: a folder for each, in the user's cache, not too many."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from potstill.runtime.compiled_graphs import compiled_folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home of which nothing is known yet."""
    for name in ("POTSTILL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_each_graph_has_its_own_folder(home: Path) -> None:
    one, same, other = (compiled_folder(hashes) for hashes in (["a", "b"], ["a", "b"], ["a", "c"]))
    assert one == same != other
    assert one is not None
    assert one.parent == home / ".cache" / "potstill" / "openvino"
    assert one.is_dir()


@pytest.mark.parametrize(
    ("name", "value", "below"),
    [
        ("XDG_CACHE_HOME", "caches", "caches/potstill/openvino"),
        ("POTSTILL_CACHE", "mine", "mine/openvino"),
    ],
)
def test_the_place_is_the_users_choice(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, below: str
) -> None:
    monkeypatch.setenv(name, str(home / value))
    folder = compiled_folder(["a"])
    assert folder is not None
    assert folder.parent == home / below


def test_a_relative_folder_of_the_system_is_not_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "here")  # its specification: to be ignored
    folder = compiled_folder(["a"])
    assert folder is not None
    assert folder.is_relative_to(home / ".cache")


def test_off_is_off(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", "off")
    assert compiled_folder(["a"]) is None
    assert not (home / ".cache").exists()


UNUSABLE = {
    "a file": ("file", "file cannot be written"),
    "no folder": ("/dev/null", "/dev/null cannot be written"),
    "a name that is not UTF-8": (os.fsdecode(b"bad\xff"), "bad\\xff cannot be written"),
    "a read-only folder": ("locked", "locked cannot be written"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_where_nothing_can_be_written_nothing_is_kept_and_it_is_said_once(
    case: str, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    (home / "file").write_text("")
    place, told = UNUSABLE[case]
    monkeypatch.setenv("POTSTILL_CACHE", str(home / place))
    if case == "a read-only folder":
        monkeypatch.setattr(os, "access", lambda path, mode: False)  # root could write there
    assert compiled_folder(["a"]) is None
    assert compiled_folder(["a"]) is None
    (record,) = caplog.records
    assert f"{told}, so that no compiled graph is kept" in record.message
    assert "POTSTILL_CACHE=off" in record.message


def test_a_home_that_cannot_be_written_is_passed_over_in_silence(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setenv("HOME", str(home / os.fsdecode(b"bad\xff")))
    assert compiled_folder(["a"]) is None
    (home / "file").write_text("")
    monkeypatch.setenv("HOME", str(home / "file"))
    assert compiled_folder(["a"]) is None
    assert caplog.records == []


def test_where_no_logging_is_set_up_it_is_told_as_warnings_are(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "file").write_text("")
    monkeypatch.setenv("POTSTILL_CACHE", str(home / "file"))
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    assert compiled_folder(["a"]) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"potstill: warning: POTSTILL_CACHE={home / 'file'} cannot be written")


OTHERS_MAY_WRITE = {
    "the group": lambda folder: folder.chmod(0o770),
    "all": lambda folder: folder.chmod(0o707),
}


@pytest.mark.parametrize("who", OTHERS_MAY_WRITE)
@pytest.mark.parametrize("where", ["the graph's", "the place of all"])
def test_where_others_may_write_nothing_is_kept_and_it_is_said_once(
    who: str, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)  # NNCF, where it was imported, has raised the handler's
    folder = compiled_folder(["a"])
    assert folder is not None
    assert (folder.stat().st_mode | folder.parent.stat().st_mode) & 0o077 == 0
    blamed = folder if where == "the graph's" else folder.parent
    OTHERS_MAY_WRITE[who](blamed)
    assert compiled_folder(["a"]) is None
    assert compiled_folder(["a"]) is None
    assert [record.message.partition(": ")[0] for record in caplog.records] == [str(blamed)]
    assert "chmod go-w" in caplog.text
    blamed.chmod(0o755)
    assert compiled_folder(["a"]) == folder


def test_a_folder_of_another_user_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    folder = compiled_folder(["a"])
    monkeypatch.setattr("os.geteuid", lambda: 1 + os.getuid())
    assert compiled_folder(["a"]) is None
    assert folder is not None
    assert str(folder.parent) in caplog.text


def test_what_is_called_otherwise_is_never_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path))
    folders = [tmp_path / "openvino" / f"my-checkout-{number}" for number in range(10)]
    (tmp_path / "openvino").mkdir(mode=0o700)
    for folder in folders:
        folder.mkdir()
        os.utime(folder, (1_000, 1_000))
    for number in range(10):
        compiled_folder([str(number)])
    assert all(folder.is_dir() for folder in folders)
    assert len(list((tmp_path / "openvino").iterdir())) == 10 + 8


def test_those_used_last_are_kept() -> None:
    folders = [compiled_folder([str(number)]) for number in range(8)]
    for age, folder in enumerate(reversed(folders)):
        assert folder is not None
        (folder / "graph.blob").write_bytes(b"compiled")
        os.utime(folder, (1_000_000 - age, 1_000_000 - age))
    assert compiled_folder(["0"]) == folders[0]  # the oldest is used again
    newest = compiled_folder(["new"])
    left = {folder for folder in folders if folder is not None and folder.is_dir()}
    assert newest is not None
    assert newest.is_dir()
    assert left == {*folders} - {folders[1]}
