"""`potstill embed`: a file of rows to a file of vectors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import potstill
from tests.command_line import said, said_apart, write_jsonl, write_rows
from tests.folders import write_tiny_model

PLAIN = ("--precision", "fp32", "--threads", "1")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("embed") / "model")


@pytest.fixture
def words(model: Path, tmp_path: Path) -> list[object]:
    """Return a command that embeds seven rows."""
    rows = write_rows(tmp_path / "rows.jsonl", count=7)
    return ["embed", model, "--input", rows, "--output", tmp_path / "vectors.npy", *PLAIN]


def test_the_file_holds_the_vectors_of_the_library(
    capsys: pytest.CaptureFixture[str], model: Path, words: list[object], tmp_path: Path
) -> None:
    answer = said(capsys, *words, "--json").answer
    assert answer == {
        "output": str(tmp_path / "vectors.npy"),
        "rows": 7,
        "width": 32,
        "truncated": 0,
        "precision": "fp32",
    }
    lines = (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    vectors = np.load(tmp_path / "vectors.npy", allow_pickle=False)
    assert vectors.dtype == np.float32
    expected = potstill.load(model, precision="fp32").embed(texts)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_a_pipe_gets_plain_lines(capsys: pytest.CaptureFixture[str], words: list[object]) -> None:
    told = said(capsys, *words)
    assert told.pairs["rows"] == "7"
    assert told.pairs["width"] == "32"
    assert told.err == ""


def test_in_a_process_of_its_own_it_writes_the_same_bytes(
    capsys: pytest.CaptureFixture[str], words: list[object], tmp_path: Path
) -> None:
    here = said(capsys, *words, "--json").answer
    written = (tmp_path / "vectors.npy").read_bytes()
    (tmp_path / "vectors.npy").unlink()
    apart = said_apart(*words, "--json")
    assert apart.answer == here
    assert apart.err == ""
    assert (tmp_path / "vectors.npy").read_bytes() == written


def test_another_column_and_a_shorter_cut(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", {"body": "a film"}, {"body": "a very good film"})
    arguments = ["embed", model, "--input", rows, "--output", tmp_path / "v.npy", *PLAIN]
    more = ["--text-column", "body", "--max-length", "4", "--json"]
    answer = said(capsys, *arguments, *more).answer
    assert (answer["rows"], answer["truncated"]) == (2, 1)


def test_a_file_that_stood_there_is_replaced(
    capsys: pytest.CaptureFixture[str], words: list[object], tmp_path: Path
) -> None:
    (tmp_path / "vectors.npy").write_bytes(b"old")
    assert said(capsys, *words).status == 0
    assert np.load(tmp_path / "vectors.npy").shape == (7, 32)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "vectors.npy"]
