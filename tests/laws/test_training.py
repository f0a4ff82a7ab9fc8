"""Resumed = uninterrupted bit for bit, in one process and in two; two = one; small batches = large.

Two processes and one that drop nothing differ by rounding alone. What is dropped and hidden is
drawn for each micro-batch, and two processes cut a step into others than one does: so with dropout
two are compared with one that cuts as they do.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from potstill.errors import Diverged, RecipeError, Stopped
from potstill.models import precision
from potstill.train import loop
from potstill.train.label_objective import LabelObjective
from potstill.train.progress import Meter, Progress
from potstill.train.schedule import Schedule
from tests.training import CASES, RECIPE, ROWS, tiny_model, tiny_objective, tiny_run, weights_of


@dataclass(frozen=True, slots=True)
class PoisonedObjective(LabelObjective):
    """The tiny task, until there is poison: then every loss is multiplied by it."""

    poison: list[float] = field(default_factory=list)

    def loss_sums(
        self, model: Any, batch: Any, noise: Any, factors: object = None
    ) -> dict[str, torch.Tensor]:
        sums = LabelObjective.loss_sums(self, model, batch, noise)
        return {name: value * math.prod(self.poison) for name, value in sums.items()}


REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _every_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Meter, "is_due", property(lambda meter: True))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_run_learns_and_keeps_the_best_weights(tmp_path: Path) -> None:
    model = tiny_model()
    result = tiny_run(tmp_path, model, changes={"epochs": 12.0})
    assert result.best_score is not None
    assert result.best_score > 0.8
    assert result.steps == 12 * 8
    assert [step for step, _ in result.scores][-1] == result.steps
    assert max(score for _, score in result.scores) == result.best_score


def test_stopped_at_any_step_and_resumed_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = tiny_model()
    tiny_run(tmp_path / "whole", whole)
    for stop_after in (1, 4, 13, 27, 32):  # the last one too
        folder = tmp_path / f"stopped-{stop_after}"
        with pytest.raises(Stopped):
            tiny_run(folder, tiny_model(), listeners=(_terminate_after(stop_after),))
        resumed = tiny_model(dropout=0.1)
        result = tiny_run(folder, resumed)
        assert result.resumed_from == stop_after
        assert _same_bits(weights_of(resumed), weights_of(whole))


def test_killed_with_no_warning_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = _final_weights(tmp_path / "whole", kills=0)
    killed = _final_weights(tmp_path / "killed", kills=3)
    assert _same_bits(killed, whole)


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    halves = [
        "step-000000003.safetensors",  # killed before its JSON was written
        *(
            f"{name}.1a.potstill-part"
            for name in ("step-000000004.safetensors", "step-000000004.json")
        ),
        "best-000000002.safetensors.1a.potstill-part",
    ]
    for name in (*halves, "notes.potstill-part"):
        (tmp_path / name).write_bytes(b"half")
    tiny_run(tmp_path, changes={"epochs": 1.0})
    left = {file.name for file in tmp_path.iterdir()}
    assert left.isdisjoint(halves)
    assert "notes.potstill-part" in left  # of somebody else
    assert len([name for name in left if name.startswith("step-")]) == 4


def test_a_torn_newest_checkpoint_is_passed_over(tmp_path: Path) -> None:
    whole = tiny_model()
    tiny_run(tmp_path / "whole", whole)
    folder = tmp_path / "torn"
    with pytest.raises(Stopped):
        tiny_run(folder, tiny_model(), listeners=(_terminate_after(9),))
    newest = max(folder.glob("step-*.safetensors"))
    content = bytearray(newest.read_bytes())
    content[-3] ^= 1
    newest.write_bytes(content)
    resumed = tiny_model()
    result = tiny_run(folder, resumed)
    assert result.resumed_from == 8
    assert result.warnings == ["damaged checkpoints, passed over: of step 9; went on from step 8"]
    assert _same_bits(weights_of(resumed), weights_of(whole))


@pytest.mark.parametrize("damage", ["cut", "gone", "one bit"])
def test_a_checkpoint_whose_best_weights_are_damaged_is_passed_over(
    tmp_path: Path, damage: str
) -> None:
    whole = tiny_model()
    tiny_run(tmp_path / "whole", whole, score=lambda: 0.5)  # the first score stays the best
    folder = tmp_path / "damaged"
    with pytest.raises(Stopped):
        tiny_run(folder, score=lambda: 0.5, listeners=(_terminate_after(4),))
    best = folder / "best-000000004.safetensors"
    content = bytearray(best.read_bytes())
    if damage == "gone":
        best.unlink()
    elif damage == "cut":
        best.write_bytes(content[:100])
    else:
        content[-3] ^= 1
        best.write_bytes(content)
    resumed = tiny_model()
    result = tiny_run(folder, resumed, score=lambda: 0.5)
    assert result.resumed_from == 3
    assert result.best_step == 4
    assert _same_bits(weights_of(resumed), weights_of(whole))


def test_a_run_that_finds_no_whole_checkpoint_begins_anew_and_can_be_killed_again(
    tmp_path: Path,
) -> None:
    with pytest.raises(Stopped):
        tiny_run(tmp_path, listeners=(_terminate_after(20),))
    for file in tmp_path.glob("step-*.safetensors"):
        file.write_bytes(b"torn")
    with pytest.raises(Stopped):
        tiny_run(tmp_path, listeners=(_terminate_after(3),))
    resumed, whole = tiny_model(), tiny_model()
    assert tiny_run(tmp_path, resumed).resumed_from == 3
    tiny_run(tmp_path / "whole", whole)
    assert _same_bits(weights_of(resumed), weights_of(whole))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where two processes did each of `CASES`, uninterrupted."""
    folder = tmp_path_factory.mktemp("two")
    done = _started_in_two(folder, *CASES)
    assert done.wait(timeout=180) == 0
    return folder


