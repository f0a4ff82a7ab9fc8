"""`potstill shrink`: the plan, the bundle with its proof, a kill at every step, wrong inputs."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import potstill
from potstill.data.columns import Columns
from potstill.errors import Stopped
from potstill.train.progress import Progress
from potstill.workflows import shrink as shrink_workflow
from potstill.workflows.shrink import shrink
from potstill.workflows.shrink_recipe import Quantizing, Run, ShrinkInputs, shrink_recipe
from tests.command_line import QUICK, said, tree_of, write_jsonl, write_rows
from tests.folders import write_tiny_model

SETTINGS = {
    "epochs": 12,
    "learning_rate": 1e-2,
    "learning_rates": "1e-2",
    "precision": "fp32",
    "teacher.epochs": 12,
    "teacher.learning_rate": 1e-2,
    "teacher.precision": "fp32",
}
WRITTEN = {"report.html", "report.json", "flips.csv", "README.md", "potstill.json", "config.json"}


@dataclass(frozen=True, slots=True)
class Ground:
    folder: Path

    @property
    def words(self) -> list[object]:
        place = self.folder
        return [
            *("shrink", "--teacher", place / "model", "--train", place / "train.jsonl"),
            *("--dev", place / "dev.jsonl", "--test", place / "test.jsonl"),
        ]

    def inputs(self, **more: object) -> ShrinkInputs:
        place = self.folder
        return ShrinkInputs(
            teacher=place / "model",
            train=str(place / "train.jsonl"),
            dev=str(place / "dev.jsonl"),
            test=str(place / "test.jsonl"),
            **more,
        )


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    folder = tmp_path_factory.mktemp("shrink")
    write_tiny_model(folder / "model")
    write_rows(folder / "train.jsonl", count=120)
    write_rows(folder / "dev.jsonl", count=40, seed=1)
    write_rows(folder / "test.jsonl", count=60, seed=2)
    return Ground(folder)


@pytest.fixture(scope="module")
def shrunk(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shrunk") / "small"
    shrink(ground.inputs(control=True), shrink_recipe(SETTINGS), out=out, run=Run(threads=1))
    return out


def test_the_bundle_holds_the_model_and_its_proof(shrunk: Path) -> None:
    assert {path.name for path in shrunk.iterdir()} >= WRITTEN
    names = {path.name for path in shrunk.parent.iterdir()}
    assert names == {"small", "small-teacher", "small-control"}
    model = potstill.load(shrunk, precision="fp32")
    assert model.predict(["the film great"])[0]["label"] == "praise"
    facts = potstill.info(shrunk)
    assert facts["layers"] == 1
    assert facts["measurements"]["test_rows"] == 60
    told = json.loads((shrunk / "report.json").read_text())
    assert [each["name"] for each in told["models"]] == ["teacher", "student", "control"]
    assert told["distillation"]["layers_kept"] in ([0], [1])
    assert len(told["distillation"]["search"]) == 2
    assert told["models"][1]["retention"]["value"] > 0.8
    card = (shrunk / "README.md").read_text()
    assert "retention" in card


def test_a_poisoned_test_file_changes_nothing_but_the_report(
    shrunk: Path, ground: Ground, tmp_path: Path
) -> None:
    poisoned = [
        {**row, "label": "blame" if row["label"] == "praise" else "praise"}
        for row in map(json.loads, (ground.folder / "test.jsonl").read_text().splitlines())
    ]
    inputs = ShrinkInputs(
        teacher=ground.folder / "model",
        train=str(ground.folder / "train.jsonl"),
        dev=str(ground.folder / "dev.jsonl"),
        test=poisoned,
        control=True,
    )
    out = tmp_path / "small"
    report = shrink(inputs, shrink_recipe(SETTINGS), out=out, run=Run(threads=1))
    assert report.fingerprint == potstill.info(shrunk)["fingerprint"]
    assert report.metrics["accuracy"].value < 0.5


@pytest.mark.parametrize(
    "where", ["teacher", "layer search", "student at", "control at", "compare"]
)
def test_a_stop_at_any_step_goes_on_to_the_same_bundle(
    where: str, shrunk: Path, ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop_there(progress: Progress) -> None:
        if where in progress.run:
            raise Stopped("stopped by the test")

    def no_compare(*arguments: object, **options: object) -> None:
        raise Stopped("stopped by the test")

    out = tmp_path / "small"
    inputs, recipe = ground.inputs(control=True), shrink_recipe(SETTINGS)
    if where == "compare":
        monkeypatch.setattr(shrink_workflow, "compare", no_compare)
    with pytest.raises(Stopped):
        shrink(inputs, recipe, out=out, run=Run(threads=1, listeners=(stop_there,)))
    monkeypatch.undo()
    assert not out.exists()
    report = shrink(inputs, recipe, out=out, run=Run(threads=1))
    assert report.fingerprint == potstill.info(shrunk)["fingerprint"]
    assert {path.name for path in tmp_path.iterdir()} == {
        "small",
        "small-teacher",
        "small-control",
    }


def test_an_unfinished_run_of_other_settings_is_not_touched(ground: Ground, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        raise Stopped("stopped by the test")

    out = tmp_path / "small"
    with pytest.raises(Stopped):
        shrink(
            ground.inputs(), shrink_recipe(SETTINGS), out=out, run=Run(threads=1, listeners=(stop,))
        )
    before = tree_of(tmp_path)
    with pytest.raises(potstill.PotstillError, match="an unfinished run with other settings"):
        shrink(ground.inputs(), shrink_recipe({**SETTINGS, "seed": 1}), out=out, run=Run())
    assert tree_of(tmp_path) == before


def test_the_plan_alone_writes_nothing(
    capsys: pytest.CaptureFixture[str], ground: Ground, tmp_path: Path
) -> None:
    told = said(capsys, *ground.words, "--out", tmp_path / "small", "--control", "--plan")
    assert told.status == 0
    lines = told.out.splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("tune the teacher")
    assert "search which 1 of 2 layers" in lines[1]
    assert list(tmp_path.iterdir()) == []


def test_a_floor_that_is_not_met_ends_with_status_3_and_keeps_the_bundle(
    capsys: pytest.CaptureFixture[str], ground: Ground, shrunk: Path, tmp_path: Path
) -> None:
    teacher = shrunk.with_name("small-teacher")
    words = [*ground.words, "--out", tmp_path / "small", "--floor", "1.5", "--epochs", "1", *QUICK]
    words[words.index("--teacher") + 1] = teacher
    told = said(capsys, *words, "--json")
    assert told.status == 3
    assert "floor 150.0%" in told.err
    answer = json.loads(told.out)
    assert answer["gate"]["outcome"] == "fails"
    assert answer["bundle"] == str(tmp_path / "small")
    assert (tmp_path / "small" / "model.safetensors").is_file()
    assert not (tmp_path / "small-teacher").exists()


def test_test_rows_that_were_trained_on_are_told_everywhere(
    ground: Ground, shrunk: Path, tmp_path: Path
) -> None:
    train, out = str(ground.folder / "train.jsonl"), tmp_path / "small"
    inputs = replace(ground.inputs(), teacher=shrunk.with_name("small-teacher"), test=train)
    recipe = shrink_recipe({**SETTINGS, "epochs": 1, "keep": "0"})
    report = shrink(inputs, recipe, out=out, run=Run(threads=1))
    told = "120 of 120 test rows (100.0%) stand in the training rows, 0 of them with another label"
    assert any(warning.startswith(told) for warning in report.warnings)
    assert told in (out / "report.html").read_text()
    assert json.loads((out / "report.json").read_text())["test"]["seen_in"]["training"] == 120
    assert "test_rows_in_training_rows: 120" in (out / "README.md").read_text()


def test_the_page_says_how_to_repeat_it_and_no_place_of_the_disk(
    capsys: pytest.CaptureFixture[str],
    ground: Ground,
    shrunk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The command itself is run where its files are, and finds the same."""
    for name, renamed in {"train": "train", "dev": "dev", "test": "my test"}.items():
        lines = (ground.folder / f"{name}.jsonl").read_text().splitlines()
        rows = ({"body": row["text"], "class": row["label"]} for row in map(json.loads, lines))
        write_jsonl(tmp_path / f"{renamed}.jsonl", *rows)
    teacher = shutil.copytree(shrunk.with_name("small-teacher"), tmp_path / "teacher")
    out = tmp_path / "small one"
    words = ["shrink", "--teacher", teacher, "--out", out, "--test", tmp_path / "my test.jsonl"]
    words += ["--train", tmp_path / "train.jsonl", "--dev", tmp_path / "dev.jsonl"]
    words += ["--text-column", "body", "--label-column", "class", "--primary", "macro_f1"]
    told = said(capsys, *words, "--epochs", "1", "--keep", "0", *QUICK, "--json")
    assert told.status == 0, told.err
    report = (out / "report.json").read_text()
    for text in (report, (out / "report.html").read_text(), (out / "README.md").read_text()):
        assert str(tmp_path) not in text
    found = json.loads(report)
    assert found["command"] == (
        "potstill compare teacher 'small one' --test 'my test.jsonl' --primary macro_f1 "
        "--text-column body --label-column class --threads 1"
    )
    monkeypatch.chdir(tmp_path)
    again = said(capsys, *shlex.split(found["command"])[1:], "--rounds", "1", "--json").answer
    assert again["primary"] == "macro_f1"
    for mine, theirs in zip(again["models"], found["models"], strict=True):
        assert mine["metrics"] == theirs["metrics"]
        assert mine["retention"] == theirs["retention"]


