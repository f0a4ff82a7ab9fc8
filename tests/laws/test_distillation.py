"""Stopped = uninterrupted; stored = live; a control is its student's equal but for the teacher."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import potstill
from potstill.bundle.manifest import fingerprint
from potstill.bundle.opening import open_model
from potstill.bundle.weights import WEIGHTS_FILE
from potstill.distillation.student import cut_student, student_config
from potstill.errors import Diverged, RecipeError, Stopped
from potstill.models.loading import load_task_model, load_with_new_head, tensors_of
from potstill.recipe import TrainingRecipe
from potstill.report import Report
from potstill.train import loop
from potstill.train.progress import Listener, Meter, Progress
from potstill.workflows import control as control_workflow
from potstill.workflows import student_run
from potstill.workflows.distill import DistillInputs, control_folder, distill
from potstill.workflows.distill_recipe import DistillRecipe
from tests.command_line import write_jsonl, write_rows
from tests.distilling import write_encoder, write_teacher

QUICK = DistillRecipe(
    epochs=2.0,
    learning_rates="1e-3,3e-3",
    rows_per_step=16,
    precision="fp32",
    choose="search",
    seed=3,
)
KEPT = replace(QUICK, checkpoint_every_s=0)  # a checkpoint at every step


@dataclass(frozen=True, slots=True)
class Ground:
    """Models and rows that no test changes."""

    path: Path

    @property
    def teacher(self) -> Path:
        return self.path / "teacher"

    @property
    def second(self) -> Path:
        return self.path / "second"

    @property
    def encoder(self) -> Path:
        return self.path / "encoder"

    @property
    def rows(self) -> Path:
        return self.path / "train.jsonl"

    @property
    def dev(self) -> Path:
        return self.path / "dev.jsonl"

    @property
    def texts(self) -> Path:
        return self.path / "texts.jsonl"

    @property
    def inputs(self) -> DistillInputs:
        return DistillInputs(
            teachers=[self.teacher],
            train=self.rows,
            dev=self.dev,
            control="pretrained",
            pretrained=self.encoder,
        )


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    folder = tmp_path_factory.mktemp("distillation")
    write_teacher(folder / "teacher")
    write_teacher(folder / "second", seed=8)
    write_encoder(folder / "encoder")
    write_rows(folder / "train.jsonl", count=60)
    write_rows(folder / "dev.jsonl", count=20, seed=1)
    write_rows(folder / "texts.jsonl", count=40, seed=2)
    return Ground(folder)


@pytest.fixture(autouse=True)
def _every_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Meter, "is_due", property(lambda meter: True))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@dataclass(slots=True)
class Told:
    """Keeps all that was told, and stops the work where it is asked to."""

    stop_at: tuple[str, int] = ("", 0)  # the training and its step
    how: Callable[[], None] | None = None
    moments: list[Progress] = field(default_factory=list)

    def __call__(self, progress: Progress) -> None:
        self.moments.append(progress)
        if (progress.run, progress.step) == self.stop_at:
            if self.how is not None:
                self.how()
            raise KeyboardInterrupt

    def steps_of(self, run: str) -> list[int]:
        return [moment.step for moment in self.moments if moment.run == run]


def run(
    inputs: DistillInputs, out: Path, recipe: DistillRecipe = QUICK, *listeners: Listener
) -> Report:
    return distill(inputs, recipe, out=out, device="cpu", threads=1, listeners=listeners)


def both_fingerprints(out: Path) -> tuple[str, str]:
    return fingerprint(out), fingerprint(control_folder(out))


def weights(bundle: Path) -> dict[str, np.ndarray]:
    return load_file(bundle / WEIGHTS_FILE)


@pytest.fixture(scope="module")
def whole(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Return the fingerprints of student and control of an uninterrupted run."""
    out = tmp_path_factory.mktemp("whole") / "out"
    run(ground.inputs, out, KEPT)
    assert sorted(path.name for path in out.parent.iterdir()) == ["out", "out-control"]
    return both_fingerprints(out)


STOPS = [
    ("layer search", 60),
    ("teacher's signals", 60),
    ("student at 0.001", 3),
    ("student at 0.001", 8),
    ("student at 0.003", 1),
    ("control at 0.001", 5),
    ("control at 0.003", 8),
]


@pytest.mark.parametrize(("run_name", "step"), STOPS)
def test_stopped_anywhere_the_same_call_gives_the_same_bundles(
    ground: Ground, whole: tuple[str, str], tmp_path: Path, run_name: str, step: int
) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(ground.inputs, out, KEPT, Told(stop_at=(run_name, step)))
    is_nothing_kept = run_name == "layer search"  # it is done anew: its empty folder goes too
    assert [path.name for path in tmp_path.iterdir()] == ([] if is_nothing_kept else ["out.run"])
    again = Told()
    run(ground.inputs, out, KEPT, again)
    assert both_fingerprints(out) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out-control"]
    if run_name.startswith("control"):
        assert not again.steps_of("student at 0.001")
        assert not again.steps_of("layer search")
        assert again.steps_of(run_name)[:1] in ([step], [])


