"""`potstill distill`: settings, answers, the bundle that comes out, and a stop on the way."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import potstill
from potstill.bundle.manifest import fingerprint
from potstill.files import move_into_place
from potstill.locks import locked
from potstill.workflows import distill as distill_workflow
from tests.cli.test_finetune import CONTRACT, share_right
from tests.command_line import Said, command, finetuning, said, tree_of, write_jsonl, write_rows
from tests.distilling import distilling, write_encoder, write_teacher

# Keys of the answer beyond those of every verb that writes a bundle.
TOLD = {
    "primary": str,
    "metrics_on": str,
    "start": dict,
    "layers_kept": list,
    "architecture": str,
    "learning_rate": float,
    "learning_rates": list,
    "teacher_dev": float,
    "search": list,
    "signals": str,
    "best_step": int,
    "train_tokens": int,
    "precision": str,
    "resumed_from": type(None),
    "recipe": dict,
}
LEARNS = ("--epochs", "12", "--learning-rate", "3e-3")
QUICK = ("--epochs", "1", "--json")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a pre-trained model, a teacher tuned from it, and rows."""
    folder = tmp_path_factory.mktemp("distill")
    write_encoder(folder / "encoder")
    write_rows(folder / "train.jsonl")
    write_rows(folder / "dev.jsonl", count=20, seed=1)
    write_rows(folder / "texts.jsonl", count=40, seed=2)
    potstill.finetune(
        folder / "encoder",
        folder / "train.jsonl",
        folder / "teacher",
        dev=folder / "dev.jsonl",
        threads=1,
        epochs=16,
        learning_rate=1e-2,
        precision="fp32",
    )
    assert share_right(folder / "teacher", folder / "dev.jsonl") > 0.9
    return folder


def distilled(
    capsys: pytest.CaptureFixture[str], ground: Path, out: Path, *more: object, dev: bool = True
) -> Said:
    rows = ["--train", ground / "train.jsonl", *(["--dev", ground / "dev.jsonl"] if dev else [])]
    return said(capsys, *distilling(ground / "teacher", out, *rows, *more))


