"""`potstill predict`: where texts come from, what is written, and what a pipe may hold."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

import potstill
from potstill.workflows import predict as workflow
from tests.command_line import said, said_apart, write_jsonl, write_rows
from tests.folders import write_tiny_model

PLAIN = ("--precision", "fp32", "--threads", "1")
LABELS = ("blame", "neither", "praise")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict") / "model"
    return write_tiny_model(folder, "classification", task="classification", labels=LABELS)


@pytest.fixture(scope="module")
def loaded(model: Path) -> potstill.Model:
    return potstill.load(model, precision="fp32", threads=1)


def give_standard_input(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), errors="strict"))


def test_a_terminal_is_told_who_answers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    told = said(capsys, "predict", model, "good", *PLAIN)
    assert "potstill: answered by openvino in fp32: the first that is installed\n" in told.err


def test_a_file_holds_the_answers_of_the_library(
    capsys: pytest.CaptureFixture[str], model: Path, loaded: potstill.Model, tmp_path: Path
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", count=7)
    output = tmp_path / "answers.jsonl"
    words = ["predict", model, "--input", rows, "--output", output, *PLAIN]
    answer = said(capsys, *words, "--json").answer
    how = {"engine": "openvino", "precision": "fp32"}
    how["engine_reason"] = "the first that is installed"
    assert answer == {"output": str(output), "rows": 7, "truncated": 0, **how}
    texts = [json.loads(line)["text"] for line in rows.read_text(encoding="utf-8").splitlines()]
    items = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    for item, expected in zip(items, loaded.predict(texts), strict=True):
        assert item["label"] == expected["label"]
        assert item["score"] == pytest.approx(expected["score"], abs=1e-6)


def test_texts_in_parts_are_answered_in_their_order(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["predict", model, "--input", write_rows(tmp_path / "rows.jsonl", count=8), *PLAIN]
    whole = said(capsys, *words).out.splitlines()
    monkeypatch.setattr(workflow, "_ROWS_AT_ONCE", 3)
    parts = said(capsys, *words).out.splitlines()
    assert [line.split("\t")[::2] for line in parts] == [line.split("\t")[::2] for line in whole]
    assert len(parts) == 8


def test_a_cut_text_says_so(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", {"body": "a film"}, {"body": "a very good film"})
    words = ["predict", model, "--input", rows, "--text-column", "body", "--max-length", 4, *PLAIN]
    items = [json.loads(line) for line in said(capsys, *words, "--json").out.splitlines()]
    assert [item["truncated"] for item in items] == [False, True]
    told = said(capsys, *words, "--output", tmp_path / "answers.jsonl")
    assert (told.pairs["rows"], told.pairs["truncated"]) == ("2", "1")


def test_top_limits_the_scores_told_and_written(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", count=2)
    output = tmp_path / "answers.jsonl"
    words = ["predict", model, "--input", rows, "--top", 2, *PLAIN]
    said(capsys, *words, "--output", output)
    for lines in (said(capsys, *words, "--json").out, output.read_text(encoding="utf-8")):
        for item in map(json.loads, lines.splitlines()):
            assert len(item["scores"]) == 2
            assert item["scores"][0] == {"label": item["label"], "score": item["score"]}
            assert item["scores"][0]["score"] >= item["scores"][1]["score"]


def test_a_text_keeps_to_its_line_and_commands_no_terminal(
    capsys: pytest.CaptureFixture[str], model: Path
) -> None:
    (line,) = said(capsys, "predict", model, "a\tfilm\n\x1b[31m", *PLAIN).out.splitlines()
    label, score, text = line.split("\t")
    assert label in LABELS
    assert 1 / 3 < float(score) <= 1
    assert text == r"a\tfilm\n\x1b[31m"


@pytest.mark.parametrize(
    "content", [b"a film\r\na good film\r\n", b"\xef\xbb\xbfa film\na good film"]
)
def test_lines_end_as_any_system_ends_them(
    content: bytes,
    capsys: pytest.CaptureFixture[str],
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    give_standard_input(monkeypatch, content)
    lines = said(capsys, "predict", model, *PLAIN).out.splitlines()
    assert [line.split("\t")[2] for line in lines] == ["a film", "a good film"]


def test_an_empty_line_is_a_text_so_that_lines_keep_their_numbers(
    capsys: pytest.CaptureFixture[str], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_standard_input(monkeypatch, b"a film\n\na good film\n")
    assert len(said(capsys, "predict", model, *PLAIN).out.splitlines()) == 3


def test_standard_input_is_left_alone_where_texts_are_given(
    capsys: pytest.CaptureFixture[str], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_standard_input(monkeypatch, b"a good film\n")
    (line,) = said(capsys, "predict", model, "a film", *PLAIN).out.splitlines()
    assert line.endswith("\ta film")
    assert sys.stdin.read() == "a good film\n"


def test_a_line_that_is_not_utf8_is_told_by_its_number(
    capsys: pytest.CaptureFixture[str], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_standard_input(monkeypatch, b"a film\nd\xe9j\xe0 vu\n")
    told = said(capsys, "predict", model, *PLAIN)
    assert told.status == 2
    assert "standard input, line 2" in told.complaint
    assert "0xe9" in told.complaint


def test_a_closed_standard_input_is_no_text(
    capsys: pytest.CaptureFixture[str], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    told = said(capsys, "predict", model, *PLAIN)
    assert told.status == 2
    assert "there is no text to answer" in told.complaint


def test_answers_never_replace_the_rows(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", count=2)
    before = rows.read_bytes()
    (tmp_path / "link.jsonl").symlink_to(rows)
    for output in (rows, tmp_path / "link.jsonl"):
        told = said(capsys, "predict", model, "--input", rows, "--output", output, *PLAIN)
        assert told.status == 2
        assert "the answers would replace the rows" in told.complaint
    assert rows.read_bytes() == before


def test_answers_are_never_written_into_the_models_folder(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(model)
    for output in (model / "answers.jsonl", tmp_path / "link" / "answers.jsonl"):
        told = said(capsys, "predict", model, "a film", "--output", output, *PLAIN)
        assert told.status == 2
        assert "the answers would be written into the folder of the model" in told.complaint
    assert not (model / "answers.jsonl").exists()


def test_a_wrong_row_leaves_no_file(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", {"text": "a film"}, {"body": "a film"})
    output = tmp_path / "answers.jsonl"
    told = said(capsys, "predict", model, "--input", rows, "--output", output, *PLAIN)
    assert told.status == 2
    assert f"{rows}, line 2" in told.complaint
    assert not output.exists()


def test_in_a_process_of_its_own_it_answers_a_pipe(model: Path) -> None:
    told = said_apart("predict", model, *PLAIN, "--json", input="a film\na good film\n")
    assert told.status == 0, told.err
    assert told.err == ""
    items = [json.loads(line) for line in told.out.splitlines()]
    assert [set(item) for item in items] == [{"label", "score", "scores", "truncated"}] * 2