def test_stopped_at_all_points_one_after_another_it_still_ends_the_same(
    ground: Ground, whole: tuple[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for point in STOPS:
        with pytest.raises(KeyboardInterrupt):
            run(ground.inputs, out, KEPT, Told(stop_at=point))
    run(ground.inputs, out, KEPT)
    assert both_fingerprints(out) == whole


def test_a_signal_stops_it_with_the_step_kept(
    ground: Ground, whole: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StopAtOnce(loop.StopRequest):
        def __init__(self) -> None:
            super().__init__()
            self.is_made = True

    with monkeypatch.context() as patched:
        patched.setattr(loop, "StopRequest", StopAtOnce)
        with pytest.raises(Stopped, match=r"stopped after step 1 of 8.*repeat the command"):
            run(ground.inputs, tmp_path / "out", KEPT)
    told = Told()
    run(ground.inputs, tmp_path / "out", KEPT, told)
    assert told.steps_of("student at 0.001")[0] == 2
    assert both_fingerprints(tmp_path / "out") == whole


def test_another_start_of_the_control_does_not_resume_the_first(
    ground: Ground, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(ground.inputs, out, KEPT, Told(stop_at=("control at 0.001", 3)))
    other = write_encoder(tmp_path / "other", seed=12)
    with pytest.raises(RecipeError, match="other settings, model or data"):
        run(replace(ground.inputs, pretrained=other), out, KEPT)


def test_other_settings_do_not_resume_a_run(ground: Ground, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(ground.inputs, out, KEPT, Told(stop_at=("student at 0.001", 3)))
    with pytest.raises(RecipeError, match="other settings, model or data"):
        run(ground.inputs, out, replace(KEPT, temperature=4.0))


def test_a_folder_that_is_filled_meanwhile_is_not_touched(ground: Ground, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def fill() -> None:
        out.mkdir()
        (out / "precious.txt").write_text("kept")

    with pytest.raises(KeyboardInterrupt):
        run(ground.inputs, out, KEPT, Told(stop_at=("student at 0.001", 8), how=fill))
    assert [path.name for path in out.iterdir()] == ["precious.txt"]


def steady(names: Iterable[str]) -> list[str]:
    """Leave out biases of keys: softmax cancels them, so AdamW scales up pure rounding there."""
    return [name for name in names if not name.endswith(("key.bias", "k_lin.bias"))]


TERMS = replace(
    QUICK,
    learning_rates="",
    learning_rate=1e-3,
    choose="even",
    hidden_cosine=0.3,
    hidden_mse=0.2,
    relations=0.5,
)


@pytest.mark.parametrize("architecture", ["teacher", "distilbert"])
def test_signals_from_disk_train_the_weights_that_live_ones_do(
    ground: Ground, tmp_path: Path, architecture: str
) -> None:
    inputs = DistillInputs(teachers=[ground.teacher, ground.second], train=ground.rows)
    recipe = replace(TERMS, architecture=architecture)
    stored = run(inputs, tmp_path / "stored", recipe)
    live = run(inputs, tmp_path / "live", replace(recipe, signals="live"))
    assert stored.steps == live.steps == 2 * 4
    ours, theirs = weights(stored.bundle), weights(live.bundle)
    assert set(ours) == set(theirs)
    for name in steady(ours):
        np.testing.assert_allclose(theirs[name], ours[name], atol=1e-5, err_msg=name)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(
    ground: Ground, tmp_path: Path
) -> None:
    inputs = DistillInputs(teachers=[ground.teacher], train=ground.rows, dev=ground.dev)
    first, second, other = (
        run(inputs, tmp_path / f"out-{index}", replace(TERMS, seed=seed)).fingerprint
        for index, seed in enumerate((3, 3, 4))
    )
    assert first == second
    assert first != other


def test_the_best_rate_on_dev_is_kept(ground: Ground, tmp_path: Path) -> None:
    inputs = DistillInputs(teachers=[ground.teacher], unlabelled=ground.rows, dev=ground.dev)
    recipe = replace(QUICK, choose="even", learning_rates="1e-7,5e-3,1e-3", epochs=4.0)
    details = run(inputs, tmp_path / "out", recipe).details
    tried = {each["learning_rate"]: each["dev"] for each in details["learning_rates"]}
    assert list(tried) == [1e-7, 5e-3, 1e-3]
    assert len(set(tried.values())) > 1
    best = max(tried.values())
    assert details["learning_rate"] == next(rate for rate, dev in tried.items() if dev == best)
    lineage = json.loads((tmp_path / "out" / "potstill.json").read_bytes())["lineage"]
    assert lineage["learning_rate"] == details["learning_rate"]


def test_a_rate_that_diverges_is_passed_over_unless_all_do(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = student_run.train

    def train(model: Any, objective: Any, recipe: Any, **more: Any) -> Any:
        if recipe.learning_rate > 0.5:
            raise Diverged("the gradient is not finite at step 3", cure="lower --learning-rate")
        return trained(model, objective, recipe, **more)

    monkeypatch.setattr(student_run, "train", train)
    inputs = DistillInputs(teachers=[ground.teacher], train=ground.rows, dev=ground.dev)
    recipe = replace(QUICK, choose="even", learning_rates="0.9,5e-3,0.8")
    report = run(inputs, tmp_path / "out", recipe)
    lost, kept, _ = report.details["learning_rates"]
    fault = "the gradient is not finite at step 3"
    assert lost == {"learning_rate": 0.9, "dev": None, "fault": fault}
    assert report.metrics["accuracy"].value == kept["dev"]
    assert report.details["learning_rate"] == kept["learning_rate"] == 5e-3
    told = [f"learning rate {rate:g}: {fault}" for rate in (0.9, 0.8)]
    assert [line for line in report.warnings if fault in line] == told
    with pytest.raises(Diverged, match="not finite at step 3; to mend it: lower --learning-rate"):
        run(inputs, tmp_path / "none", replace(recipe, learning_rates="0.9,0.8"))
    assert not (tmp_path / "none").exists()


@dataclass(slots=True)
class Begun:
    """What each training began with."""

    first_weights: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    recipes: dict[str, TrainingRecipe] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Begun:
    """Note models, settings and rows of the trainings that follow."""
    noted = Begun()
    real = student_run._train_once

    def note(run: Any, name: str, model: Any, objective_of: Any, recipe: Any, dev: Any) -> Any:
        noted.first_weights[name] = tensors_of(model)
        noted.recipes[name] = recipe
        noted.rows[name] = len(objective_of(run.data.rows).lengths)
        return real(run, name, model, objective_of, recipe, dev)

    monkeypatch.setattr(student_run, "_train_once", note)
    return noted


def equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> list[str]:
    """Return the names under which both hold the same bits."""
    assert set(one) == set(other)
    return [name for name in one if np.array_equal(one[name], other[name])]


@pytest.mark.parametrize("has_texts", [False, True])
def test_a_control_has_the_students_steps_rates_and_shape(
    ground: Ground, tmp_path: Path, begun: Begun, *, has_texts: bool
) -> None:
    inputs = replace(ground.inputs, unlabelled=ground.texts if has_texts else None)
    recipe = replace(QUICK, choose="even", epochs=3.0)
    report = run(inputs, tmp_path / "out", recipe)
    control = report.details["control"]
    rows = 60 + (40 if has_texts else 0)
    assert begun.rows["student at 0.001"] == rows
    assert begun.rows["control at 0.001"] == 60
    assert control["steps"] == report.steps == 3 * -(-rows // 16)
    rates = [0.001, 0.003]
    for told in (report.to_json(), control):
        assert [each["learning_rate"] for each in told["learning_rates"]] == rates
    student, other = weights(tmp_path / "out"), weights(control_folder(tmp_path / "out"))
    assert {name: array.shape for name, array in student.items()} == {
        name: array.shape for name, array in other.items()
    }
    scored = {
        name: round(recipe.epochs * recipe.scores_per_epoch)
        for name, recipe in begun.recipes.items()
    }
    assert max(scored.values()) - min(scored.values()) <= 2


def test_a_control_may_have_rates_of_its_own(ground: Ground, tmp_path: Path, begun: Begun) -> None:
    recipe = replace(QUICK, choose="even", control_learning_rates="2e-3")
    report = run(ground.inputs, tmp_path / "out", recipe)
    assert list(begun.recipes) == ["student at 0.001", "student at 0.003", "control at 0.002"]
    assert report.details["control"]["learning_rate"] == 2e-3


def test_a_control_begins_with_the_pre_trained_layers(
    ground: Ground, tmp_path: Path, begun: Begun
) -> None:
    run(ground.inputs, tmp_path / "out", replace(QUICK, keep="1,3"))
    folder = open_model(ground.encoder)
    teacher = load_task_model(open_model(ground.teacher))
    pretrained = load_with_new_head(folder, teacher.spec, seed=QUICK.seed)
    config = student_config(teacher.config, 2)
    expected = tensors_of(cut_student(pretrained, config, (1, 3)))
    assert len(equal(begun.first_weights["control at 0.001"], expected)) == len(expected)
    tuned = tensors_of(cut_student(teacher, config, (1, 3)))
    assert len(equal(begun.first_weights["student at 0.001"], tuned)) == len(tuned)
    alike = equal(begun.first_weights["control at 0.001"], tuned)
    assert [name for name in alike if "norm.weight" not in name] == []


def test_the_ablation_begins_where_the_student_does(
    ground: Ground, tmp_path: Path, begun: Begun
) -> None:
    inputs = replace(ground.inputs, control="tuned", pretrained=None)
    report = run(inputs, tmp_path / "out", replace(QUICK, choose="even"))
    student = begun.first_weights["student at 0.001"]
    assert len(equal(begun.first_weights["ablation at 0.001"], student)) == len(student)
    assert report.details["control"]["control"] == "tuned"
    assert fingerprint(tmp_path / "out") != fingerprint(tmp_path / "out-control")
    lineage = json.loads((tmp_path / "out-control" / "potstill.json").read_bytes())["lineage"]
    assert lineage["verb"] == "distill --control tuned"
    assert lineage["model_fingerprint"] == fingerprint(ground.teacher)


def test_a_control_sees_nothing_of_the_teacher(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not hasattr(control_workflow, "LiveTeacher")
    first = run(ground.inputs, tmp_path / "first", replace(QUICK, keep="0,1"))
    other = replace(ground.inputs, teachers=[ground.second])
    second = run(other, tmp_path / "second", replace(QUICK, keep="0,1"))
    assert first.fingerprint != second.fingerprint
    ours, theirs = (report.details["control"]["fingerprint"] for report in (first, second))
    assert ours == theirs


def test_without_labels_the_teacher_is_the_measure(ground: Ground, tmp_path: Path) -> None:
    inputs = DistillInputs(teachers=[ground.teacher], unlabelled=ground.rows)
    recipe = replace(QUICK, choose="even", learning_rates="", learning_rate=3e-3, epochs=12.0)
    report = run(inputs, tmp_path / "out", recipe)
    assert report.details["metrics_on"] == "dev, by the teacher"
    assert report.details["teacher_dev"] == 1.0
    assert report.details["start"]["teacher"]["soft_targets"] == 0.0
    assert report.metrics["accuracy"].value >= 0.8
    assert potstill.load(report.bundle).labels == ("blame", "praise")


def test_a_whole_teacher_without_steps_to_take_agrees_with_itself(
    ground: Ground, tmp_path: Path
) -> None:
    inputs = DistillInputs(teachers=[ground.teacher], unlabelled=ground.rows)
    recipe = replace(
        TERMS, relations=0.0, learning_rate=1e-9, keep="0,1,2,3", architecture="teacher"
    )
    report = run(inputs, tmp_path / "out", recipe)
    assert report.metrics["accuracy"].value == 1.0
    assert report.details["start"]["student"]["soft_targets"] < 1e-6
    assert report.details["start"]["embedding_difference"] == 0.0


def test_labels_with_no_say_change_nothing(ground: Ground, tmp_path: Path) -> None:
    recipe = replace(QUICK, choose="even", soft_targets=1.0, hard_labels=0.0)
    rows = [json.loads(line) for line in ground.rows.read_text().splitlines()]
    swap = {"blame": "praise", "praise": "blame"}
    wrong = write_jsonl(
        tmp_path / "wrong.jsonl", *({**row, "label": swap[row["label"]]} for row in rows)
    )
    first, second = (
        run(
            DistillInputs(teachers=[ground.teacher], train=train, dev=ground.dev),
            tmp_path / f"out-{train.stem}",
            recipe,
        )
        for train in (ground.rows, wrong)
    )
    assert first.fingerprint == second.fingerprint


def test_dev_texts_among_the_unlabelled_ones_are_left_out(
    ground: Ground, tmp_path: Path, begun: Begun
) -> None:
    def texts(file: Path) -> list[str]:
        return [json.loads(line)["text"] for line in file.read_text().splitlines()]

    poison = [f"  {text.upper()} " for text in texts(ground.dev)[:3]]  # the same to our eyes
    unlabelled = write_jsonl(
        tmp_path / "poisoned.jsonl",
        *({"text": text} for text in [*texts(ground.texts), *poison, texts(ground.rows)[0]]),
    )
    inputs = replace(ground.inputs, control=None, pretrained=None)
    recipe = replace(QUICK, choose="even", learning_rates="1e-3")
    clean = run(replace(inputs, unlabelled=ground.texts), tmp_path / "clean", recipe)
    poisoned = run(replace(inputs, unlabelled=unlabelled), tmp_path / "out", recipe)
    assert begun.rows["student at 0.001"] == 60 + 40
    assert poisoned.fingerprint == clean.fingerprint
    assert not any("left out" in warning for warning in clean.warnings)
    assert any(
        "3 of 44 unlabelled texts stand in the dev rows: left out" in warning
        for warning in poisoned.warnings
    )
