"""`potstill quantize --for`: int8 graphs and the processors that they are right on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import potstill
from potstill.errors import ModelError, RecipeError
from tests.command_line import said
from tests.quantizing import TEXTS

pytest.importorskip("nncf", reason="pip install 'potstill[quantize]'")
pytest.importorskip("onnxruntime", reason="pip install 'potstill[onnx]'")

FLAGS = {
    "vnni": frozenset({"avx2", "avx512f", "avx512_vnni"}),
    "avx2": frozenset({"avx2", "avx512f"}),
    "arm": frozenset({"asimd", "i8mm"}),
}
ENGINES = ("onnx", "openvino")
On = Callable[[str], None]
Made = Callable[[str, str], Path]


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> On:
    """Return a function that makes this processor another one, as far as its flags tell."""

    def become(processor: str) -> None:
        for module in ("choice", "processors"):
            monkeypatch.setattr(f"potstill.runtime.{module}.cpu_flags", lambda: FLAGS[processor])

    return become


@pytest.fixture(scope="module")
def made(place: Path, source: Path, rows: Path) -> Made:
    """Return a function that gives the bundle of an engine for a processor, made once."""

    def bundle(engine: str, processor: str) -> Path:
        out = place / f"{engine}-{processor}"
        if not out.exists():
            potstill.quantize(
                *(source, out),
                engine=engine,
                processor=processor,
                calibration=rows if engine == "openvino" else None,
                threads=1,
            )
        return out

    return bundle


def engine_told(bundle: Path) -> dict[str, object]:
    told = json.loads((bundle / "potstill.json").read_text())["engine"]
    assert isinstance(told, dict)
    return told


def without_a_word_of_processors(bundle: Path) -> None:
    """Leave the manifest as earlier versions wrote it."""
    file = bundle / "potstill.json"
    content = json.loads(file.read_text())
    del content["engine"]["processor"]
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("here", FLAGS)
def test_it_is_made_for_this_machine_unless_told_otherwise(
    source: Path, tmp_path: Path, here: str, on: On
) -> None:
    on(here)
    potstill.quantize(source, tmp_path / "here", engine="onnx")
    told = engine_told(tmp_path / "here")
    assert told["processor"] == here
    potstill.quantize(source, tmp_path / "avx2", engine="onnx", processor="avx2")
    told = engine_told(tmp_path / "avx2")
    assert told["processor"] == "avx2"


def test_weights_alone_are_for_any_processor(source: Path, tmp_path: Path, on: On) -> None:
    potstill.quantize(source, tmp_path / "out", precision="int8-weights")
    assert engine_told(tmp_path / "out")["processor"] is None
    on("avx2")
    assert potstill.load(tmp_path / "out", threads=1).engine.precision == "int8-weights"


@pytest.mark.parametrize("engine", ENGINES)
def test_the_full_range_is_refused_on_avx2_with_the_cure(
    engine: str, made: Made, on: On, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = made(engine, "vnni")
    for right in ("vnni", "arm"):
        on(right)
        assert said(capsys, "predict", bundle, "good").status == 0
    on("avx2")
    told = said(capsys, "predict", bundle, "good")
    assert (told.status, told.out) == (2, "")
    assert "made for vnni processors and can answer wrongly on this one (avx2)" in told.complaint
    assert "to mend it: quantize its source again with --for avx2" in told.complaint


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("here", FLAGS)
def test_half_the_range_answers_everywhere(engine: str, here: str, made: Made, on: On) -> None:
    bundle = made(engine, "avx2")
    on(here)
    model = potstill.load(bundle, threads=1)
    assert (model.engine.name, model.engine.precision) == (engine, "int8")
    assert len(model.predict(TEXTS[:3])) == 3


@pytest.mark.parametrize("engine", ENGINES)
def test_a_bundle_of_an_earlier_version_is_read_as_it_was(
    engine: str, source: Path, rows: Path, tmp_path: Path, on: On
) -> None:
    texts = rows if engine == "openvino" else None
    potstill.quantize(source, tmp_path / "old", engine=engine, calibration=texts, threads=1)
    without_a_word_of_processors(tmp_path / "old")
    on("avx2")
    assert potstill.load(tmp_path / "old", threads=1).engine.precision == "int8"


def test_where_weights_are_kept_they_answer_instead(
    source: Path, tmp_path: Path, on: On, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "both"
    on("vnni")
    potstill.quantize(source, bundle, engine="onnx", keep_source=True)
    assert potstill.load(bundle, threads=1).engine.precision == "int8"
    on("avx2")
    assert potstill.load(bundle, threads=1).engine.precision != "int8"
    assert potstill.load(bundle, engine="onnx", threads=1).engine.precision == "fp32"
    with pytest.raises(ModelError, match=r"can answer wrongly.*--for avx2"):
        potstill.load(bundle, engine="onnx", precision="int8")
    monkeypatch.setattr("potstill.workflows.tune.SAMPLE_TEXTS", ("a good film", "fun"))
    measured = potstill.tune(bundle, threads=1)["measured"]
    assert "int8" not in {each["precision"] for each in measured}
    assert engine_told(bundle)["processor"] == "vnni"  # of the graph, whatever was chosen
    on("vnni")
    assert potstill.load(bundle, engine="onnx", precision="int8").engine.precision == "int8"


def test_what_would_be_wrong_here_is_not_judged_here(
    source: Path, rows: Path, tmp_path: Path, on: On, capsys: pytest.CaptureFixture[str]
) -> None:
    on("avx2")
    words = ["--engine", "onnx", "--for", "vnni", "--dev", rows, "--floor", "0.9"]
    told = said(capsys, "quantize", source, "--out", tmp_path / "out", *words)
    assert (told.status, told.out) == (2, "")
    assert "int8 for vnni can be wrong on this processor (avx2)" in told.complaint
    assert not (tmp_path / "out").exists()
    potstill.quantize(source, tmp_path / "out", engine="onnx", processor="vnni")
    assert engine_told(tmp_path / "out")["processor"] == "vnni"


def test_what_is_no_processor_is_told(source: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"'sparc'; allowed: here, vnni, avx2, arm"):
        potstill.quantize(source, tmp_path / "out", engine="onnx", processor="sparc")


def test_a_word_that_is_none_in_the_manifest_is_told(source: Path, tmp_path: Path) -> None:
    potstill.quantize(source, tmp_path / "out", engine="onnx")
    file = tmp_path / "out" / "potstill.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"engine": content["engine"] | {"processor": 7}}))
    with pytest.raises(ModelError, match=r"engine\.processor is 7"):
        potstill.load(tmp_path / "out")
