"""`potstill info`: what a folder holds, as JSON and as plain lines."""

from __future__ import annotations

from pathlib import Path

import pytest

import potstill
from potstill.bundle.weights import WEIGHTS_FILE
from tests.command_line import said, said_apart
from tests.folders import write_tiny_model
from tests.tiny import WORDS

CONTRACT = {
    "architecture": str,
    "layers": int,
    "hidden_size": int,
    "heads": int,
    "vocabulary_size": int,
    "parameters": int,
    "size_bytes": int,
    "labels": list,
    "fingerprint": str,
}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("info") / "encoder")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("info") / "classifier"
    return write_tiny_model(folder, "classification", task="classification")


def test_the_answer_has_the_keys_of_the_contract(
    capsys: pytest.CaptureFixture[str], classifier: Path
) -> None:
    answer = said(capsys, "info", classifier, "--json").answer
    assert {name: type(answer[name]) for name in CONTRACT} == CONTRACT
    assert answer["task"] == "classification"
    assert answer["labels"] == ["a", "b", "c"]
    assert answer["fingerprint"].startswith("sha256:")


def test_the_numbers_are_those_of_the_model(
    capsys: pytest.CaptureFixture[str], encoder: Path
) -> None:
    answer = said(capsys, "info", encoder, "--json").answer
    assert (answer["architecture"], answer["layers"], answer["heads"]) == ("bert", 2, 4)
    assert (answer["hidden_size"], answer["vocabulary_size"]) == (32, len(WORDS))
    assert answer["size_bytes"] == (encoder / WEIGHTS_FILE).stat().st_size
    assert answer["parameters"] == 21_600  # counted by hand: tables 3,456, layers 2 x 8,544, pooler
    assert answer["task"] is None
    assert answer["labels"] == []
    assert answer["warnings"] == []


def test_the_library_says_the_same(capsys: pytest.CaptureFixture[str], encoder: Path) -> None:
    assert said(capsys, "info", encoder, "--json").answer == potstill.info(encoder)


def test_a_pipe_gets_one_tab_separated_pair_a_line(
    capsys: pytest.CaptureFixture[str], classifier: Path
) -> None:
    told = said(capsys, "info", classifier)
    assert told.pairs["architecture"] == "bert"
    assert told.pairs["labels"] == "a, b, c"
    assert told.pairs["layers"] == "2"
    assert told.err == ""


def test_in_a_process_of_its_own_it_says_the_same(
    capsys: pytest.CaptureFixture[str], encoder: Path
) -> None:
    apart = said_apart("info", encoder, "--json")
    assert apart.err == ""
    assert apart.answer == said(capsys, "info", encoder, "--json").answer


def test_a_fault_that_leaves_something_to_tell_is_a_warning(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = write_tiny_model(tmp_path / "model")
    (folder / "potstill.json").unlink()
    (folder / "tokenizer.json").write_text("{", encoding="utf-8")
    told = said(capsys, "info", folder)
    assert told.status == 0
    assert told.pairs["layers"] == "2"
    (line,) = told.err.splitlines()
    assert line.startswith("potstill: warning: ")
    assert "tokenizer.json" in line
    (warning,) = said(capsys, "info", folder, "--json").answer["warnings"]
    assert line == f"potstill: warning: {warning}"


def test_of_a_copy_from_the_hub_a_note_that_stayed_there_is_no_fault(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_tiny_model(tmp_path / "model")
    (folder / "README.md").unlink()
    monkeypatch.setattr("potstill.bundle.opening.resolve", lambda name: folder)
    assert said(capsys, "info", "hub:model", "--json").answer["warnings"] == []
    (warning,) = said(capsys, "info", folder, "--json").answer["warnings"]
    assert warning == "README.md: the file is missing from the bundle"