def test_wrong_inputs_are_told_in_one_line_before_any_work(
    capsys: pytest.CaptureFixture[str], ground: Ground, tmp_path: Path
) -> None:
    def complaint(*more: object, **changed: object) -> str:
        words = [*ground.words, "--out", tmp_path / "small", *more]
        for name, value in changed.items():
            words[words.index(f"--{name}") + 1] = value
        told = said(capsys, *words)
        assert told.status == 2
        assert list(tmp_path.iterdir()) == []
        return told.complaint

    strange = ground.folder / "strange.jsonl"
    strange.write_text('{"text": "a film", "label": "neither"}\n')
    assert "strange.jsonl, line 1, field 'label'" in complaint(test=strange)
    assert "a student of 3 layers cannot be cut out of 2" in complaint("--layers", 3)
    assert "there is no setting 'epoch'" in complaint("--set", "epoch=1")
    assert "there is no setting 'epoch'" in complaint("--set", "teacher.epoch=1")
    assert "no such folder" in complaint(teacher=tmp_path / "nothing")
    assert "floor is 0" in complaint("--floor", "0")
    assert "primary is 'beauty'" in complaint("--primary", "beauty")


def test_a_tuned_teacher_needs_its_origin_for_a_control(
    capsys: pytest.CaptureFixture[str], ground: Ground, shrunk: Path, tmp_path: Path
) -> None:
    words = [*ground.words, "--out", tmp_path / "small", "--control"]
    words[words.index("--teacher") + 1] = shrunk.with_name("small-teacher")
    told = said(capsys, *words)
    assert told.status == 2
    assert "--pretrained" in told.complaint


