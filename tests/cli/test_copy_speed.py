"""`quantize` measures a copy beside its source here, says what is gained, and stores the choice."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import potstill
from potstill.errors import OutOfMemory
from potstill.runtime.choice import flags_here
from potstill.runtime.engines import build_engine
from potstill.runtime.processors import ARM, AVX2, processor_here
from potstill.workflows import copy_speed
from potstill.workflows.copy_speed import measured_speed
from tests.command_line import said

pytest.importorskip("nncf", reason="pip install 'potstill[quantize]'")
pytest.importorskip("onnxruntime", reason="pip install 'potstill[onnx]'")

Paces = Callable[[Any], float]  # seconds a text of an engine


@pytest.fixture(autouse=True)
def measured_on_a_quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("quantize", "bf16"):
        monkeypatch.setattr(f"potstill.workflows.{module}.measured_speed", measured_speed)
    monkeypatch.setattr(copy_speed, "busy_cores", lambda: 0.0)


def say_how_fast(monkeypatch: pytest.MonkeyPatch, seconds_a_text: Paces) -> list[tuple[Any, int]]:
    """Have engines take as long as is said; return the calls, as they come, with their texts."""
    calls = []

    def seconds_of(run: partial[object]) -> float:
        engine, texts = run.func.__self__, len(run.args[0])
        calls.append((engine, texts))
        run()
        return texts * seconds_a_text(engine)

    monkeypatch.setattr(copy_speed, "seconds_of", seconds_of)
    return calls


def times_as_fast(times: float) -> Paces:
    """Let int8 be so much faster than its source."""
    return lambda engine: 1e-3 / (times if engine.precision == "int8" else 1.0)


def choice_in(bundle: Path) -> dict[str, Any]:
    told = json.loads((bundle / "potstill.json").read_text())["engine"]
    assert isinstance(told, dict)
    return told


@pytest.mark.parametrize(
    ("engine", "precision"), [("openvino", "int8-weights"), ("onnx", "int8"), ("openvino", "bf16")]
)
def test_what_was_measured_is_told_and_stored(
    source: Path, tmp_path: Path, engine: str, precision: str
) -> None:
    report = potstill.quantize(source, tmp_path / "out", engine=engine, precision=precision)
    details = report.to_json()
    assert details["size_ratio"] == pytest.approx(
        details["size_bytes"] / details["source_bytes"], abs=1e-3
    )
    speed = details["speed"]
    assert speed["engine"] == engine
    assert speed["ratio"] > 0.0
    assert speed["ratio_of_one_text"] == pytest.approx(
        speed["p50_ms"]["source"] / speed["p50_ms"]["copy"], rel=0.05
    )
    assert speed["precisions"]["source"] in ("fp32", "bf16")
    told = choice_in(tmp_path / "out")
    assert tuple(told["cpu_flags"]) == flags_here()
    model = potstill.load(tmp_path / "out", device="cpu")
    assert (model.engine.name, model.engine.precision) == (engine, told["precision"])
    assert model.engine.reason == "the bundle's choice, measured on such a processor"


@pytest.mark.parametrize("precision", ["int8-weights", "bf16"])
def test_it_can_be_left_out(
    source: Path, tmp_path: Path, precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--precision", precision, "--no-tune", "--out", tmp_path / "out"]
    told = said(capsys, "quantize", source, *words)
    assert told.pairs["speed"] == "not measured"
    assert "measuring" not in told.err
    assert choice_in(tmp_path / "out").get("cpu_flags") is None


@pytest.mark.parametrize(("times", "gains"), [(2.0, True), (1.02, False), (0.5, False)])
def test_no_gain_is_a_warning_and_no_refusal(
    source: Path,
    tmp_path: Path,
    times: float,
    gains: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    say_how_fast(monkeypatch, times_as_fast(times))
    words = ["--engine", "onnx", "--out", tmp_path / "out", "--threads", "1"]
    told = said(capsys, "quantize", source, *words)
    assert told.status == 0
    assert told.pairs["speed"] == (
        f"{times:.2f} times the source's, on one text {times:.2f} "
        "(onnx, int8 beside fp32, threads: 1)"
    )
    assert ("answers no faster here than its source" in told.err) is not gains
    assert potstill.load(tmp_path / "out").engine.precision == "int8"


def test_a_copy_that_is_neither_smaller_nor_faster_is_told_so(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    say_how_fast(monkeypatch, lambda engine: 1e-3)
    potstill.quantize(source, tmp_path / "small", precision="bf16", threads=1)
    report = potstill.quantize(tmp_path / "small", tmp_path / "again", precision="bf16", threads=1)
    assert report.details["size_ratio"] == 1.0
    assert any(line.endswith("it saves neither room nor time") for line in report.warnings)


@pytest.mark.parametrize(("gain", "is_stored"), [(1.03, False), (1.2, True)])
def test_another_size_is_stored_where_it_is_clearly_faster(
    source: Path,
    tmp_path: Path,
    gain: float,
    is_stored: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    say_how_fast(
        monkeypatch,
        lambda engine: 1e-3 / (gain if engine.size.request_tokens == 1_024 else 1.0),
    )
    report = potstill.quantize(source, tmp_path / "out", engine="onnx", threads=1)
    assert report.details["speed"]["ratio"] == 1.0, "like is held against like"
    engine = potstill.load(tmp_path / "out", threads=1).engine
    assert (engine.size.request_tokens == 1_024) is is_stored
    assert (engine.size == engine.usual_size) is not is_stored


@pytest.mark.parametrize(
    ("busy", "gain", "stored"), [(0.0, 2.0, 1), (0.0, 1.0, None), (1.5, 2, None)]
)
def test_half_the_threads_are_stored_where_they_are_faster_on_a_quiet_machine(
    source: Path,
    tmp_path: Path,
    busy: float,
    gain: float,
    stored: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(copy_speed, "busy_cores", lambda: busy)
    monkeypatch.setattr(copy_speed, "chosen_threads", lambda: 2)
    calls = say_how_fast(monkeypatch, lambda engine: 1e-3 / (gain if engine.threads == 1 else 1.0))
    report = potstill.quantize(source, tmp_path / "out", engine="onnx")
    told = choice_in(tmp_path / "out")
    assert (told["threads"], told["threads_of"]) == (stored, stored and 2)
    assert any(engine.threads == 1 for engine, _ in calls) is (busy == 0.0)
    assert any("other work kept 1.5 cores busy" in line for line in report.warnings) is (busy > 1)


@pytest.mark.parametrize("pace", [1e-6, 1e-2, 10.0])
def test_a_slow_model_answers_fewer_texts(
    source: Path, tmp_path: Path, pace: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = say_how_fast(monkeypatch, lambda engine: pace)
    potstill.quantize(source, tmp_path / "out", engine="onnx", threads=1)
    together = max(texts for _, texts in calls)
    alone = sum(texts == 1 for _, texts in calls)
    assert together == {1e-6: 256, 1e-2: 32, 10.0: 8}[pace]
    assert alone == 1 + 2 * 4 * {1e-6: 20, 1e-2: 10, 10.0: 3}[pace]


def test_rounds_end_with_the_time(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy_speed, "_ROUNDS_S", 0.0)
    calls = say_how_fast(monkeypatch, lambda engine: 10.0)
    potstill.quantize(source, tmp_path / "out", engine="onnx", threads=1)
    assert sum(texts == 1 for _, texts in calls) == 1 + 2 * 2 * 3


def test_a_copy_for_other_processors_is_not_measured_here(source: Path, tmp_path: Path) -> None:
    other = ARM if processor_here() == AVX2 else AVX2
    report = potstill.quantize(source, tmp_path / "out", engine="onnx", processor=other)
    assert report.details["speed"] is None
    assert f"its speed was not measured: it is for {other} processors" in report.warnings
    told = choice_in(tmp_path / "out")
    assert (told["processor"], told["cpu_flags"]) == (other, None)


def test_a_fault_while_measuring_leaves_what_was_made(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_memory(*arguments: object, **options: object) -> None:
        raise OutOfMemory("the CPU has no memory left")

    monkeypatch.setattr(copy_speed, "build_engine", without_memory)
    report = potstill.quantize(source, tmp_path / "out", engine="onnx")
    assert "its speed was not measured: the CPU has no memory left" in report.warnings
    assert potstill.load(tmp_path / "out", threads=1).predict(["good"])


def test_the_source_is_measured_by_its_weights_whatever_lies_beside_them(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    potstill.quantize(source, tmp_path / "both", engine="onnx", keep_source=True)
    built = []

    def remembered(*arguments: Any, **options: Any) -> object:
        built.append(build_engine(*arguments, **options))
        return built[-1]

    monkeypatch.setattr(copy_speed, "build_engine", remembered)
    potstill.quantize(tmp_path / "both", tmp_path / "out", engine="onnx", threads=1)
    assert [engine.precision for engine in built] == ["fp32", "int8"]
