"""`potstill forecast`: reckoned as the run will be, nothing left behind but the corpus."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

import potstill
from potstill.distillation.guessing import Guesser
from potstill.distillation.stored_guesses import Guessed
from potstill.train.checkpoints import CheckpointFolder, RunState
from tests.command_line import said
from tests.corpora import write_patterns
from tests.folders import write_tiny_model

SMALL = {
    "max_length": 32,
    "step_tokens": 256,
    "batch_tokens": 256,
    "held_out_documents": 10,
    "scores": 3,
    "precision": "fp32",
}
FLAGS = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a masked-LM teacher, and texts."""
    folder = tmp_path_factory.mktemp("forecast")
    write_tiny_model(folder / "teacher", "masked-lm", task="masked-lm")
    write_patterns(folder / "texts.txt")
    return folder


def words_of(ground: Path, out: Path, *more: object) -> list[object]:
    return [
        *("forecast", "--corpus", ground / "texts.txt", "--out", out, "--threads", "1"),
        *("--seconds", "0.2", *FLAGS, *more),
    ]


@pytest.mark.parametrize("kind", ["teacher", "model"])
def test_steps_and_tokens_are_those_of_the_run(
    kind: str, capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = words_of(ground, out, f"--{kind}", ground / "teacher", "--epochs", "6", "--json")
    found = said(capsys, *words, "--price-per-hour", "3.6").answer
    verb = ["finetune", "--task", "masked-lm", "--model", ground / "teacher", "--train"]
    if kind == "teacher":
        verb = ["distill", "--teacher", ground / "teacher", "--set", "soft_targets=0"]
        verb += ["--set", "hidden_cosine=0", "--corpus"]  # an untrained teacher has naught to say
    run = [*verb, found["corpus"], "--out", out, "--epochs", "6", "--threads", "1", *FLAGS]
    report = said(capsys, *run, "--learning-rate", "2e-2", "--json").answer
    assert found["steps"] == report["steps"]
    assert found["tokens"] == pytest.approx(report["train_tokens"], rel=0.02)
    assert found["price"] == pytest.approx(found["seconds"] / 1000)
    assert found["hours"] == pytest.approx(found["seconds"] / 3600)
    assert found["seconds"] > 0
    assert found["peak_bytes"] > 0


def test_nothing_is_left_but_the_corpus(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    told = said(capsys, *words_of(ground, tmp_path / "out", "--teacher", ground / "teacher"))
    assert told.status == 0
    assert [file.name for file in tmp_path.iterdir()] == ["out.corpus"]
    lines = dict(line.split("\t") for line in told.out.splitlines() if "\t" in line)
    assert set(lines) == {
        *("training", "steps", "tokens", "tokens/s", "memory at its peak"),
        *("disk for checkpoints", "corpus"),
    }


def test_a_teacher_that_will_be_stored_is_reckoned_once_and_not_in_the_steps(
    capsys: pytest.CaptureFixture[str],
    ground: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pause = 0.2  # of each asking, far above what a step takes

    def slow(guesser: Guesser, *asked: Any) -> Guessed:
        time.sleep(pause)
        return ask(guesser, *asked)

    ask = Guesser.ask
    more = ("--teacher", ground / "teacher", "--recipe", "potstill", "--set", "signals=stored")
    more += ("--set", "top_words=9", "--epochs", "6")
    with monkeypatch.context() as patch:
        patch.setattr(Guesser, "ask", slow)
        found = said(capsys, *words_of(ground, tmp_path / "out", *more, "--json")).answer
    assert [file.name for file in tmp_path.iterdir()] == ["out.corpus"]
    measured = found["measured"]
    assert measured["seconds"] < measured["steps"] * pause
    once = pause * found["tokens"] / 6 / SMALL["step_tokens"]  # of an epoch
    assert once < measured["storing_seconds"] < 2.5 * once  # a step has one micro-batch or two
    assert found["seconds"] > measured["storing_seconds"]

    live = said(capsys, *words_of(ground, tmp_path / "out", *more[:4], "--json")).answer
    run = ["distill", *more, "--corpus", found["corpus"], "--out", tmp_path / "out", *FLAGS]
    run += ["--signals-folder", tmp_path / "said", "--learning-rate", "2e-2", "--threads", "1"]
    assert said(capsys, *run).status in {0, 1}  # an untrained teacher has naught to say
    written = sum(file.stat().st_size for file in (tmp_path / "said").rglob("*.bin"))
    assert found["disk_bytes"] - live["disk_bytes"] == pytest.approx(written, rel=0.1)


def test_folders_above_the_output_are_made_and_go_again(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    words = words_of(ground, tmp_path / "new" / "out", "--teacher", ground / "teacher")
    assert said(capsys, *words, "--corpus-folder", tmp_path / "corpus").status == 0
    assert not (tmp_path / "new").exists(), "a forecast leaves nothing"


def test_the_disk_that_is_told_is_enough_for_the_run_and_not_far_above_it(
    ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, sizes = tmp_path / "out", [0]

    def size() -> int:
        return sum(file.stat().st_size for file in (tmp_path / "out.run").iterdir())

    def seen(folder: CheckpointFolder, state: RunState) -> None:
        sizes.append(size())
        remove_old(folder, state)

    remove_old = CheckpointFolder._remove_old
    how = {"threads": 1, "checkpoint_every_s": 0, "epochs": 3.0, **SMALL, "scores": 10}
    texts = ground / "texts.txt"
    found = potstill.forecast(out, corpus=texts, model=ground / "teacher", seconds=0.1, **how)
    monkeypatch.setattr(CheckpointFolder, "_remove_old", seen)
    potstill.finetune(ground / "teacher", texts, out, task="masked-lm", **how)
    taken = max(sizes) + (out / "model.safetensors").stat().st_size
    assert 0.8 * found.disk_bytes < taken < found.disk_bytes * 1.05


def test_a_forecast_takes_the_flags_of_the_run(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    words = words_of(ground, tmp_path / "out", "--teacher", ground / "teacher", "--keep", "1")
    words += ["--architecture", "teacher", "--temperature", "3", "--learning-rate", "1e-3"]
    words += ["--recipe", "distilbert"]
    assert said(capsys, *words).status == 0


def test_the_scores_of_a_run_are_counted_as_they_are_taken(ground: Path, tmp_path: Path) -> None:
    from potstill.recipe import TrainingRecipe
    from potstill.train.schedule import Schedule

    for epochs, an_epoch in [(1.0, 4), (2.5, 3), (0.3, 10), (1.0, 1), (3.0, 7), (0.01, 1)]:
        recipe = TrainingRecipe(
            epochs=epochs, scores_per_epoch=an_epoch, learning_rate=1e-3, rows_per_step=8
        )
        schedule = Schedule(recipe, [8] * 200)
        taken = [step for step in range(1, schedule.total_steps + 1) if schedule.is_scored(step)]
        assert schedule.scores == len(taken), (epochs, an_epoch)


def test_as_a_library_call(ground: Path, tmp_path: Path) -> None:
    found = potstill.forecast(
        *(tmp_path / "out",),
        corpus=ground / "texts.txt",
        teacher=ground / "teacher",
        seconds=0.1,
        threads=1,
        **SMALL,
    )
    assert json.loads(json.dumps(found.to_json()))["steps"] == found.steps


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ((), "a forecast is of one run"),
        (("--teacher", "a", "--model", "b"), "a forecast is of one run"),
        (("--model", "teacher", "--layers", "1"), "--layers means nothing for the task masked-lm"),
        (("--teacher", "teacher", "--price-per-hour", "-1"), "price_per_hour is -1"),
        (("--teacher", "teacher", "--price-per-hour", "inf"), "price_per_hour is inf"),
        (("--teacher", "teacher", "--seconds", "-1"), "seconds is -1"),
        (("--model", "teacher", "--keep", "0"), "--keep means nothing for the task masked-lm"),
        (("--model", "teacher", "--set", "rows_per_step=4"), "rows_per_step means nothing"),
        (("--teacher", "teacher", "--set", "scratch=8x1"), "scratch"),
    ],
)
def test_wrong_input_is_told_in_one_line(
    more: tuple[str, ...],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    ground: Path,
    tmp_path: Path,
) -> None:
    found = [str(ground / word) if word == "teacher" else word for word in more]
    told = said(capsys, *words_of(ground, tmp_path / "out", *found))
    assert told.status == 2
    assert complaint in told.complaint
