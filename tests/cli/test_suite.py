"""`potstill suite`: each cell once, resumable, partial tables that say so, wrong files."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from potstill.bundle.manifest import fingerprint
from potstill.errors import Stopped
from potstill.files import sha256_of_file, write_atomically
from potstill.locks import locked
from potstill.recipe import recipe_hash, with_settings
from potstill.tasks.reading import KINDS
from potstill.train.progress import Progress
from potstill.workflows import suite as suite_workflow
from potstill.workflows.distill_recipe import DistillRecipe
from potstill.workflows.finetune import FinetuneRecipe
from potstill.workflows.suite import SuiteOptions, asked_cells, run_suite
from potstill.workflows.suite_file import read_suite
from potstill.workflows.suite_table import suite_table
from tests.command_line import said, tree_of, write_rows
from tests.conftest import REPOSITORY
from tests.folders import write_tiny_model

SUITE = """
name = "tiny"
pretrained = "{model}"
seeds = [0, 1]

[teacher]
epochs = 10
learning_rate = 1e-2
precision = "fp32"

[student]
layers = 1
epochs = 10
learning_rates = "1e-2,1e-3"
precision = "fp32"

[[task]]
name = "praise"
train = "train.jsonl"
dev = "dev.jsonl"
test = "test.jsonl"

[[task]]
name = "blame"
train = "train.jsonl"
test = "test.jsonl"
unlabelled = "free.jsonl"
unlabelled_rows = 30
primary = "f1:blame"
seeds = [3]
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    write_tiny_model(folder / "model")
    write_rows(folder / "train.jsonl", count=100)
    write_rows(folder / "dev.jsonl", count=40, seed=1)
    write_rows(folder / "test.jsonl", count=60, seed=2)
    write_rows(folder / "free.jsonl", count=50, seed=3)
    (folder / "suite.toml").write_text(SUITE.format(model=folder / "model"))
    return folder / "suite.toml"


def options(out: Path, **more: object) -> SuiteOptions:
    return SuiteOptions(out=out, threads=1, **more)


