"""`potstill suite`: each cell once, resumable, partial tables that say so, wrong files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from potstill.errors import Stopped
from potstill.train.progress import Progress
from potstill.workflows.suite import SuiteOptions, run_suite
from potstill.workflows.suite_table import suite_table
from tests.command_line import said, tree_of, write_rows
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


def test_later_seeds_take_the_learning_rates_that_the_first_chose(done: Path) -> None:
    def rates(kind: str, seed: int) -> tuple[float, int]:
        (name,) = [name for name in cells_of(done) if name.startswith(f"praise-{seed}-{kind}")]
        report = json.loads(cells_of(done)[name] or b"")["report"]
        return report["learning_rate"], len(report["learning_rates"])

    for kind in ("student", "control"):
        first, tried = rates(kind, 0)
        assert tried == 2
        assert rates(kind, 1) == (first, 1)


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
    assert page.read_text().count("\n| praise |") == 1
    answer = said(capsys, *words, "--json").answer
    assert answer["rows"][0]["task"] == "praise"


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