@pytest.mark.parametrize("case", ["dry", "scarce"])
def test_two_processes_give_the_result_of_one(tmp_path: Path, two: Path, case: str) -> None:
    dropout, changes = CASES[case]
    one = tiny_model(dropout)
    tiny_run(tmp_path, one, changes=changes)
    _assert_close(load_file(two / case / "final.safetensors"), weights_of(one))


def test_two_processes_that_drop_give_the_result_of_one_that_cuts_steps_as_they_do(
    tmp_path: Path, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "Schedule", lambda *parts: Schedule(*parts[:2], processes=2))
    one = tiny_model()
    tiny_run(tmp_path, one)
    _assert_close(load_file(two / "dropout" / "final.safetensors"), weights_of(one))


def test_a_process_without_work_is_told(two: Path) -> None:
    (warning,) = json.loads((two / "scarce" / "told.json").read_text())["warnings"]
    assert warning == (
        "there are more processes (2) than rows in a step (1): some have no work; "
        "raise --set rows_per_step, or start fewer"
    )
    assert json.loads((two / "dry" / "told.json").read_text())["warnings"] == []


def test_one_of_two_processes_killed_and_both_resumed_they_end_with_the_same_bits(
    tmp_path: Path, two: Path
) -> None:
    folder = tmp_path / "killed"
    run = _started_in_two(folder)
    while _newest_step(folder) < 5 and run.poll() is None:
        time.sleep(0.002)
    os.kill(int((folder / "process-1").read_text()), signal.SIGKILL)
    assert run.wait(timeout=60) != 0
    assert not (folder / "final.safetensors").exists(), "it ended before it could be killed"
    reached = _newest_step(folder)
    shutil.copytree(folder, tmp_path / "alone")

    assert _started_in_two(folder).wait(timeout=120) == 0
    assert json.loads((folder / "told.json").read_text()) == {
        "resumed_from": reached,
        "warnings": [],
    }
    killed, whole = (load_file(each / "final.safetensors") for each in (folder, two / "dropout"))
    assert _same_bits(killed, whole)

    alone = tiny_run(tmp_path / "alone")
    assert alone.resumed_from == reached
    (warning,) = alone.warnings
    assert warning.startswith("resumed with processes 1, begun with 2: the result will not be equ")


def test_small_micro_batches_give_the_result_of_large_ones(tmp_path: Path) -> None:
    changes = {"epochs": 1.0}
    large, small = tiny_model(dropout=0.0), tiny_model(dropout=0.0)
    tiny_run(tmp_path / "large", large, changes={**changes, "batch_tokens": 10_000})
    tiny_run(tmp_path / "small", small, changes={**changes, "batch_tokens": 1})
    for name, tensor in weights_of(large).items():
        torch.testing.assert_close(weights_of(small)[name], tensor, atol=1e-5, rtol=1e-4)


def test_bf16_learns_too(tmp_path: Path) -> None:
    result = tiny_run(tmp_path, changes={"precision": "bf16", "epochs": 12.0})
    assert result.precision == "bf16"
    assert result.best_score is not None
    assert result.best_score > 0.8


def test_nan_ends_the_run_and_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    plain = tiny_objective()
    objective = PoisonedObjective(plain.rows)

    def poison(progress: Progress) -> None:
        if progress.step == 12:
            objective.poison.append(float("nan"))

    with pytest.raises(Diverged, match="hard_labels is not finite at step 13") as told:
        tiny_run(tmp_path, objective=objective, listeners=(poison,))
    assert told.value.cure is not None
    assert told.value.cure.startswith(f"remove {tmp_path}, or name another --out, and lower --l")
    resumed = tiny_model()
    assert tiny_run(tmp_path, resumed).resumed_from == 12
    whole = tiny_model()
    tiny_run(tmp_path / "whole", whole)
    assert _same_bits(weights_of(resumed), weights_of(whole))


