"""`potstill finetune`: settings, answers, the bundle that comes out, and a stop on the way."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import potstill
from potstill.errors import MissingExtraError
from potstill.locks import locked
from tests.command_line import command, finetuning, said, said_apart, write_rows
from tests.folders import write_tiny_model

CONTRACT = {
    "bundle": str,
    "fingerprint": str,
    "task": str,
    "metrics": dict,
    "seconds": float,
    "steps": int,
    "warnings": list,
}
LEARNS = ("--epochs", "16", "--learning-rate", "1e-2")
LONG = ("--epochs", "100", "--learning-rate", "1e-4")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a pre-trained model, and rows to train on."""
    folder = tmp_path_factory.mktemp("finetune")
    write_tiny_model(folder / "model")
    write_rows(folder / "train.jsonl")
    write_rows(folder / "dev.jsonl", count=20, seed=1)
    return folder


def test_it_writes_a_model_that_answers(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    rows = ["--dev", ground / "dev.jsonl", "--json"]
    told = said(capsys, *finetuning(ground / "model", ground / "train.jsonl", out, *LEARNS, *rows))
    answer = told.answer
    assert {name: type(answer[name]) for name in CONTRACT} == CONTRACT
    assert answer["bundle"] == str(out)
    assert answer["task"] == "classification"
    assert answer["gate"] is None
    assert answer["steps"] == 16 * 2
    assert answer["metrics"]["accuracy"]["value"] > 0.9

    facts = said(capsys, "info", out, "--json").answer
    assert facts["task"] == "classification"
    assert facts["labels"] == ["blame", "praise"]
    assert facts["fingerprint"] == answer["fingerprint"]
    assert facts["lineage"]["train_rows"] == 60

    assert share_right(out, ground / "dev.jsonl") == answer["metrics"]["accuracy"]["value"]
    log = (out / "training-log.jsonl").read_text().splitlines()
    assert json.loads(log[-1])["step"] == answer["steps"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_progress_goes_to_standard_error_alone(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    words = finetuning(ground / "model", ground / "train.jsonl", tmp_path / "out", "--epochs", "2")
    told = said(capsys, *words)
    assert told.pairs["bundle"] == str(tmp_path / "out")
    assert told.pairs["task"] == "classification"
    assert "accuracy (dev)" in told.pairs
    lines = told.err.splitlines()
    assert len(lines) >= 2
    assert lines[-1].startswith("step 4/4 ")
    assert all(line.startswith("step ") for line in lines)


def test_a_second_run_is_refused_while_the_first_one_works(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    words = finetuning(ground / "model", ground / "train.jsonl", tmp_path / "out")
    with locked(tmp_path / "out.run"):
        told = said(capsys, *words)
    assert told.status == 2
    assert "out.run: another run is writing here (process " in told.complaint
    assert list(tmp_path.iterdir()) == []


def test_the_same_seed_gives_the_same_fingerprint(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    def fingerprint(name: str, seed: int) -> str:
        words = finetuning(ground / "model", ground / "train.jsonl", tmp_path / name, "--json")
        return said(capsys, *words, "--epochs", "1", "--seed", seed).answer["fingerprint"]

    first = fingerprint("first", 3)
    assert fingerprint("second", 3) == first
    assert fingerprint("third", 4) != first


def test_a_process_of_its_own_and_the_library_give_the_same_fingerprint(
    ground: Path, tmp_path: Path
) -> None:
    words = finetuning(ground / "model", ground / "train.jsonl", tmp_path / "apart", "--json")
    apart = said_apart(*words, "--epochs", "1")
    report = potstill.finetune(
        ground / "model",
        ground / "train.jsonl",
        tmp_path / "here",
        threads=1,
        epochs=1,
        precision="fp32",
    )
    assert report.fingerprint == apart.answer["fingerprint"]
    assert report.load().labels == ("blame", "praise")


def test_a_mean_pooled_classifier_is_told_as_ours_alone(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = finetuning(ground / "model", ground / "train.jsonl", out, "--pooling", "mean", *LEARNS)
    answer = said(capsys, *words, "--dev", ground / "dev.jsonl", "--json").answer
    assert answer["metrics"]["accuracy"]["value"] > 0.9
    assert share_right(out, ground / "dev.jsonl") == answer["metrics"]["accuracy"]["value"]
    facts = said(capsys, "info", out, "--json").answer
    assert facts["pooling"]["pooling"] == "mean"
    assert facts["transformers"]["complete"] is False
    assert "potstill's alone" in facts["transformers"]["note"]


def test_a_recipe_file_sets_what_no_flag_does(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("epochs = 5\nrows_per_step = 54\nseed = 9\n", encoding="utf-8")
    words = finetuning(ground / "model", ground / "train.jsonl", tmp_path / "out", "--json")
    told = said(capsys, *words, "--recipe", recipe, "--epochs", "2", "--set", "scores_per_epoch=2")
    assert told.answer["steps"] == 2  # 54 of the 60 rows are left to train on: one step an epoch
    facts = said(capsys, "info", tmp_path / "out", "--json").answer
    assert facts["lineage"]["seed"] == 9


def test_a_setting_asked_for_twice_is_refused(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    words = finetuning(ground / "model", ground / "train.jsonl", tmp_path / "out")
    told = said(capsys, *words, "--batch-tokens", "64", "--set", "batch_tokens=32")
    assert told.status == 2
    assert "batch_tokens is asked for twice, by --batch-tokens and by --set" in told.complaint
    told = said(capsys, *words, "--set", "epochs=1", "--set", "epochs=2")
    assert told.status == 2
    assert "epochs is set twice" in told.complaint


def test_cut_texts_and_rows_on_both_sides_are_warned_of(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    rows = ground / "train.jsonl"
    words = finetuning(ground / "model", rows, tmp_path / "out", "--dev", rows, "--max-length", "5")
    warnings = said(capsys, *words, "--epochs", "1", "--json").answer["warnings"]
    assert any("were cut at 5 tokens" in warning for warning in warnings)
    assert any("60" in warning and "train.jsonl" in warning for warning in warnings[2:])


def test_without_torch_the_install_line_is_told(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    ground: Path,
    tmp_path: Path,
) -> None:
    words = finetuning(ground / "model", ground / "train.jsonl", tmp_path / "out")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError):
        potstill.finetune(ground / "model", ground / "train.jsonl", tmp_path / "out")
    apart = said(capsys, *words)
    assert apart.status == 2
    assert "pip install 'potstill[train]'" in apart.complaint


def share_right(bundle: Path, rows: Path) -> float:
    """Return the accuracy of a bundle, loaded from disk and asked row by row."""
    model = potstill.load(bundle, precision="fp32")
    told = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    answers = [model.predict([row["text"]])[0]["label"] for row in told]
    return sum(answer == row["label"] for answer, row in zip(answers, told, strict=True)) / len(
        told
    )


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGHUP])
def test_stopped_by_a_signal_the_same_command_goes_on(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path, asked: signal.Signals
) -> None:
    words = finetuning(ground / "model", ground / "train.jsonl", tmp_path / "out", *LONG, "--json")
    of_the_tests = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup a child ignores it
    child = subprocess.Popen(
        command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    signal.signal(signal.SIGHUP, of_the_tests)
    assert child.stderr.readline().startswith("step ")
    child.send_signal(asked)
    answer, progress = child.communicate(timeout=60)
    assert child.returncode == 130
    assert answer == ""
    (complaint,) = [line for line in progress.splitlines() if not line.startswith("step ")]
    assert complaint.startswith("potstill: stopped after step ")
    assert "repeat the command to go on" in complaint
    assert [path.name for path in tmp_path.iterdir()] == ["out.run"]

    again = said(capsys, *words).answer
    assert 0 < again["resumed_from"] < again["steps"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    words[words.index(tmp_path / "out")] = tmp_path / "whole"
    assert said(capsys, *words).answer["fingerprint"] == again["fingerprint"]


def test_a_signal_before_the_first_step_is_told_too(ground: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    os.mkfifo(rows)  # its reader waits for us, so the signal finds it reading
    child = subprocess.Popen(
        command(*finetuning(ground / "model", rows, tmp_path / "out")),
        stderr=subprocess.PIPE,
        text=True,
    )
    writer = opened_when_read(rows, child)
    child.send_signal(signal.SIGTERM)
    _, told = child.communicate(timeout=60)
    os.close(writer)
    assert child.returncode == 130
    assert told == "potstill: interrupted; to mend it: repeat the command\n"
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def opened_when_read(pipe: Path, reader: subprocess.Popen[str]) -> int:
    """Open a named pipe for writing as soon as `reader` has opened it."""
    while reader.poll() is None:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:  # no reader yet
                raise
            time.sleep(0.02)
    raise AssertionError(f"the reader ended with {reader.returncode}")
