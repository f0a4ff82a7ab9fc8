"""What the system refuses, and numbers that are none: one line, whatever the verb."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from potstill.bundle.manifest import Manifest, write_manifest
from potstill.cli.system_faults import told
from potstill.errors import InputError, OutOfMemory, StorageError
from tests.command_line import said, write_jsonl
from tests.folders import write_tiny_model

pytest.importorskip("nncf", reason="pip install 'potstill[quantize]'")

COMMAND = "import sys; from potstill.cli.main import main; main(sys.argv[1:])"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("place")
    return write_tiny_model(place / "model", "classification", task="classification")


@pytest.mark.parametrize(
    ("fault", "kind", "line"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "m/vocab.txt"), InputError, "m/vocab"),
        (OSError(errno.ENOSPC, "No space left on device"), StorageError, "free some space"),
        (OSError(errno.EFBIG, "File too large", "m/x"), StorageError, "m/x: File too large"),
        (RuntimeError("std::bad_alloc"), OutOfMemory, "no memory left"),
        (MemoryError(), OutOfMemory, "no memory left"),
    ],
)
def test_what_the_system_refuses_is_told_in_our_words(
    fault: Exception, kind: type[Exception], line: str
) -> None:
    found = told(fault)
    assert type(found) is kind
    assert line in str(found)


@pytest.mark.parametrize("fault", [ValueError("shapes differ"), AssertionError(), KeyError("a")])
def test_a_fault_of_ours_stays_one(fault: Exception) -> None:
    assert told(fault) is None


def test_a_file_that_cannot_be_read_is_told_in_one_line(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_given: object, **_named: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "m/vocab.txt")

    monkeypatch.setattr("potstill.bundle.folder.load_tokenizer", refused)
    answer = said(capsys, "predict", model, "good")
    assert (answer.status, answer.out) == (2, "")
    assert answer.complaint.startswith("m/vocab.txt: Permission denied; to mend it: ")


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("engine", ["openvino", "onnx", "torch"])
def test_weights_that_are_not_finite_are_refused(
    model: Path, tmp_path: Path, engine: str, number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = with_number(model, tmp_path / "broken", float(number))
    rows = write_jsonl(tmp_path / "rows.jsonl", {"text": "good", "label": "a"})
    out = ["--out", tmp_path / "out"]
    verbs: list[list[object]] = [
        ["predict", broken, "good", "--engine", engine],
        ["evaluate", broken, "--test", rows, "--engine", engine],
    ]
    if engine == "onnx":
        verbs += [
            ["quantize", broken, "--engine", "onnx", *out],
            *(["quantize", broken, "--precision", each, *out] for each in ("int4", "bf16")),
            ["export", broken, *out],
            ["tune", broken],
        ]
    for words in verbs:
        answer = said(capsys, *words)
        assert (answer.status, answer.out) == (2, ""), words
        assert (
            "'classifier.weight' holds numbers that are not finite" in answer.err.splitlines()[-1]
        )
        assert not (tmp_path / "out").exists()


def with_number(model: Path, folder: Path, number: float) -> Path:
    """Copy a model with one weight that is this number, and without hashes."""
    folder.mkdir()
    for file in model.iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    weights = load_file(folder / "model.safetensors")
    weights["classifier.weight"][0, 0] = np.float32(number)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    write_manifest(folder, Manifest(task="classification"))
    return folder


@pytest.mark.skipif(os.name == "nt", reason="names there are UTF-16")
def test_a_name_that_is_not_utf8_is_refused_before_any_work(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff")
    answer = said(capsys, "quantize", model, "--precision", "bf16", "--out", name)
    assert (answer.status, answer.out) == (2, "")
    assert "is not UTF-8; allowed: words and names of files in UTF-8" in answer.complaint
    assert list(tmp_path.iterdir()) == []


def test_what_an_encoding_lacks_is_written_by_its_number(model: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-c", COMMAND, "predict", str(model), "h\u00e9llo \u2603"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert "h\\xe9llo \\u2603" in found.stdout


@pytest.mark.skipif(os.name == "nt", reason="a shell of Unix")
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_fault(model: Path, closed: str) -> None:
    found = subprocess.run(
        ["sh", "-c", f'"$0" -c "$1" predict "$2" good {closed}', sys.executable, COMMAND, model],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stderr) == (0, "")
    assert bool(found.stdout) == (">&-" not in closed.split())
