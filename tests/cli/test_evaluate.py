"""`potstill evaluate` and `potstill predict`: answers by the contract, wrong inputs in one line."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

import potstill
from potstill.errors import DataError
from tests.command_line import finetuning, said, write_jsonl, write_rows
from tests.folders import write_tiny_model


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a tuned model, a bare one, and rows."""
    folder = tmp_path_factory.mktemp("evaluate")
    write_tiny_model(folder / "bare")
    write_rows(folder / "train.jsonl", count=100)
    write_rows(folder / "test.jsonl", count=60, seed=2)
    potstill.finetune(
        folder / "bare",
        folder / "train.jsonl",
        folder / "tuned",
        threads=1,
        epochs=16,
        learning_rate=1e-2,
        precision="fp32",
        primary="macro_f1",
    )
    return folder


def test_the_answer_has_the_shape_of_the_contract(
    capsys: pytest.CaptureFixture[str], ground: Path
) -> None:
    words = ["evaluate", ground / "tuned", "--test", ground / "test.jsonl", "--threads", 1]
    answer = said(capsys, *words, "--json").answer
    assert answer["examples"] == 60
    assert answer["primary"] == "macro_f1"  # as the teacher was chosen by
    for found in answer["metrics"].values():
        assert found["low"] <= found["value"] <= found["high"]
    assert answer["metrics"]["accuracy"]["value"] > 0.8
    assert said(capsys, *words, "--primary", "f1:blame", "--json").answer["primary"] == "f1:blame"
    lines = said(capsys, *words).out.splitlines()
    assert lines[0].startswith("metric\tvalue\t95 % interval\ttrivial (")
    assert lines[1].startswith("macro_f1 (primary)\t")


def test_the_library_gives_the_same(capsys: pytest.CaptureFixture[str], ground: Path) -> None:
    words = ["evaluate", ground / "tuned", "--test", ground / "test.jsonl", "--threads", 1]
    told = said(capsys, *words, "--precision", "fp32", "--json").answer
    found = potstill.evaluate(
        ground / "tuned", ground / "test.jsonl", precision="fp32", threads=1
    ).to_json()
    assert {**found, "model": ""} == {**told, "model": ""}


def test_a_test_of_three_rows_is_warned_of(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    few = write_rows(tmp_path / "few.jsonl", count=3)
    told = said(capsys, "evaluate", ground / "tuned", "--test", few, "--threads", 1)
    assert told.status == 0
    assert "3 rows cannot prove anything" in told.err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["evaluate", "{bare}", "--test", "{test}"], "the task of this model is none"),
        (["evaluate", "{tuned}", "--test", "{strange}"], "line 1, field 'label'"),
        (["evaluate", "{tuned}", "--test", "{test}", "--primary", "f1:x"], "no label 'x'"),
        (["evaluate", "{tuned}", "--test", "{test}", "--label-column", "y"], "no column 'y'"),
        (["evaluate", "{tuned}"], "Missing option '--test'"),
        (["predict", "{bare}", "a text"], "the task of this model is none"),
        (["predict", "{tuned}", "a text", "--input", "{test}"], "texts are given twice"),
        (["predict", "{tuned}", "a", "--output", "{folder}/a.csv"], "unknown kind of file '.csv'"),
        (["predict", "{tuned}", "--input", "{folder}/none.jsonl"], "none.jsonl"),
        (["predict", "{tuned}", "a", "--top", "0"], "--top"),
    ],
)
def test_wrong_inputs_are_told_in_one_line(
    words: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    ground: Path,
    tmp_path: Path,
) -> None:
    strange = write_jsonl(tmp_path / "strange.jsonl", {"text": "a film", "label": "neither"})
    places = {
        "bare": ground / "bare",
        "tuned": ground / "tuned",
        "test": ground / "test.jsonl",
        "strange": strange,
        "folder": tmp_path,
    }
    told = said(capsys, *[word.format(**places) for word in words])
    assert told.status == 2
    assert complaint in told.complaint
    assert list(tmp_path.iterdir()) == [strange]


