"""`potstill compare`: models side by side, each in a process of its own."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import potstill
from potstill.cli.render_comparison import print_comparison
from potstill.errors import RecipeError
from tests.command_line import Said, finetuning, said, said_apart, tree_of, write_jsonl, write_rows
from tests.folders import write_tiny_model
from tests.unit.workflows.comparisons import a_comparison, unsolved

PLAIN = ("--precision", "fp32", "--threads", "1", "--rounds", "2")
LABELS = ("blame", "praise")
ROWS = 80
CLASSIFIER = {"task": "classification"}


@dataclass(frozen=True)
class Made:
    """What all tests here look at: models, rows, and one comparison of them."""

    folder: Path
    teacher: Path
    student: Path  # untrained, with its labels in another order
    encoder: Path
    test: Path
    told: Said

    @property
    def answer(self) -> dict[str, Any]:
        return self.told.answer


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("compare")
    encoder = write_tiny_model(folder / "encoder")
    train = write_rows(folder / "train.jsonl", count=160)
    words = finetuning(encoder, train, folder / "teacher", "--epochs", "10", "--set", "seed=1")
    told = said_apart(*words, "--learning-rate", "0.01")
    assert told.status == 0, told.err
    student = write_tiny_model(
        folder / "student", "classification", labels=LABELS[::-1], **CLASSIFIER
    )
    test = write_rows(folder / "test.jsonl", count=ROWS, seed=5)
    told = said_apart(
        *("compare", student, folder / "teacher", "--baseline", "teacher", "--test", test),
        *("--html", folder / "report.html", "--flips", folder / "flips.csv"),
        *("--price-per-hour", "0.36", "--json", *PLAIN),
    )
    return Made(folder, folder / "teacher", student, encoder, test, told)


def test_the_object_has_the_promised_shape(made: Made):
    answer = made.answer
    assert answer["baseline"] == "teacher"
    assert answer["primary"] == "accuracy"
    assert [model["name"] for model in answer["models"]] == ["teacher", "student"]
    for model in answer["models"]:
        assert model["parameters"] > 0
        assert model["size_bytes"] > 4 * model["parameters"]
        assert model["peak_memory_bytes"] > 0
        latency = model["latency_ms"]
        assert list(latency) == ["p50", "p95", "p99"]
        assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
        assert 0 < model["texts_per_second"] < model["tokens_per_second"]
        for name in ("accuracy", "macro_f1", "matthews"):
            assert set(model["metrics"][name]) == {"value", "low", "high"}
        assert {scores["label"] for scores in model["per_class"]} == set(LABELS)
    assert answer["machine"]["cores"] >= 1
    assert answer["method"]["threads"] == 1
    assert answer["method"]["timed_calls"] == 2 * answer["method"]["texts_one_by_one"] > 0


def test_speed_and_cost_are_ratios_of_what_was_measured(made: Made):
    teacher, student = made.answer["models"]
    assert teacher["speedup"] == 1.0
    ratio = teacher["latency_ms"]["p50"] / student["latency_ms"]["p50"]
    assert student["speedup"] == pytest.approx(ratio, rel=0.01)
    cost = 0.36 / 3600 * 1e6 / student["texts_per_second"]
    assert student["cost_per_million"] == pytest.approx(cost, rel=0.01)


def test_quality_is_that_of_the_models_own_answers(made: Made):
    rows = [json.loads(line) for line in made.test.read_text().splitlines()]
    for told, folder in zip(made.answer["models"], (made.teacher, made.student), strict=True):
        answers = potstill.load(folder, precision="fp32").predict([row["text"] for row in rows])
        right = [item["label"] == row["label"] for item, row in zip(answers, rows, strict=True)]
        assert told["metrics"]["accuracy"]["value"] == pytest.approx(np.mean(right), abs=1e-6)


def test_labels_in_another_order_are_put_in_order(made: Made):
    """The student's columns are swapped: without that its accuracy would be its complement."""
    teacher, student = made.answer["models"]
    assert teacher["metrics"]["accuracy"]["value"] > 0.9
    kept = student["metrics"]["accuracy"]["value"] / teacher["metrics"]["accuracy"]["value"]
    assert student["retention"]["value"] == pytest.approx(kept, abs=1e-5)
    assert student["retention"]["low"] <= kept <= student["retention"]["high"]
    assert teacher["retention"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert student["gain_retained"]["value"] < student["retention"]["value"]


def test_flips_explain_the_difference(made: Made):
    flips, (teacher, student) = made.answer["flips"]["student"], made.answer["models"]
    lost, won = (
        flips[f"teacher_{side}"] for side in ("right_student_wrong", "wrong_student_right")
    )
    gained = student["metrics"]["accuracy"]["value"] - teacher["metrics"]["accuracy"]["value"]
    assert (won - lost) / ROWS == pytest.approx(gained, abs=1e-5)
    assert len(flips["rows"]) == min(20, flips["count"]) > 0
    assert made.answer["agreement"]["student"]["value"] == pytest.approx(
        1 - flips["count"] / ROWS, abs=1e-5
    )
    with (made.folder / "flips.csv").open(newline="", encoding="utf-8") as stream:
        written = list(csv.DictReader(stream))
    assert len(written) == flips["count"]
    assert written[0]["text"] == flips["rows"][0]["text"]


def test_progress_goes_to_standard_error_and_no_place_is_told(made: Made):
    assert "round 2 of 2" in made.told.err
    assert str(made.folder) not in made.told.out
    page = (made.folder / "report.html").read_text(encoding="utf-8")
    assert str(made.folder) not in page
    assert "student keeps" in page
    assert made.answer["command"] == (
        "potstill compare teacher student --test test.jsonl --price-per-hour 0.36 --rounds 2 "
        "--precision fp32 --threads 1"
    )


def test_nothing_else_is_left_in_the_folder(made: Made):
    written = {path.name for path in made.folder.iterdir()}
    assert {name for name in written if not name.endswith("-words")} == {
        *("encoder", "teacher", "student", "train.jsonl", "test.jsonl"),
        *("report.html", "flips.csv"),
    }


def test_without_rows_nothing_is_said_about_quality(made: Made):
    answer = potstill.compare(made.encoder, precision="fp32", threads=1, rounds=1).to_json()
    assert answer["test"] is None
    assert answer["primary"] is None
    assert answer["method"]["texts"] == "sample sentences"
    (model,) = answer["models"]
    assert model["metrics"] == {}
    assert model["retention"] is None
    assert model["cost_per_million"] is None
    assert model["latency_ms"]["p50"] > 0


def test_an_option_that_is_not_there_is_refused():
    with pytest.raises(RecipeError, match=r"no option 'treads'; allowed: .*threads"):
        potstill.compare(["any"], treads=2)


def test_a_pipe_gets_one_model_a_line_with_plain_numbers(capsys: pytest.CaptureFixture[str]):
    print_comparison(a_comparison(text="two\nlines"))
    captured = capsys.readouterr()
    header, *lines = [line.split("\t") for line in captured.out.splitlines()]
    teacher, student = (dict(zip(header, line, strict=True)) for line in lines)
    assert (teacher["model"], student["model"]) == ("teacher", "student")
    assert student["retention"] == "0.9870"
    assert float(student["p50_ms"]) <= float(student["p95_ms"]) <= float(student["p99_ms"])
    assert (student["agreement"], teacher["agreement"]) == ("0.9500", "")
    assert captured.err == "potstill: warning: p99 rests on 21 timed calls\n"


def test_an_unsolved_task_is_told_in_every_line(capsys: pytest.CaptureFixture[str]):
    print_comparison(unsolved(a_comparison()))
    header, *lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    for line in lines:
        row = dict(zip(header, line, strict=True))
        assert row["note"] == "the baseline does not solve this task"
        assert row["retention"] == row["gain_retained"] == ""


def test_a_terminal_gets_a_table_with_the_baseline_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    print_comparison(a_comparison(text="[bold]win\x1b[2J"))
    told = capsys.readouterr().out
    assert told.index("teacher (baseline)") < told.index("student")
    assert "student keeps 98.7 % (97.4 to 99.9) of teacher's accuracy" in told
    assert "[bold]win\\x1b[2J" in told
    assert "\x1b[2J" not in told


WRONG = {
    "no such model": (["nowhere"], "nowhere: no such"),
    "no test file": (["student", "--test", "absent.jsonl"], "absent.jsonl"),
    "no head": (["student", "encoder", "--test", "test.jsonl"], "model encoder is none"),
    "other labels": (["student", "other", "--test", "test.jsonl"], "it lacks 'praise'"),
    "strange label": (["student", "--test", "strange.jsonl"], "line 1, field 'label'"),
    "stranger as baseline": (["student", "--baseline", "teacher"], "allowed: student"),
    "twice": (["student", "../compared/student"], "named twice"),
    "no place for a page": (["student", "--html", "absent/report.html"], "does not exist"),
    "page is a folder": (["student", "--html", "student"], "is a folder"),
    "page over the rows": (
        ["student", "--test", "rows.html", "--html", "rows.html"],
        "rows.html: the page would replace the rows",
    ),
    "flips over the rows": (
        ["student", "--test", "rows.csv", "--flips", "link.csv"],
        "link.csv: the flips would replace the rows",
    ),
    "flips into a model": (
        ["student", "encoder", "--test", "test.jsonl", "--flips", "encoder/flips.csv"],
        "encoder/flips.csv: the flips would be written into the folder of the model",
    ),
    "page over weights": (
        ["student", "--html", "encoder/model.safetensors"],
        "unknown kind of file '.safetensors' for --html; allowed: .html, .htm",
    ),
    "flips and page in one": (
        ["student", "--test", "test.jsonl", "--html", "one.html", "--flips", "one.html"],
        "unknown kind of file '.html' for --flips; allowed: .csv",
    ),
    "flips without rows": (["student", "--flips", "flips.csv"], "--test"),
    "no such metric": (["student", "--test", "test.jsonl", "--primary", "bleu"], "'bleu'"),
    "no price": (["student", "--price-per-hour", "0"], "price_per_hour is 0"),
    "no round": (["student", "--rounds", "0"], "--rounds"),
    "no such precision": (["student", "--precision", "int3"], "model student: precision"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line_and_nothing_is_written(
    case: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "compared"
    folder.mkdir()
    write_tiny_model(folder / "student", "classification", labels=LABELS, **CLASSIFIER)
    write_tiny_model(folder / "other", "classification", labels=("blame", "x"), **CLASSIFIER)
    write_tiny_model(folder / "encoder")
    write_rows(folder / "test.jsonl", count=4)
    write_jsonl(folder / "strange.jsonl", {"text": "a film", "label": "strange"})
    for name in ("rows.csv", "rows.html"):
        (folder / name).write_text("text,label\na film,praise\n")
    (folder / "link.csv").symlink_to("rows.csv")
    monkeypatch.chdir(folder)
    before = tree_of(folder)
    words, expected = WRONG[case]
    told = said(capsys, "compare", *words)
    assert told.status == 2
    line = told.err.splitlines()[-1]
    assert line.startswith("potstill: ")
    assert expected in line
    assert told.out == ""
    assert tree_of(folder) == before


def test_the_kinds_of_wrong_input_are_all_there():
    assert len(WRONG) == 19