@pytest.fixture
def key(ground: Ground, shrunk: Path, tmp_path: Path) -> Callable[..., str]:
    """Return how the identity of a run is found."""

    def found(**more: object) -> str:
        inputs = replace(ground.inputs(), teacher=shrunk.with_name("small-teacher"), **more)
        recipe, out = shrink_recipe(SETTINGS), tmp_path / "small"
        return shrink_workflow._Shrinking(inputs, recipe, out, Run()).key

    return found


def test_other_columns_or_another_origin_are_another_run(
    key: Callable[..., str], ground: Ground, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "other", initializer_range=0.1)
    keys = [
        key(),
        key(columns=Columns(text_pair="label")),
        key(control=True, pretrained=ground.folder / "model"),
        key(control=True, pretrained=tmp_path / "other"),
    ]
    assert len(set(keys)) == len(keys)
    assert key(pretrained=tmp_path / "other") == keys[0]  # nobody reads it without a control


def test_the_same_rows_in_another_role_are_another_run(
    key: Callable[..., str], ground: Ground
) -> None:
    rows, train = (str(ground.folder / f"{name}.jsonl") for name in ("dev", "train"))
    keys = [
        key(dev=rows),
        key(dev=None, unlabelled=rows),
        key(dev=None),
        key(dev=train, train=rows),
    ]
    assert len(set(keys)) == len(keys)
    assert key(dev=[json.loads(line) for line in Path(rows).read_text().splitlines()]) == keys[0]


def test_what_an_undecided_gate_may_do_is_part_of_a_run_with_a_quantized_copy(
    key: Callable[..., str],
) -> None:
    copy = Quantizing(precision="bf16")
    assert key(quantize=copy) != key(quantize=copy, accept="point")
    assert key(accept="point") == key()  # of the student it is asked when all is written


def test_empty_folders_in_the_places_of_teacher_and_control_are_filled(
    ground: Ground, tmp_path: Path
) -> None:
    for name in ("small-teacher", "small-control"):
        (tmp_path / name).mkdir()
    recipe = shrink_recipe({**SETTINGS, "epochs": 1, "teacher.epochs": 1})
    shrink(ground.inputs(control=True), recipe, out=tmp_path / "small", run=Run(threads=1))
    for name in ("small-teacher", "small-control"):
        assert (tmp_path / name / "potstill.json").is_file()


def test_places_of_a_stranger_are_never_taken(
    capsys: pytest.CaptureFixture[str], ground: Ground, tmp_path: Path
) -> None:
    foreign = tmp_path / "small-teacher"
    foreign.mkdir()
    (foreign / "mine.txt").write_text("mine")
    told = said(capsys, *ground.words, "--out", tmp_path / "small")
    assert told.status == 2
    assert "small-teacher" in told.complaint
    assert (foreign / "mine.txt").read_text() == "mine"
