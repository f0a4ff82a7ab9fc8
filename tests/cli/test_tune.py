"""`potstill tune`: what was measured here is stored, and taken where it fits."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import potstill
from potstill.bundle.folder import ModelFolder
from potstill.errors import ModelError, RecipeError
from potstill.models.loading import load_task_model
from potstill.runtime import engines
from potstill.runtime.choice import EngineChoice, flags_here
from potstill.runtime.engine import Engine
from potstill.runtime.engines import ENGINES, is_engine_installed
from potstill.runtime.torch_engine import TorchEngine
from potstill.workflows.tune import Candidate
from tests.command_line import said
from tests.folders import write_tiny_model

pytest.importorskip("openvino", reason="pip install 'potstill[cpu]'")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("potstill.workflows.tune.SAMPLE_TEXTS", ("a good film", "boring", "fun"))
    return write_tiny_model(tmp_path / "tiny", "classification", task="classification")


def engine_told(folder: Path) -> dict[str, object]:
    told = json.loads((folder / "potstill.json").read_text())["engine"]
    assert isinstance(told, dict)
    return told


def test_the_fastest_is_stored_and_taken(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = potstill.info(folder)["fingerprint"]
    found = said(capsys, "tune", folder, "--threads", "1", "--json").answer
    speeds = [each["tokens_per_second"] for each in found["measured"]]
    assert speeds == sorted(speeds, reverse=True)
    assert {each["engine"] for each in found["measured"]} >= {"openvino", "torch"}
    assert found["chosen"]["name"] == found["measured"][0]["engine"]
    assert engine_told(folder) == found["chosen"]
    model = potstill.load(folder, threads=1)
    assert (model.engine.name, model.engine.precision) == (
        found["chosen"]["name"],
        found["chosen"]["precision"],
    )
    assert potstill.info(folder)["fingerprint"] == before


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_measured(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder and real(path, mode))
    monkeypatch.setattr("potstill.workflows.tune._measure", None)
    told = said(capsys, "tune", folder)
    assert told.status == 2
    assert f"no permission to write in {folder}" in told.complaint


def test_latency_is_another_goal(folder: Path) -> None:
    found = potstill.tune(folder, goal="latency", threads=1)
    times = [each["p50_ms"] for each in found["measured"]]
    assert times == sorted(times)


def test_half_the_threads_are_tried_and_taken_where_as_many_can_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("potstill.workflows.tune.chosen_threads", lambda: 2)
    measured = potstill.tune(folder)["measured"]
    assert {each["threads"] for each in measured} == {1, 2}
    assert sum(each["threads"] == 1 for each in measured) <= 2
    write_choice(folder, name="openvino", precision="fp32", threads=3, threads_of=6)
    for usable, taken in ((6, 3), (4, 4), (8, 8)):
        for module in ("choice", "openvino_engine"):
            monkeypatch.setattr(f"potstill.runtime.{module}.chosen_threads", lambda n=usable: n)
        assert potstill.load(folder).engine.threads == taken
    assert potstill.load(folder, threads=1).engine.threads == 1
    write_choice(folder, name="openvino", precision="fp32", threads=0, threads_of=6)
    with pytest.raises(ModelError, match=r"engine\.threads is 0.*1 or more"):
        potstill.load(folder)
    for of in (6, None):  # more than could run
        write_choice(folder, name="openvino", precision="fp32", threads=7, threads_of=of)
        with pytest.raises(ModelError, match=rf"threads is 7; allowed: .*which is {of}"):
            potstill.load(folder)


def test_threads_far_above_the_processors_are_refused_before_anything_is_made(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    told = said(capsys, "predict", folder, "good", "--threads", "17")
    assert (told.status, told.out) == (2, "")
    assert "--threads: threads is 17" in told.complaint
    assert "allowed: 1 to 16" in told.complaint
    for engine in ("auto", "openvino", "onnx", "torch"):
        with pytest.raises(RecipeError, match="allowed: 1 to 16"):
            potstill.load(folder, engine=engine, threads=17)
    with pytest.raises(RecipeError, match="allowed: 1 to 16"):
        potstill.finetune(folder, [{"text": "a", "label": "0"}], folder / "out", threads=17)


def test_threads_that_are_asked_for_are_the_only_ones(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = said(capsys, "tune", folder, "--threads", "1")
    assert told.status == 0
    assert "threads\t1\n" in told.out
    assert engine_told(folder)["threads"] is None


def write_choice(folder: Path, **engine: object) -> None:
    file = folder / "potstill.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"engine": engine}))


LAPTOP, SERVER = {"avx2"}, {"avx2", "avx512f", "avx512_bf16"}


@pytest.mark.parametrize(
    ("made_on", "here", "is_taken"),
    [
        (SERVER, SERVER, True),
        (LAPTOP, SERVER, False),
        (SERVER, LAPTOP, False),
        (set(), SERVER, False),  # a system that tells no flags
        (set(), set(), True),
        ({"asimd", "bf16"}, {"asimd"}, False),
        ({"asimd"}, {"asimd", "bf16"}, False),
    ],
)
def test_a_choice_of_speed_is_taken_where_the_flags_are_the_same(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    made_on: set[str],
    here: set[str],
    is_taken: bool,  # noqa: FBT001
) -> None:
    be(monkeypatch, made_on)
    choice = EngineChoice(
        name="onnx", precision="fp32", row_tokens=17, request_tokens=200, cpu_flags=flags_here()
    )
    write_choice(folder, **choice.to_json())
    be(monkeypatch, here)
    engine = potstill.load(folder, threads=1).engine
    assert engine.name == ("onnx" if is_taken else "openvino")
    assert ("measured on another processor" in engine.reason) is not is_taken
    size = potstill.load(folder, threads=1, engine="onnx").engine.size
    assert (size.row_tokens == 17) is is_taken


def be(monkeypatch: pytest.MonkeyPatch, flags: set[str]) -> None:
    """Make this processor another one, as far as its flags tell."""
    for module in ("hardware", "runtime.choice", "runtime.processors", "runtime.openvino_engine"):
        monkeypatch.setattr(f"potstill.{module}.cpu_flags", lambda: frozenset(flags))


@pytest.mark.parametrize("engine", ["auto", "openvino"])
def test_a_precision_that_cannot_be_had_here_is_passed_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    be(monkeypatch, {"avx2"})
    for precision in ("bf16", "int8", "of a later release"):
        write_choice(folder, name="openvino", precision=precision)
        taken = potstill.load(folder, engine=engine, threads=1).engine
        assert (taken.name, taken.precision) == ("openvino", "fp32")
        if engine == "auto":
            assert f"passed over: {precision} cannot be had here" in taken.reason


def test_a_choice_that_nobody_measured_is_taken_everywhere(folder: Path) -> None:
    write_choice(folder, name="onnx", precision="fp32", row_tokens=64, request_tokens=128)
    engine = potstill.load(folder).engine
    assert engine.name == "onnx"
    assert (engine.size.row_tokens, engine.size.request_tokens) == (64, 128)
    assert engine.reason == "the bundle's choice"


class OnCard(TorchEngine):
    """Torch on a card, as far as anybody can tell from outside."""

    device = "cuda"


Put = Callable[..., None]


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Put:
    """Return a function that puts a card into this machine, or takes it out."""

    def torch_of(folder: ModelFolder, device: str, precision: str, threads: int | None) -> Engine:
        is_on_card = device == "cuda" or (device == "auto" and engines.has_card())
        kind = OnCard if is_on_card else TorchEngine
        return kind(load_task_model(folder), precision="fp32" if precision == "auto" else precision)

    def put(*, is_there: bool) -> None:
        for module in ("runtime.engines", "workflows.tune"):
            monkeypatch.setattr(f"potstill.{module}.has_card", lambda: is_there)

    monkeypatch.setitem(ENGINES, "torch", torch_of)
    return put


def test_a_card_is_measured_beside_the_processor(
    folder: Path, card: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    for fastest in ("cuda", "cpu"):
        card(is_there=True)
        monkeypatch.setattr("potstill.workflows.tune._cost", partial(cost_off, fastest))
        found = potstill.tune(folder, threads=1)
        assert {each["device"] for each in found["measured"]} == {"cpu", "cuda"}
        assert (found["chosen"]["device"], found["chosen"]["card"]) == (fastest, True)
        assert potstill.load(folder).engine.device == fastest
        assert potstill.load(folder, device="cpu").engine.device == "cpu"
        card(is_there=False)
        without = potstill.load(folder).engine
        assert without.device == "cpu"
        assert "measured beside a card" in without.reason


def cost_off(device: str, goal: str) -> Callable[[Candidate], bool]:
    """Return what makes all candidates slow but those of a device."""
    del goal
    return lambda candidate: candidate.choice.device != device


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_a_choice_that_saw_no_card_does_not_go_before_one(
    folder: Path, card: Put, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    card(is_there=False)
    monkeypatch.setattr("potstill.runtime.choice.cpu_has_bf16", lambda: True)
    monkeypatch.setattr("potstill.runtime.openvino_engine.cpu_has_bf16", lambda: True)
    write_choice(folder, **{"name": name, "precision": "bf16", "cpu_flags": list(flags_here())})
    assert (
        potstill.load(folder).engine.reason == "the bundle's choice, measured on such a processor"
    )
    card(is_there=True)
    engine = potstill.load(folder).engine
    assert (engine.name, engine.device) == ("torch", "cuda")
    assert engine.precision == "fp32", "what the processor was fastest in is not the card's"
    assert engine.reason == (
        "there is a card; the bundle's choice is passed over: it was measured without a card"
    )
    assert potstill.load(folder, device="cpu").engine.device == "cpu"


def test_what_is_asked_for_goes_before_the_choice(folder: Path) -> None:
    write_choice(folder, name="onnx", precision="fp32")
    assert potstill.load(folder, engine="torch").engine.name == "torch"
    assert potstill.load(folder, precision="bf16", engine="torch").engine.precision == "bf16"


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ({"name": "onnx"}, "engine has no precision"),
        ({"name": 7, "precision": "fp32"}, "engine.name is 7"),
        *(
            ({"name": "onnx", "precision": "fp32", "cpu_flags": flags}, "engine.cpu_flags is")
            for flags in (7, "avx2", [1])
        ),
    ],
)
def test_a_choice_that_is_none_is_told(folder: Path, engine: dict, message: str) -> None:
    write_choice(folder, **engine)
    with pytest.raises(ModelError, match=message):
        potstill.load(folder)


@pytest.mark.parametrize("name", ["of a later release", "a.b", ".x", "this.x", ""])
def test_an_engine_that_is_not_here_is_passed_over(folder: Path, name: str) -> None:
    write_choice(folder, name=name, precision="fp32")
    assert potstill.load(folder).engine.name == "openvino"
    assert "this" not in sys.modules, "nothing is imported by a manifest's word"
    assert not is_engine_installed(name)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--goal", "beauty"], "goal"),
        (["--input", "nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_wrong_input_is_told_in_one_line(
    folder: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = said(capsys, "tune", folder, *words)
    assert (told.status, told.out) == (2, "")
    assert message in told.complaint
    assert engine_told(folder) == {}


def test_without_any_engine_the_smallest_install_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("potstill.runtime.engines._is_installed", lambda name: False)
    told = said(capsys, "tune", folder)
    assert (told.status, told.out) == (2, "")
    assert "pip install 'potstill[cpu]'" in told.complaint
    assert engine_told(folder) == {}


def test_a_name_on_the_hub_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    told = said(capsys, "tune", "hub:org/name")
    assert told.status == 2
    assert "nothing is stored" in told.complaint