def test_before_the_first_checkpoint_nothing_need_be_removed(tmp_path: Path) -> None:
    objective = PoisonedObjective(tiny_objective().rows)
    objective.poison.append(float("nan"))
    with pytest.raises(Diverged) as told:
        tiny_run(tmp_path, objective=objective)
    assert told.value.cure == "lower --learning-rate, or use --set precision=fp32"


def test_losses_that_stay_far_above_the_first_end_the_run_and_a_resumed_one_at_the_same_step(
    tmp_path: Path,
) -> None:
    objective = PoisonedObjective(tiny_objective().rows)
    long = {"epochs": 6.0}

    def poison(progress: Progress) -> None:
        if progress.step == 12:
            objective.poison.append(50.0)
        if progress.step == 20:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        tiny_run(tmp_path, objective=objective, listeners=(poison,), changes=long)
    with pytest.raises(Diverged, match="diverged: from step 13 to 32 the loss was above") as told:
        tiny_run(tmp_path, objective=objective, changes=long)
    assert told.value.cure is not None
    assert told.value.cure.startswith(f"remove {tmp_path}, or name another --out, and lower --l")


def test_losses_that_fall_again_end_no_run(tmp_path: Path) -> None:
    objective = PoisonedObjective(tiny_objective().rows)

    def poison(progress: Progress) -> None:
        if progress.step in {12, 33}:  # 19 steps from each on
            objective.poison.append(50.0)
        if progress.step in {31, 52}:
            objective.poison.clear()

    result = tiny_run(tmp_path, objective=objective, listeners=(poison,), changes={"epochs": 7.0})
    assert result.steps == 56


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_score_that_is_no_number_ends_the_run(tmp_path: Path, value: float) -> None:
    with pytest.raises(Diverged, match="the score is not finite at step 4"):
        tiny_run(tmp_path, score=lambda: value)


def test_another_recipe_does_not_resume_a_run(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        tiny_run(tmp_path, listeners=(_terminate_after(3),))
    with pytest.raises(RecipeError, match="other settings"):
        tiny_run(tmp_path, changes={"learning_rate": 2e-3})


def test_going_on_in_another_precision_or_on_another_device_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"precision": "auto", "epochs": 1.0}
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: True)
    with pytest.raises(Stopped):
        tiny_run(tmp_path, changes=changes, listeners=(_terminate_after(3),))
    state = json.loads((tmp_path / "step-000000003.json").read_text())
    assert (state["precision"], state["device"]) == ("bf16", "cpu")
    (tmp_path / "step-000000003.json").write_text(json.dumps(state | {"device": "cuda"}))
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: False)
    assert tiny_run(tmp_path, changes=changes).warnings == [
        f"resumed with {now}, begun with {before}: the result will not be equal bit for bit to an "
        "uninterrupted run's"
        for now, before in (("precision fp32", "bf16"), ("device cpu", "cuda"))
    ]


def _terminate_after(step: int):
    def send(progress: Progress) -> None:
        if progress.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return send


def _final_weights(folder: Path, *, kills: int) -> dict[str, torch.Tensor]:
    """Run the child, killing it `kills` times after it has written a new checkpoint."""
    rng = np.random.default_rng(kills)
    command = [sys.executable, "-m", "tests.training", str(folder)]
    for _ in range(kills):
        before = _newest_step(folder)
        child = subprocess.Popen(command, cwd=REPOSITORY)
        wanted = before + int(rng.integers(1, 8))
        while _newest_step(folder) < wanted and child.poll() is None:
            time.sleep(0.002)
        child.kill()
        assert child.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    subprocess.run(command, cwd=REPOSITORY, check=True, timeout=120)
    return load_file(folder / "final.safetensors")


def _started_in_two(folder: Path, *cases: str) -> subprocess.Popen[bytes]:
    command = [
        *[sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"],
        *["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"],
        *["-m", "tests.training", str(folder), *cases],
    ]
    return subprocess.Popen(command, cwd=REPOSITORY)


def _assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-4, rtol=1e-4)


def _newest_step(folder: Path) -> int:
    return max(
        (int(file.stem.removeprefix("step-")) for file in folder.glob("step-*.json")), default=0
    )


def _same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    assert set(one) == set(other)
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_the_run_here_is_long_enough_to_be_killed() -> None:
    assert RECIPE.epochs * ROWS / RECIPE.rows_per_step == 30