@pytest.fixture(scope="module")
def done(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    run_suite(file, options(out))
    return out


def cells_of(out: Path) -> dict[str, bytes | None]:
    return tree_of(out / "cells")


def test_every_cell_is_stored_with_its_answers(done: Path) -> None:
    cells = [json.loads(content or b"") for content in cells_of(done).values()]
    found = {(cell["task"], cell["seed"], cell["kind"]) for cell in cells}
    kinds = ("teacher", "student", "control")
    assert found == {
        (task, seed, kind)
        for task, seeds in {"praise": (0, 1), "blame": (3,)}.items()
        for seed in seeds
        for kind in kinds
    }
    for cell in cells:
        assert len(cell["statistics"]) == len(cell["trivial"]) == cell["test_rows"] == 60


def test_a_second_run_trains_nothing(file: Path, done: Path) -> None:
    def no_training(progress: Progress) -> None:
        raise AssertionError(f"trained again: {progress.line()}")

    before = tree_of(done)
    run_suite(file, options(done, listeners=(no_training,)))
    assert tree_of(done) == before


def test_other_test_rows_are_judged_anew_and_nothing_is_trained(
    file: Path, done: Path, tmp_path: Path
) -> None:
    def no_training(progress: Progress) -> None:
        raise AssertionError(f"trained again: {progress.line()}")

    moved = tmp_path / "data"
    shutil.copytree(file.parent, moved, ignore=shutil.ignore_patterns("model*"))
    shutil.copytree(done, tmp_path / "runs")
    write_rows(moved / "test.jsonl", count=70, seed=9)
    how = options(tmp_path / "runs", data=moved, listeners=(no_training,))
    assert suite_table(file, how).rows == []
    cells = run_suite(file, how)
    assert {cell.test_rows for cell in cells} == {70}
    assert {cell.key for cell in cells} == {cell.key for cell in run_suite(file, options(done))}


def test_later_seeds_take_the_learning_rates_that_the_first_chose(done: Path) -> None:
    def rates(kind: str, seed: int) -> tuple[float, int]:
        (name,) = [name for name in cells_of(done) if name.startswith(f"praise-{seed}-{kind}")]
        report = json.loads(cells_of(done)[name] or b"")["report"]
        return report["learning_rate"], len(report["learning_rates"])

    for kind in ("student", "control"):
        first, tried = rates(kind, 0)
        assert tried == 2
        assert rates(kind, 1) == (first, 1)


def test_a_suite_without_controls_tells_all_of_its_seeds(file: Path, tmp_path: Path) -> None:
    bare = file.with_name("no-control.toml")
    suite = file.read_text().replace("seeds = [0, 1]", 'seeds = [0, 1]\ncontrol = "none"')
    praise = suite[suite.index("[[task]]") : suite.index('[[task]]\nname = "blame"')]
    again = praise.replace('"praise"', '"praise again"') + "student = { epochs = 2 }\n"
    bare.write_text(f"{suite}\n{again}")
    how = options(tmp_path, only=("praise", "praise again"))
    cells = run_suite(bare, how)
    table = suite_table(bare, how)
    assert [row.seeds for row in table.rows] == [[0, 1], [0, 1]]
    assert not table.is_partial
    assert asked_cells(bare, how) == {(cell.task, cell.kind, cell.seed): cell.key for cell in cells}
    teachers = {each.name for each in (tmp_path / "bundles").glob("*-teacher-*") if each.is_dir()}
    assert len(teachers) == 2, "tasks that ask for the same teacher share it"


def test_the_table_tells_every_task_the_worst_first(file: Path, done: Path) -> None:
    table = suite_table(file, options(done))
    assert not table.is_partial
    assert {row.task for row in table.rows} == {"praise", "blame"}
    values = [row.retention.value for row in table.rows if row.is_solved]
    assert values == sorted(values)
    (praise,) = [row for row in table.rows if row.task == "praise"]
    assert praise.seeds == [0, 1]
    assert praise.retention.value == pytest.approx(praise.student / praise.teacher)
    assert praise.over_control is not None
    assert praise.over_control.value == pytest.approx(praise.student - (praise.control or 0))


def test_a_killed_suite_goes_on_and_its_partial_table_says_so(
    file: Path, done: Path, tmp_path: Path
) -> None:
    def stop_in_second_seed(progress: Progress) -> None:
        if "praise, seed 1, student" in progress.run:
            raise Stopped("stopped by the test")

    with pytest.raises(Stopped):
        run_suite(file, options(tmp_path, listeners=(stop_in_second_seed,)))
    table = suite_table(file, options(tmp_path))
    assert (table.cells, table.of_cells) == (4, 9)
    assert [row.seeds for row in table.rows] == [[0]]
    run_suite(file, options(tmp_path))

    def answers(out: Path) -> dict[str, object]:
        return {
            name: json.loads(content or b"")["statistics"]
            for name, content in cells_of(out).items()
        }

    assert answers(tmp_path) == answers(done)


def praise_alone(file: Path, place: Path, more: str = "") -> Path:
    """Write a suite of one task and seed, without control."""
    suite = file.read_text().replace("seeds = [0, 1]", 'seeds = [0]\ncontrol = "none"')
    place.write_text(suite[: suite.index('[[task]]\nname = "blame"')] + more)
    return place


@pytest.mark.parametrize("column", ["text", "text_pair", "label"])
def test_other_columns_are_other_cells_and_the_usual_ones_keep_their_keys(
    file: Path, tmp_path: Path, column: str
) -> None:
    def keys(more: str) -> dict[tuple[str, str, int], str]:
        suite = praise_alone(file, tmp_path / "suite.toml", more)
        return asked_cells(suite, options(tmp_path / "runs", data=file.parent))

    usual = keys("")
    assert keys(f'{column}_column = "{column}"\n') == usual
    other = keys(f'{column}_column = "other"\n')
    assert all(other[cell] != key for cell, key in usual.items())

    settings = {"epochs": 10, "learning_rate": 1e-2, "precision": "fp32"}
    assert usual["praise", "teacher", 0] == recipe_hash(  # as cells have been stored since ever
        with_settings(FinetuneRecipe(), settings),
        model=fingerprint(file.parent / "model"),
        rows="None",
        file0=sha256_of_file(file.parent / "train.jsonl"),
        file1=sha256_of_file(file.parent / "dev.jsonl"),
    )


def test_another_label_column_of_the_test_rows_is_judged_anew(file: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (file.parent / "test.jsonl").read_text().splitlines()]
    assert rows[0]["label"] != rows[1]["label"]
    kept = praise_alone(file, tmp_path / "a.toml")
    moved = praise_alone(file, tmp_path / "b.toml", 'label_column = "class"\n')
    how = options(tmp_path / "runs", data=file.parent)
    (task,), (other,) = read_suite(kept).tasks, read_suite(moved).tasks
    runner = suite_workflow._Runner(read_suite(kept), how, file.parent)
    assert runner._judged_on(task) != runner._judged_on(other)


@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_a_suite_killed_between_a_bundle_and_its_report_goes_on(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def killed(path: Path, content: bytes) -> None:
        if path.parent.name == "bundles" and kind in path.name:
            raise KeyboardInterrupt
        write_atomically(path, content)

    suite = praise_alone(file, tmp_path / "suite.toml")
    how = options(tmp_path / "runs", data=file.parent)
    with monkeypatch.context() as patch:
        patch.setattr(suite_workflow, "write_atomically", killed)
        with pytest.raises(KeyboardInterrupt):
            run_suite(suite, how)
    assert [cell.kind for cell in run_suite(suite, how)] == ["teacher", "student"]


def test_a_bundle_that_another_suite_is_making_is_waited_for_and_not_begun_again(
    file: Path, done: Path, tmp_path: Path
) -> None:
    suite = praise_alone(file, tmp_path / "suite.toml")
    bundles = tmp_path / "runs" / "bundles"
    how = options(tmp_path / "runs", data=file.parent)
    key = asked_cells(suite, how)["praise", "teacher", 0]
    name = f"classification-0-teacher-{key}"
    told: list[str] = []
    other = ExitStack()
    other.enter_context(locked(bundles / f"{name}.suite"))

    def listen(progress: Progress) -> None:
        told.append(progress.line())
        if progress.run.startswith("waiting"):  # the other one ends
            shutil.copytree(done / "bundles" / name, bundles / name)
            shutil.copy(done / "bundles" / f"{name}.json", bundles)
            other.close()

    cells = run_suite(suite, replace(how, listeners=(listen,)))
    assert [cell.kind for cell in cells] == ["teacher", "student"]
    waits = [line for line in told if line.startswith("waiting")]
    assert waits == [f"waiting for {name}, which process {os.getpid()} is making"]
    assert fingerprint(bundles / name) == fingerprint(done / "bundles" / name)
    assert not list(bundles.glob("*.suite"))


def test_the_command_prints_the_stored_table(
    capsys: pytest.CaptureFixture[str], file: Path, done: Path, tmp_path: Path
) -> None:
    page = tmp_path / "table.md"
    words = ["suite", file, "--out", done, "--table", "--only", "praise", "--markdown", page]
    told = said(capsys, *words, "--threads", 1)
    assert told.status == 0
    lines = told.out.splitlines()
    assert lines[0].startswith("task\tmetric\t")
    assert lines[1].startswith("praise\taccuracy\t100\t60\t2\t")
    told_of = dict(zip(lines[0].split("\t"), lines[1].split("\t"), strict=True))
    (row,) = suite_table(file, options(done, only=("praise",))).rows
    assert told_of["spread over seeds"] == f"{row.spread:.4f}"
    gained = row.gain_retained
    shares = f"{gained.value:.1%} ({gained.low:.1%} to {gained.high:.1%})"
    assert told_of["gain retained (95 %)"] == shares
    assert page.read_text().count("\n| praise |") == 1
    answer = said(capsys, *words, "--json").answer
    assert answer["rows"][0]["task"] == "praise"


def test_an_empty_table_says_that_it_is_empty(
    capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path
) -> None:
    told = said(capsys, "suite", file, "--out", tmp_path / "runs", "--table")
    assert told.status == 0
    assert "no task has a teacher and its student yet\npartial: 0 of 9 cells are stored" in told.out


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("name =", "title ="), "there is no 'title'"),
        (('train = "train.jsonl"', 'train = "gone.jsonl"'), "gone.jsonl: no such file of rows"),
        (('name = "blame"', 'name = "praise"'), "two tasks are named 'praise'"),
        (("seeds = [0, 1]", 'seeds = "all"'), "seeds is 'all'"),
        (("layers = 1", "layer = 1"), "there is no setting 'layer'"),
        (("[[task]]", "[[tasks]]"), "there is no task"),
        (("f1:blame", "f1:rage"), "there is no label 'rage'"),
        (("seeds = [3]", "seeds = []"), "seeds is []"),
        (("seeds = [3]", "seeds = [-1]"), "seeds is [-1]"),
        (("seeds = [3]", "seeds = [3, 3]"), "seeds is [3, 3]"),
        (("seeds = [3]", "train_rows = -1"), "train_rows is -1"),
        (("seeds = [3]", 'grades = "two"'), "grades is 'two'; allowed: graded, binary"),
        (("seeds = [3]", 'index = "student"'), "index is 'student'; allowed: own, teacher"),
        (("seeds = [0, 1]", 'control = "no"'), "control is 'no'"),
        (('name = "blame"', 'name = "a/b"'), "a task is named 'a/b'"),
        (('name = "tiny"', "name = "), "not TOML"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(
    change: tuple[str, str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    file: Path,
    tmp_path: Path,
) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(file.read_text().replace(*change))
    told = said(capsys, "suite", wrong, "--data", file.parent, "--out", tmp_path / "runs")
    assert told.status == 2
    assert complaint in told.complaint
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["glue", "shared_data", "classification", "segments"])
def test_the_recipes_that_come_with_potstill_are_sound(name: str) -> None:
    suite = read_suite(REPOSITORY / "recipes" / f"{name}.toml")
    for task in suite.tasks:
        with_settings(FinetuneRecipe(), {**suite.teacher, **task.teacher})
        with_settings(DistillRecipe(), {**suite.student, **task.student})
        assert task.task in KINDS


def test_glue_has_eight_tasks_with_its_own_metrics_and_never_chooses_on_what_it_reports() -> None:
    suite = read_suite(REPOSITORY / "recipes" / "glue.toml")
    metric_of = {task.name: task.primary for task in suite.tasks}
    assert set(metric_of) == {"cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte"}
    assert metric_of["cola"] == "matthews"
    assert metric_of["mrpc"] == "accuracy+f1:equivalent"
    assert metric_of["qqp"] == "accuracy+f1:duplicate"
    assert metric_of["stsb"] == "pearson+spearman"
    for task in suite.tasks:
        assert task.dev is None  # carved from train with the seed
        assert task.train is not None
        assert task.train.endswith(":train")
        assert ":validation" in task.test
    (mnli,) = [task for task in suite.tasks if task.name == "mnli"]
    assert mnli.also_test == mnli.test.replace("_matched", "_mismatched")


def test_two_test_sets_count_as_one_task_each_with_the_same_weight(
    file: Path, tmp_path: Path
) -> None:
    write_rows(tmp_path / "other.jsonl", count=20, seed=9)
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_bytes((file.parent / f"{name}.jsonl").read_bytes())
    suite = tmp_path / "suite.toml"
    suite.write_text(
        f'name = "two"\npretrained = "{file.parent / "model"}"\ncontrol = "none"\n'
        "teacher = { epochs = 2 }\nstudent = { layers = 1, epochs = 2 }\n"
        '[[task]]\nname = "both"\ntrain = "train.jsonl"\ntest = "test.jsonl"\n'
        'also_test = "other.jsonl"\n'
    )
    cells = run_suite(suite, options(tmp_path / "runs"))
    (row,) = suite_table(suite, options(tmp_path / "runs")).rows
    statistics = np.asarray(cells[0].statistics)
    assert statistics.shape == (80, 4)
    expected = [statistics[:60, 0].mean(), statistics[60:, 2].mean()]
    assert row.teacher == pytest.approx(np.mean(expected))
    suite.write_text(suite.read_text() + 'primary = "macro_f1"\n')
    run_suite(suite, options(tmp_path / "runs"))  # sums over rows too