def test_it_writes_a_small_model_that_answers_as_its_teacher(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    answer = distilled(capsys, ground, out, *LEARNS, "--json").answer
    for keys in (CONTRACT, TOLD):
        assert {name: type(answer[name]) for name in keys} == keys
    assert answer["bundle"] == str(out)
    assert answer["fingerprint"] == fingerprint(out)
    assert answer["task"] == "classification"
    assert answer["gate"] is None
    assert "control" not in answer
    assert answer["steps"] == 12 * 2
    assert answer["layers_kept"] == [0, 2]
    assert answer["architecture"] == "distilbert"
    assert answer["teacher_dev"] == share_right(ground / "teacher", ground / "dev.jsonl")
    assert answer["metrics"]["accuracy"]["value"] > 0.9
    assert answer["metrics_on"] == "dev"
    (tried,) = answer["learning_rates"]
    assert tried == {"learning_rate": 3e-3, "dev": answer["metrics"]["accuracy"]["value"]}
    start = answer["start"]
    assert 0.0 <= start["embedding_difference"] < 1e-6
    assert start["teacher"]["soft_targets"] == 0.0
    assert start["student"]["soft_targets"] > 0.0
    assert start["teacher"]["hard_labels"] < start["student"]["hard_labels"]
    assert answer["recipe"]["temperature"] == 2.0
    assert share_right(out, ground / "dev.jsonl") == answer["metrics"]["accuracy"]["value"]
    log = (out / "training-log.jsonl").read_text().splitlines()
    assert json.loads(log[-1])["step"] == answer["steps"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_info_tells_what_a_student_is_made_of(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    answer = distilled(capsys, ground, out, "--keep", "1,2,3", *QUICK).answer
    facts = said(capsys, "info", out, "--json").answer
    assert facts["layers"] == 3
    assert facts["architecture"] == "distilbert"
    assert facts["labels"] == ["blame", "praise"]
    assert facts["fingerprint"] == answer["fingerprint"]
    assert facts["transformers"] == {
        "class": "DistilBertForSequenceClassification",
        "complete": True,
        "note": "",
    }
    lineage = facts["lineage"]
    assert lineage["verb"] == "distill"
    assert lineage["layers_kept"] == [1, 2, 3]
    assert lineage["teacher"] == "teacher"
    assert lineage["teacher_fingerprint"] == fingerprint(ground / "teacher")
    assert (lineage["train"], lineage["train_rows"], lineage["dev_rows"]) == ("train.jsonl", 60, 20)
    assert str(ground) not in json.dumps(lineage)  # nobody else's disk looks like this one
    assert facts["measurements"]["dev_accuracy"] == answer["metrics"]["accuracy"]["value"]
    plain = said(capsys, "info", out)
    assert plain.pairs["layers"] == "3"
    assert "layers_kept 1, 2, 3" in plain.pairs["lineage"]


def test_transformers_gives_the_same_logits(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers", reason="pip install 'transformers>=5'")
    transformers.logging.set_verbosity_error()
    out = tmp_path / "out"
    assert distilled(capsys, ground, out, *LEARNS).status == 0
    theirs = transformers.DistilBertForSequenceClassification.from_pretrained(out).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    ours = potstill.load(out, precision="fp32")
    texts = ["a good film", "the plot is awful word1 word2", "great"]
    encoded = ours.tokenizer.encode(texts, max_length=40).batch
    logits = ours.engine.run(encoded, ["logits"])["logits"]
    with torch.no_grad():
        expected = theirs(**tokenizer(texts, padding=True, return_tensors="pt")).logits.numpy()
    assert np.ptp(expected) > 0.5
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)
    assert theirs.config.id2label == {0: "blame", 1: "praise"}


def test_a_plain_answer_tells_start_student_and_control(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    control = ("--control", "pretrained", "--pretrained", ground / "encoder")
    told = distilled(
        capsys, ground, tmp_path / "out", *control, "--choose", "search", "--epochs", "2"
    )
    assert told.status == 0, told.err
    lines = [line.split("\t") for line in told.out.splitlines()]
    ranked = lines[1 : 1 + 6]
    assert lines[0] == ["layers", "KL of a linear fit", "agreement"]
    assert sorted(line[0] for line in ranked) == ["0 1", "0 2", "0 3", "1 2", "1 3", "2 3"]
    values = [float(line[1]) for line in ranked]
    assert values == sorted(values)
    start = lines.index(["dev loss", "to labels", "to teacher"])
    assert [line[0] for line in lines[start + 1 : start + 3]] == ["teacher", "student"]
    head = lines.index(["", "accuracy (dev)", "steps", "tokens", "learning rate"])
    student, other = lines[head + 1 : head + 3]
    assert (student[0], other[0]) == ("student", "control (pretrained)")
    assert student[2] == other[2] == "4"
    pairs = dict(line for line in lines[head + 3 :])
    assert pairs["bundle"] == str(tmp_path / "out")
    assert pairs["fingerprint"] == fingerprint(tmp_path / "out")
    assert all(": step " in line for line in told.err.splitlines())
    assert told.err.splitlines()[-1].startswith("control at 0.0002: step 4/4 ")


def test_a_control_is_told_beside_its_student(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    control = ("--control", "pretrained", "--pretrained", ground / "encoder")
    answer = distilled(capsys, ground, tmp_path / "out", *control, *QUICK).answer
    told = answer["control"]
    assert {name: type(told[name]) for name in CONTRACT} == CONTRACT
    assert told["control"] == "pretrained"
    assert told["bundle"] == str(tmp_path / "out-control")
    assert told["fingerprint"] == fingerprint(tmp_path / "out-control")
    assert told["steps"] == answer["steps"]
    assert told["layers_kept"] == answer["layers_kept"]
    rates = [[each["learning_rate"] for each in run["learning_rates"]] for run in (answer, told)]
    assert rates == [[1e-4, 2e-4], [1e-4, 2e-4]]
    facts = said(capsys, "info", tmp_path / "out-control", "--json").answer
    assert facts["lineage"]["verb"] == "distill --control"
    assert facts["lineage"]["model"] == "encoder"
    assert facts["layers"] == 2


def test_a_search_is_told_with_its_ranking(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    answer = distilled(capsys, ground, tmp_path / "out", "--choose", "search", *QUICK).answer
    ranking = answer["search"]
    assert len(ranking) == 6
    assert answer["layers_kept"] == ranking[0]["layers"]
    assert all(set(each) == {"layers", "divergence", "agreement"} for each in ranking)


# What is asked for, and the settings that it leads to.
RECIPES: list[tuple[list[str], dict[str, Any]]] = [
    (["--recipe", "standard"], {"soft_targets": None, "hard_labels": None, "relations": 0.0}),
    (["--recipe", "teacher-only"], {"soft_targets": 1.0, "hard_labels": 0.0}),
    (["--recipe", "aligned"], {"hidden_cosine": 0.5, "soft_targets": None}),
    (["--recipe", "relations", "--temperature", "4"], {"relations": 0.5, "temperature": 4.0}),
    (["--recipe", "FILE"], {"hidden_mse": 0.25, "layers": 3, "seed": 9}),
    (["--recipe", "FILE", "--layers", "1"], {"hidden_mse": 0.25, "layers": 1}),
]


@pytest.mark.parametrize(("flags", "settings"), RECIPES)
def test_a_recipe_is_a_name_or_a_file_and_flags_go_over_it(
    capsys: pytest.CaptureFixture[str],
    ground: Path,
    tmp_path: Path,
    flags: list[str],
    settings: dict[str, Any],
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("hidden_mse = 0.25\nlayers = 3\nseed = 9\n", encoding="utf-8")
    words = [recipe if flag == "FILE" else flag for flag in flags]
    answer = distilled(capsys, ground, tmp_path / "out", *words, *QUICK).answer
    assert {name: answer["recipe"][name] for name in settings} == settings


def test_an_unknown_recipe_names_those_there_are(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    told = distilled(capsys, ground, tmp_path / "out", "--recipe", "nonsense")
    assert told.status == 2
    assert told.complaint == (
        "--recipe: there is no recipe 'nonsense'; "
        "allowed: standard, aligned, relations, teacher-only, FILE"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("has_dev", [False, True])
def test_texts_without_labels_are_enough(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path, *, has_dev: bool
) -> None:
    texts = ["--unlabelled", ground / "texts.jsonl"]
    dev = ["--dev", ground / "dev.jsonl"] if has_dev else []
    words = distilling(ground / "teacher", tmp_path / "out", *texts, *dev)
    answer = said(capsys, *words, *LEARNS, "--json").answer
    assert answer["metrics_on"] == ("dev" if has_dev else "dev, by the teacher")
    assert answer["metrics"]["accuracy"]["value"] > 0.8
    lineage = said(capsys, "info", tmp_path / "out", "--json").answer["lineage"]
    assert lineage["train"] is None
    assert lineage["unlabelled"] == "texts.jsonl"
    assert (lineage["train_rows"], lineage["unlabelled_rows"]) == (0, 40 if has_dev else 36)
    assert share_right(tmp_path / "out", ground / "train.jsonl") > 0.8


def test_the_teachers_own_architecture_and_metric_are_kept(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    tuned = finetuning(ground / "encoder", ground / "train.jsonl", tmp_path / "teacher")
    assert said(capsys, *tuned, "--epochs", "1", "--primary", "macro_f1").status == 0
    words = distilling(tmp_path / "teacher", tmp_path / "out", "--architecture", "teacher")
    answer = said(capsys, *words, "--train", ground / "train.jsonl", *QUICK).answer
    assert answer["architecture"] == "bert"
    assert answer["primary"] == "macro_f1"
    assert list(answer["metrics"]) == ["macro_f1"]
    words = distilling(tmp_path / "teacher", tmp_path / "other", "--primary", "f1:praise")
    answer = said(capsys, *words, "--train", ground / "train.jsonl", *QUICK).answer
    assert list(answer["metrics"]) == ["f1:praise"]


def test_two_teachers_speak_together(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    other = write_teacher(tmp_path / "other")
    alone = distilled(capsys, ground, tmp_path / "alone", *QUICK).answer
    both = distilled(capsys, ground, tmp_path / "both", "--teacher", other, *QUICK).answer
    assert both["fingerprint"] != alone["fingerprint"]
    assert both["start"]["embedding_difference"] < 1e-6  # the first one is cut
    facts = said(capsys, "info", tmp_path / "both", "--json").answer
    assert facts["lineage"]["teacher"] == "teacher, other"


def test_dev_texts_among_the_unlabelled_are_warned_of(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    rows = (ground / "texts.jsonl").read_text() + (ground / "dev.jsonl").read_text()
    texts = write_jsonl(tmp_path / "texts.jsonl", *map(json.loads, rows.splitlines()))
    words = ["--unlabelled", texts, "--epochs", "1"]
    told = distilled(capsys, ground, tmp_path / "out", *words)
    assert "warning: 20 of 60 unlabelled texts stand in the dev rows: left out" in told.err


def test_the_library_gives_the_same_fingerprint_every_time(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    answer = distilled(capsys, ground, tmp_path / "said", "--layers", "1", *QUICK).answer
    for name in ("once", "twice"):  # the verb has the name of a package, which the first call loads
        report = potstill.distill(
            ground / "teacher",
            tmp_path / name,
            train=ground / "train.jsonl",
            dev=ground / "dev.jsonl",
            threads=1,
            epochs=1,
            layers=1,
            precision="fp32",
        )
        assert report.fingerprint == answer["fingerprint"]
        assert report.load().labels == ("blame", "praise")


def test_stopped_by_a_signal_in_the_control_the_same_command_goes_on(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    control = ["--control", "tuned", "--set", "control_learning_rates=1e-4"]
    rates = ["--set", "learning_rates=1e-3", "--epochs", "30", "--json"]
    rows = ["--train", ground / "train.jsonl", "--dev", ground / "dev.jsonl"]
    words = distilling(ground / "teacher", out, *rows, *control, *rates)
    child = subprocess.Popen(
        command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stderr is not None
    while not child.stderr.readline().startswith("ablation at 0.0001: step 2/60 "):
        assert child.poll() is None, "it ended before the control began"
    child.send_signal(signal.SIGTERM)
    answer, progress = child.communicate(timeout=60)
    assert child.returncode == 130, progress
    assert answer == ""
    assert "potstill: stopped after step " in progress
    assert [path.name for path in tmp_path.iterdir()] == ["out.run"]

    again = said(capsys, *words).answer
    assert again["resumed_from"] == again["steps"] == 60
    assert 0 < again["control"]["resumed_from"] < 60
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out-control"]
    words[words.index(out)] = tmp_path / "whole"
    whole = said(capsys, *words).answer
    assert whole["fingerprint"] == again["fingerprint"]
    assert whole["control"]["fingerprint"] == again["control"]["fingerprint"]


def test_killed_between_its_two_bundles_the_same_command_goes_on(
    capsys: pytest.CaptureFixture[str],
    ground: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, rows = tmp_path / "out", ["--train", ground / "train.jsonl", "--dev", ground / "dev.jsonl"]
    words = distilling(ground / "teacher", out, *rows, "--control", "tuned", "--epochs", "1")
    with monkeypatch.context() as patch:
        patch.setattr(distill_workflow, "move_into_place", moved_once())
        with pytest.raises(Killed):
            said(capsys, *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out-control", "out.run"]
    before = tree_of(tmp_path / "out-control")

    answer = said(capsys, *words, "--json").answer
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out-control"]
    assert tree_of(tmp_path / "out-control") == before
    assert answer["control"]["fingerprint"] == fingerprint(tmp_path / "out-control")


def test_a_control_that_is_not_of_the_killed_run_is_not_touched(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    out, rows = tmp_path / "out", ["--train", ground / "train.jsonl", "--dev", ground / "dev.jsonl"]
    shutil.copytree(ground / "teacher", tmp_path / "out-control")
    (tmp_path / "out.run").mkdir()
    (tmp_path / "out.run" / "control.fingerprint").write_text("sha256:of another")
    words = distilling(ground / "teacher", out, *rows, "--control", "tuned", "--epochs", "1")
    assert "out-control: the output folder is not empty" in said(capsys, *words).complaint


def test_a_second_run_is_refused_while_the_first_one_works(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    rows = ["--train", ground / "train.jsonl", "--dev", ground / "dev.jsonl"]
    with locked(tmp_path / "out.run"):
        told = said(capsys, *distilling(ground / "teacher", tmp_path / "out", *rows))
    assert told.status == 2
    assert "out.run: another run is writing here (process " in told.complaint
    assert "wait for it, or name another --out" in told.complaint


class Killed(BaseException):
    """What nobody catches."""


def moved_once() -> Callable[[Path, Path], None]:
    """Return a move that works at its first call, and kills at its second."""
    calls: list[Path] = []

    def move(staged: Path, target: Path) -> None:
        if calls:
            raise Killed
        calls.append(target)
        move_into_place(staged, target)

    return move