def test_predict_gives_one_item_a_text(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    words = ["predict", ground / "tuned", "the film great", "the film awful", "--threads", 1]
    items = [json.loads(line) for line in said(capsys, *words, "--json").out.splitlines()]
    assert [item["label"] for item in items] == ["praise", "blame"]
    for item in items:
        assert set(item) == {"label", "score", "scores", "truncated"}
        assert sum(each["score"] for each in item["scores"]) == pytest.approx(1.0)
    top = said(capsys, *words, "--json", "--top", 1).out.splitlines()
    assert [len(json.loads(line)["scores"]) for line in top] == [1, 1]
    plain = said(capsys, *words).out.splitlines()
    assert plain[0].split("\t")[::2] == ["praise", "the film great"]
    output = tmp_path / "answers.jsonl"
    told = said(
        capsys, *words[:2], "--input", ground / "test.jsonl", "--output", output, "--threads", 1
    )
    assert told.pairs["rows"] == "60"
    assert len(output.read_text().splitlines()) == 60


def piped(content: bytes) -> io.TextIOWrapper:
    """Return a standard input that holds `content`."""
    return io.TextIOWrapper(io.BytesIO(content))


def test_predict_reads_lines_of_standard_input(
    capsys: pytest.CaptureFixture[str], ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", piped(b"the film great\nthe film awful\n"))
    lines = said(capsys, "predict", ground / "tuned", "--threads", 1).out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["praise", "blame"]
    monkeypatch.setattr(sys, "stdin", piped(b""))
    told = said(capsys, "predict", ground / "tuned")
    assert told.status == 2
    assert "there is no text to answer" in told.complaint


def test_a_terminal_gets_tables(
    capsys: pytest.CaptureFixture[str], ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    words = ["evaluate", ground / "tuned", "--test", ground / "test.jsonl", "--threads", 1]
    judged = said(capsys, *words).out
    assert "\t" not in judged
    for shown in ("on 60 rows", "macro_f1 (primary)", "trivial (blame)", "recall", "praise"):
        assert shown in judged
    answered = said(capsys, "predict", ground / "tuned", "the film [b]great", "--threads", 1).out
    assert "score" in answered
    assert "the film [b]great" in answered  # brackets of a text are no commands of the table's


@pytest.mark.parametrize("task", ["text-classification", "sentiment-analysis"])
def test_finetune_understands_the_names_of_pipelines(
    task: str, capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    words = finetuning(ground / "bare", ground / "train.jsonl", tmp_path / "out", "--epochs", "1")
    assert said(capsys, *words, "--task", task).pairs["task"] == "classification"
    report = potstill.finetune(
        ground / "bare",
        ground / "train.jsonl",
        tmp_path / "by-library",
        threads=1,
        epochs=1,
        precision="fp32",
        task=task,
    )
    assert report.task == "classification"


@pytest.mark.parametrize(
    ("task", "complaint"),
    [("translation", "task is 'translation'"), ("text-clasification", "text-classification?")],
)
def test_finetune_refuses_tasks_that_there_are_not_in_one_line(
    task: str, complaint: str, capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    words = finetuning(ground / "bare", ground / "train.jsonl", tmp_path / "out")
    told = said(capsys, *words, "--task", task)
    assert told.status == 2
    assert complaint in told.complaint
    assert list(tmp_path.iterdir()) == []


def test_a_finetune_of_one_class_is_refused(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    rows = [{"text": f"film {number}", "label": "same"} for number in range(20)]
    same = write_jsonl(tmp_path / "same.jsonl", *rows)
    told = said(capsys, *finetuning(ground / "bare", same, tmp_path / "out"))
    assert told.status == 2
    assert "there is only one class, 'same'" in told.complaint


def test_a_model_of_pairs_refuses_single_texts(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    pairs = [
        {"text": f"film word{n}", "text_pair": ["good", "bad"][n % 2], "label": ["a", "b"][n % 2]}
        for n in range(30)
    ]
    potstill.finetune(
        *(ground / "bare", pairs, tmp_path / "tuned"), epochs=1, precision="fp32", threads=1
    )
    single = write_jsonl(tmp_path / "single.jsonl", {"text": "film", "label": "a"})
    complaint = "these are single texts, and the model has learned from pairs"
    for words in (
        ["evaluate", tmp_path / "tuned", "--test", single],
        ["predict", tmp_path / "tuned", "film"],
    ):
        told = said(capsys, *words)
        assert told.status == 2
        assert complaint in told.complaint
    small = potstill.distill(
        *(tmp_path / "tuned", tmp_path / "small"), train=pairs, layers=1, epochs=1.0, threads=1
    )
    with pytest.raises(DataError, match=complaint):
        small.load().predict(["film"])
    assert small.load().predict([("film", "good")])[0]["label"] in {"a", "b"}
