"""`potstill shrink --quantize`: the quantized student, its gate, a kill, a missing extra."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import potstill
from potstill.errors import MissingExtraError, RecipeError, Stopped
from potstill.workflows import quantized_student as step
from potstill.workflows import shrink as shrink_workflow
from potstill.workflows.shrink import plan_shrink, shrink
from potstill.workflows.shrink_recipe import (
    FLOORS,
    Quantizing,
    Run,
    ShrinkInputs,
    quantizing,
    shrink_recipe,
)
from tests.command_line import said, tree_of, write_jsonl, write_rows
from tests.folders import write_tiny_model

pytest.importorskip("nncf", reason="pip install 'potstill[quantize]'")

SETTINGS = {
    "layers": 1,
    "keep": "0",
    "epochs": 12,
    "learning_rate": 1e-2,
    "learning_rates": "1e-2",
    "precision": "fp32",
}
QUANTIZED = "quantized student"


@dataclass(frozen=True, slots=True)
class Ground:
    folder: Path

    @property
    def words(self) -> list[object]:
        place = self.folder
        sets = [("--set", f"{name}={value}") for name, value in SETTINGS.items()]
        return [
            *("shrink", "--teacher", place / "teacher", "--train", place / "train.jsonl"),
            *("--dev", place / "dev.jsonl", "--test", place / "test.jsonl", "--threads", "1"),
            *(word for pair in sets for word in pair),
        ]

    def inputs(self, **more: object) -> ShrinkInputs:
        place = self.folder
        named = {name: str(place / f"{name}.jsonl") for name in ("train", "dev", "test")}
        return ShrinkInputs(**{"teacher": place / "teacher"} | named | more)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """Return rows and a teacher that answers them."""
    folder = tmp_path_factory.mktemp("shrink")
    write_tiny_model(folder / "model")
    write_rows(folder / "train.jsonl", count=120)
    write_rows(folder / "dev.jsonl", count=40, seed=1)
    write_rows(folder / "test.jsonl", count=60, seed=2)
    rows = {"dev": str(folder / "dev.jsonl"), "epochs": 12, "learning_rate": 1e-2}
    potstill.finetune(
        *(folder / "model", folder / "train.jsonl", folder / "teacher"), threads=1, **rows
    )
    return Ground(folder)


@pytest.fixture(scope="module")
def shrunk(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shrunk") / "small"
    asked = Quantizing(precision="int8", floor=0.5)
    recipe = shrink_recipe(SETTINGS)
    shrink(ground.inputs(quantize=asked, floor=0.5), recipe, out=out, run=Run(threads=1))
    return out


def test_the_quantized_student_stands_beside_it_with_its_proof(shrunk: Path) -> None:
    assert {path.name for path in shrunk.parent.iterdir()} == {"small", "small-int8"}
    small = shrunk.with_name("small-int8")
    assert not list(small.glob("*.safetensors"))
    model = potstill.load(small, threads=1)
    assert (model.engine.name, model.engine.precision) == ("openvino", "int8")
    assert model.predict(["the film great"])[0]["label"] == "praise"
    facts = potstill.info(small)
    assert facts["lineage"]["quantized_from"] == potstill.info(shrunk)["fingerprint"]
    assert facts["measurements"]["test_rows"] == 60
    assert facts["measurements"]["gate"].startswith("the gate holds")
    card = (small / "README.md").read_text()
    assert "quantized graph" in card
    assert "- retention: " in card


def test_its_row_and_its_gate_stand_in_the_report(shrunk: Path) -> None:
    told = json.loads((shrunk / "report.json").read_text())
    assert [model["name"] for model in told["models"]] == ["teacher", "student", QUANTIZED]
    row = told["models"][2]
    assert row["precision"] == "int8"
    assert row["retention"]["low"] <= row["retention"]["value"] <= row["retention"]["high"]
    assert row["retention"]["value"] > 0.8
    assert row["fingerprint"] == potstill.info(shrunk.with_name("small-int8"))["fingerprint"]
    found = told["quantization"]
    assert found["gate"]["outcome"] == "holds"
    assert (found["gate"]["floor"], found["gate"]["rows"]) == (0.5, 40)  # dev rows
    assert found["gate_on_test"]["rows"] == 60
    assert found["bundle"] == "small-int8"
    assert told["command"].startswith("potstill compare teacher small small-int8 --test test.jsonl")
    assert QUANTIZED in (shrunk / "report.html").read_text()


def test_a_gate_that_refuses_is_status_3_and_the_student_stays(
    capsys: pytest.CaptureFixture[str],
    ground: Ground,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*arguments: object) -> None:
        refusal = potstill.errors.GateNotMet("the gate fails, floor 99.0%", where="int8")
        refusal.evidence = {"tried": [{"kept": [], "gate": None}]}
        raise refusal

    monkeypatch.setattr(step, "quantize", refuse)
    out = tmp_path / "small"
    told = said(capsys, *ground.words, "--out", out, "--quantize", "int8", "--json")
    assert told.status == 3
    last = told.err.splitlines()[-1]
    assert "no quantized student: int8: the gate fails, floor 99.0%" in last
    assert "--precision int8 --calibration TRAIN --dev DEV --floor FLOOR" in last
    assert "the student stays" in last
    answer = json.loads(told.out)
    assert answer["quantized"]["refusal"] == "int8: the gate fails, floor 99.0%"
    assert answer["quantized"]["bundle"] is None
    assert answer["quantized"]["tried"] == [{"kept": [], "gate": None}]
    assert {path.name for path in tmp_path.iterdir()} == {"small"}
    assert potstill.load(out).predict(["the film great"])[0]["label"] == "praise"
    report = json.loads((out / "report.json").read_text())
    assert [model["name"] for model in report["models"]] == ["teacher", "student"]
    assert report["quantization"]["refusal"] is not None


def test_a_teacher_that_does_not_beat_the_trivial_answer_is_status_3_for_both(
    capsys: pytest.CaptureFixture[str], ground: Ground, tmp_path: Path
) -> None:
    lines = (ground.folder / "test.jsonl").read_text().splitlines()
    praise = [row for row in map(json.loads, lines) if row["label"] == "praise"]
    copy = ["--quantize", "bf16", "--quantize-floor", "0.8"]
    words = [*ground.words, "--out", tmp_path / "small", *copy]
    words[words.index("--test") + 1] = write_jsonl(tmp_path / "praise.jsonl", *praise)
    told = said(capsys, *words, "--floor", "0.5", "--json")
    assert told.status == 3
    last = told.err.splitlines()[-1]
    assert "small: the gate is undecided, floor 50.0%: no retention can be told" in last
    assert "on which the teacher beats the trivial answer" in last
    answer = json.loads(told.out)
    for gate in (answer["gate"], answer["quantized"]["gate_on_test"]):
        assert (gate["outcome"], gate["value"], gate["rows"]) == ("undecided", None, 30)
    for name in ("small", "small-bf16"):
        card = (tmp_path / name / "README.md").read_text()
        assert "the gate is undecided" in card


def test_a_real_floor_is_judged_against_the_student_on_dev_rows(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def remember(student: Path, made: Path, options: object, tell: object) -> None:
        asked.append(options)
        raise potstill.errors.GateNotMet("enough seen")

    monkeypatch.setattr(step, "quantize", remember)
    inputs = ground.inputs(quantize=Quantizing(precision="int4"), dev=None, accept="point")
    shrink(inputs, shrink_recipe(SETTINGS), out=tmp_path / "small", run=Run(threads=1))
    (options,) = asked
    assert (options.floor, options.accept, options.test) == (FLOORS["int4"], "point", None)
    calibration, dev = (set(rows.column("text")) for rows in (options.calibration, options.dev))
    assert len(options.dev) == 12  # a tenth of the training rows, as the student had them
    assert not calibration & dev


@pytest.mark.parametrize("where", ["compare", "render_page"])  # before and after the copy is kept
def test_what_is_quantized_is_not_quantized_again(
    where: str, ground: Ground, shrunk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise Stopped("stopped by the test")

    def never(*arguments: object) -> None:
        raise AssertionError("it is done already")

    asked = Quantizing(precision="int8", floor=0.5)
    inputs, recipe = ground.inputs(quantize=asked, floor=0.5), shrink_recipe(SETTINGS)
    out = tmp_path / "small"
    with monkeypatch.context() as patch:
        patch.setattr(shrink_workflow, where, stop)
        with pytest.raises(Stopped):
            shrink(inputs, recipe, out=out, run=Run(threads=1))
    assert (tmp_path / "small-int8").exists() == (where == "render_page")
    assert not out.exists()
    with monkeypatch.context() as patch:
        patch.setattr(step, "quantize", never)
        report = shrink(inputs, recipe, out=out, run=Run(threads=1))
    assert report.fingerprint == potstill.info(shrunk)["fingerprint"]
    assert report.details["quantized"]["gate"]["outcome"] == "holds"
    assert {path.name for path in tmp_path.iterdir()} == {"small", "small-int8"}


def test_a_kill_in_the_middle_of_quantizing_leaves_nothing_behind(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(student: Path, made: Path, options: object, tell: object) -> None:
        (made / "openvino").mkdir(parents=True)  # as a kill between two renames could leave it
        raise Stopped("stopped by the test")

    inputs = ground.inputs(quantize=Quantizing(precision="int8-weights", floor=0.5))
    recipe, out = shrink_recipe(SETTINGS), tmp_path / "small"
    with monkeypatch.context() as patch:
        patch.setattr(step, "quantize", die)
        with pytest.raises(Stopped):
            shrink(inputs, recipe, out=out, run=Run(threads=1))
    shrink(inputs, recipe, out=out, run=Run(threads=1))
    assert {path.name for path in tmp_path.iterdir()} == {"small", "small-int8-weights"}
    assert potstill.load(tmp_path / "small-int8-weights").engine.precision == "int8-weights"


@pytest.mark.parametrize("package", ["nncf", "openvino"])
def test_a_missing_extra_is_told_before_anything_is_trained(
    package: str, ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    inputs = ground.inputs(quantize=Quantizing(precision="int8"))
    with pytest.raises(MissingExtraError, match=r"--quantize.*pip install 'potstill\[quantize\]'"):
        shrink(inputs, shrink_recipe(SETTINGS), out=tmp_path / "small", run=Run())
    assert list(tmp_path.iterdir()) == []


def test_a_copy_in_bf16_needs_no_extra_and_is_a_plain_folder(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    asked = Quantizing(precision="bf16", floor=0.8)  # 40 rows hold no more, whatever they say
    inputs, out = ground.inputs(quantize=asked), tmp_path / "small"
    report = shrink(inputs, shrink_recipe(SETTINGS), out=out, run=Run(threads=1))
    assert report.details["quantized"]["gate"]["outcome"] == "holds"
    told = potstill.info(tmp_path / "small-bf16")
    assert told["dtypes"] == ["BF16"]
    assert told["measurements"]["test_rows"] == 60
    assert "transformers." in (tmp_path / "small-bf16" / "README.md").read_text()


def test_the_plan_names_step_extra_and_floor(ground: Ground, tmp_path: Path) -> None:
    recipe = shrink_recipe(SETTINGS)

    def steps(**more: object) -> list[str]:
        return list(plan_shrink(ground.inputs(**more), recipe, out=tmp_path / "small").steps)

    plain = steps()
    full = steps(quantize=Quantizing(precision="int4"), tune=True)
    first, second = (line for line in full if line not in plain)
    assert "int4 (potstill[quantize]), if it keeps 98.0% on dev rows" in first
    assert "store the fastest" in second
    assert full[-2].startswith("compare")
    (line,) = set(steps(quantize=Quantizing(precision="bf16", floor=0.9))) - set(plain)
    assert (
        line
        == "quantize the student to bf16, if it keeps 90.0% on dev rows beside the student in fp32"
    )


def test_vectors_without_pairs_are_quantized_without_a_gate(ground: Ground, tmp_path: Path) -> None:
    lines = (ground.folder / "test.jsonl").read_text().splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    pairs = [
        {"text": one, "text_pair": other, "label": number / 60}
        for number, (one, other) in enumerate(zip(texts, reversed(texts), strict=True))
    ]
    inputs = ground.inputs(
        teacher=write_tiny_model(tmp_path / "vectors", "none", task="embedding"),
        task="embedding",
        test=str(write_jsonl(tmp_path / "pairs.jsonl", *pairs)),
        quantize=Quantizing(precision="int8"),
    )
    recipe, out = shrink_recipe({**SETTINGS, "epochs": 2}), tmp_path / "small"
    steps = plan_shrink(inputs, recipe, out=out).steps
    assert any("without a gate: of vectors --dev must have pairs" in step for step in steps)
    report = shrink(inputs, recipe, out=out, run=Run(threads=1))
    assert report.details["quantized"]["gate"] is None
    assert any("passed no gate" in warning for warning in report.warnings)
    exact, rough = (
        potstill.load(folder, threads=1).embed(texts) for folder in (out, f"{out}-int8")
    )
    norms = np.linalg.norm(exact, axis=1) * np.linalg.norm(rough, axis=1)
    assert ((exact * rough).sum(axis=1) / norms).min() > 0.98


def test_the_fastest_engine_is_stored_where_it_is_asked_for(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shrink_workflow, "_TUNED_ON", 4)
    out = tmp_path / "small"
    asked = Quantizing(precision="int8-weights", floor=0.5)
    inputs = ground.inputs(tune=True, quantize=asked)
    shrink(inputs, shrink_recipe(SETTINGS), out=out, run=Run(threads=1))
    choice = potstill.info(out)["engine"]
    assert choice["name"] in {"openvino", "onnx", "torch"}
    models = json.loads((out / "report.json").read_text())["models"]
    assert (models[1]["engine"], models[1]["precision"]) == (choice["name"], choice["precision"])
    of_copy = potstill.info(tmp_path / "small-int8-weights")["engine"]
    assert (of_copy["name"], of_copy["precision"]) == ("openvino", "int8-weights")
    assert of_copy["tried"]


def test_wrong_settings_are_told_in_one_line(
    capsys: pytest.CaptureFixture[str], ground: Ground, tmp_path: Path
) -> None:
    def complaint(*more: object) -> str:
        told = said(capsys, *ground.words, "--out", tmp_path / "small", *more)
        assert told.status == 2
        return told.complaint

    assert "quantize is 'int3'; allowed: int8, int8-weights, int4, bf16" in complaint(
        "--quantize", "int3"
    )
    floor = ("--quantize", "int8", "--quantize-floor", "97")
    assert "quantize_floor is 97" in complaint(*floor)
    assert "add --quantize int8" in complaint("--quantize-floor", "0.9")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "small-int8").mkdir()
    (tmp_path / "small-int8" / "mine.txt").write_text("mine")
    before = tree_of(tmp_path)
    assert "small-int8: the output folder is not empty" in complaint("--quantize", "int8")
    assert tree_of(tmp_path) == before


def test_none_is_no_copy() -> None:
    assert quantizing("none", None) is None
    assert quantizing(None, None) is None
    with pytest.raises(RecipeError, match="quantize is 'int5'"):
        quantizing("int5", None)
