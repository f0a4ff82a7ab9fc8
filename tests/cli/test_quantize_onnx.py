"""`potstill quantize --engine onnx`: an int8 graph that ONNX Runtime answers from, by itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import potstill
from potstill.bundle.folder import open_folder
from potstill.bundle.manifest import read_manifest, write_manifest
from potstill.bundle.named_weights import fp32_weights
from potstill.errors import GateNotMet, MissingExtraError, ModelError, RecipeError
from potstill.runtime.engines import build_engine
from potstill.runtime.onnx_operators import onnx_model
from potstill.runtime.packed_rows import RowSize
from potstill.workflows.tune import SIZES
from tests.command_line import said
from tests.folders import write_tiny_model
from tests.quantizing import TEXTS
from tests.tiny import random_batch

onnx = pytest.importorskip("onnx", reason="pip install 'potstill[onnx]'")
pytest.importorskip("onnxruntime", reason="pip install 'potstill[onnx]'")

GRAPH = "onnx/int8.onnx"
LENGTHS = [5, 1, 12, 7, 30, 3, 38, 9, 2]
# Activations have one scale a call, so that companions move it; a share of the largest logit.
COMPANIONS = 0.1


@pytest.fixture(scope="module")
def small(place: Path, source: Path) -> Path:
    potstill.quantize(source, place / "small", engine="onnx")
    return place / "small"


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "copy"))


def test_a_bundle_without_weights_answers_nearly_as_its_source(source: Path, small: Path) -> None:
    assert not list(small.rglob("*.safetensors"))
    model = potstill.load(small, threads=1)
    assert (model.engine.name, model.engine.precision) == ("onnx", "int8")
    ours = model.predict(TEXTS)
    theirs = potstill.load(source, precision="fp32", threads=1).predict(TEXTS)
    same = [one["label"] == other["label"] for one, other in zip(ours, theirs, strict=True)]
    assert np.mean(same) > 0.8


def test_info_and_card_tell_what_it_is(small: Path, source: Path) -> None:
    told = potstill.info(small)
    assert told["runtime_files"] == [GRAPH]
    assert told["size_bytes"] == (small / GRAPH).stat().st_size
    assert told["transformers"]["complete"] is False
    assert told["warnings"] == []
    assert told["lineage"]["quantized_from"] == potstill.info(source)["fingerprint"]
    assert (told["engine"]["name"], told["engine"]["precision"]) == ("onnx", "int8")
    assert told["engine"]["tried"] == [{"kept": [], "gate": None}]
    card = (small / "README.md").read_text()
    assert "a quantized graph for ONNX Runtime (`pip install 'potstill[onnx]'`)" in card


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("classification", {}),
        ("classification", {"labels": ("score",)}),
        ("token-classification", {}),
        ("question-answering", {}),
    ],
)
def test_packed_is_padded_is_one_by_one_up_to_the_scale_of_a_call(
    tmp_path: Path, kind: str, settings: dict
) -> None:
    task = "regression" if settings else kind
    source = write_tiny_model(tmp_path / "source", kind, task=task, **settings)
    potstill.quantize(source, tmp_path / "small", engine="onnx", keep_source=True)
    assert (tmp_path / "small" / "onnx" / "last_layer.safetensors").is_file() == bool(settings)
    folder = open_folder(tmp_path / "small")
    engine = build_engine(folder, engine="onnx", precision="int8", threads=1)
    exact = build_engine(folder, engine="onnx", precision="fp32", threads=1)
    batch = random_batch(LENGTHS, token_types=True)
    expected = exact.run(batch)["logits"]
    alone = [engine.run(batch.take([text]))["logits"] for text in range(len(batch))]
    room = COMPANIONS * np.abs(expected).max()
    np.testing.assert_allclose(np.concatenate(alone), expected, atol=room)
    for size in (RowSize(), RowSize(row_tokens=1, request_tokens=64), RowSize(40, 80)):
        engine.size = size
        np.testing.assert_allclose(engine.run(batch)["logits"], np.concatenate(alone), atol=room)


def test_vectors_are_asked_for_by_both_names(tmp_path: Path) -> None:
    source = write_tiny_model(tmp_path / "source", task="embedding")
    potstill.quantize(source, tmp_path / "small", engine="onnx")
    model = potstill.load(tmp_path / "small", threads=1)
    batch = model.encode(["good", "a bad film"]).batch
    found = model.engine.run(batch, ["logits", "vectors"])
    np.testing.assert_array_equal(found["logits"], found["vectors"])
    exact = potstill.load(source, engine="onnx", threads=1).engine.run(batch, ["vectors"])
    cosines = (found["vectors"] * exact["vectors"]).sum(axis=1)
    assert cosines.min() > 0.98 * np.square(exact["vectors"]).sum(axis=1).min()


def test_with_its_source_kept_both_can_be_asked(place: Path, source: Path) -> None:
    made = place / "both"
    potstill.quantize(source, made, engine="onnx", keep_source=True)
    assert potstill.load(made).engine.precision == "int8"
    answers = potstill.load(made, engine="onnx", precision="fp32").predict(TEXTS[:5])
    assert answers == potstill.load(source, engine="onnx", precision="fp32").predict(TEXTS[:5])
    assert potstill.load(made, engine="torch", precision="fp32").engine.name == "torch"


def test_another_engine_says_what_the_bundle_holds(small: Path) -> None:
    for engine in ("openvino", "torch"):
        with pytest.raises(ModelError, match=r"holds no weights, only onnx/int8.onnx"):
            potstill.load(small, engine=engine)
    with pytest.raises(RecipeError, match="precision is 'fp32' on cpu; allowed: auto, int8 with"):
        potstill.load(small, precision="fp32")
    model = potstill.load(small)
    with pytest.raises(RecipeError, match=r"the int8 graph of this bundle does not give state\.0"):
        model.engine.run(model.encode(["good"]).batch, ["state.0"])


@pytest.mark.parametrize("fault", ["altered", "cut", "missing", "empty"])
def test_a_file_that_is_not_the_one_is_refused(
    copy: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytearray((copy / GRAPH).read_bytes())
    content[len(content) // 2] ^= 1
    if fault == "missing":
        (copy / GRAPH).unlink()
    else:
        kept = {"altered": len(content), "cut": len(content) // 2, "empty": 0}[fault]
        (copy / GRAPH).write_bytes(content[:kept])
    told = said(capsys, "predict", copy, "good")
    assert (told.status, told.out) == (2, "")
    assert "int8.onnx: the file" in told.complaint


def rewrite(bundle: Path, content: bytes) -> None:
    """Put another file in the graph's place, and its hash in the manifest."""
    (bundle / GRAPH).write_bytes(content)
    write_manifest(bundle, read_manifest(bundle))


@pytest.mark.parametrize("content", [b"", b"no graph", b"\x0a\xff\xff\xff\xff\x7f", b"\x08\x09"])
def test_what_is_no_graph_is_told_in_one_line(
    copy: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(copy, content)
    told = said(capsys, "predict", copy, "good")
    assert (told.status, told.out) == (2, "")
    assert "int8.onnx" in told.complaint
    assert "to mend it" in told.complaint


@pytest.mark.parametrize("location", ["/etc/hostname", "../weights.bin", "weights.bin"])
def test_numbers_in_another_file_are_refused(
    copy: Path, location: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(copy / GRAPH)
    tensor = max(model.graph.initializer, key=lambda each: len(each.raw_data))
    onnx.external_data_helper.set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    rewrite(copy, model.SerializeToString())
    told = said(capsys, "predict", copy, "good")
    assert (told.status, told.out) == (2, "")
    assert "the file takes numbers from another file" in told.complaint


def test_a_graph_of_another_version_is_refused(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("potstill.runtime.stored_graphs.input_names", lambda config: ["other"])
    told = said(capsys, "predict", small, "good")
    assert told.status == 2
    assert "another version of potstill; to mend it: quantize its source again" in told.complaint


def test_answering_needs_onnxruntime_alone(small: Path) -> None:
    program = (
        "import sys; sys.modules |= dict.fromkeys(['onnx', 'openvino', 'torch'])\n"
        "import potstill\n"
        f"print(potstill.load({str(small)!r}, threads=1).predict(['good'])[0]['label'])\n"
        f"print(len(potstill.tune({str(small)!r}, threads=1)['measured']))"
    )
    before = (small / "potstill.json").read_bytes()
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    (small / "potstill.json").write_bytes(before)
    assert told.returncode == 0, told.stderr
    assert told.stdout.split()[1] == str(len(SIZES))  # of rows and calls, in one precision


@pytest.mark.parametrize("package", ["onnxruntime", "onnx"])
def test_without_the_library_the_install_line_is_told(
    source: Path, small: Path, tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"'{package}'.*pip install 'potstill\[onnx\]'"):
        potstill.quantize(source, tmp_path / "out", engine="onnx")
    assert not (tmp_path / "out").exists()
    if package == "onnxruntime":
        with pytest.raises(MissingExtraError, match=r"pip install 'potstill\[onnx\]'"):
            potstill.load(small)


def test_the_gate_is_judged_through_onnx_runtime(
    place: Path, source: Path, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = place / "gated"
    words = ["--dev", rows, "--test", rows, "--floor", "0.5", "--threads", "1", "--json"]
    told = said(capsys, "quantize", source, "--engine", "onnx", "--out", out, *words)
    assert told.status == 0, told.err
    report = json.loads(told.out)
    assert report["gate"]["outcome"] == "holds"
    assert report["engine"] == "onnx"
    assert report["metrics"]["accuracy"]["value"] > 0.8
    assert report["size_bytes"] == potstill.info(out)["size_bytes"]
    assert json.loads((out / "potstill.json").read_text())["engine"]["tried"][0]["gate"]


def test_parts_are_put_back_and_a_floor_out_of_reach_is_refused(
    place: Path, source: Path, rows: Path
) -> None:
    from potstill.workflows.quantize import QuantizeOptions, quantize

    told: list[str] = []
    options = QuantizeOptions(engine="onnx", dev=str(rows), floor=1.0, threads=1)
    with pytest.raises(GateNotMet, match=r"with every part but the embedding tables in full"):
        quantize(source, place / "put-back", options, told.append)
    assert any("is put back" in line for line in told)
    assert not (place / "put-back").exists()


@pytest.mark.parametrize("precision", ["int4", "int8-weights", "int3"])
def test_a_precision_that_it_does_not_have_is_told_in_one_line(
    source: Path, tmp_path: Path, precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--engine", "onnx", "--precision", precision]
    told = said(capsys, "quantize", source, "--out", tmp_path / "out", *words)
    assert (told.status, told.out) == (2, "")
    assert f"precision is {precision!r}; allowed: int8 with the onnx engine" in told.complaint
    assert not (tmp_path / "out").exists()


def test_tune_measures_what_is_stored_beside_weights(
    place: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("potstill.workflows.tune.SAMPLE_TEXTS", ("a good film", "boring", "fun"))
    made = place / "tuned"
    potstill.quantize(source, made, engine="onnx", keep_source=True)
    before = json.loads((made / "potstill.json").read_text())["engine"]
    found = potstill.tune(made, threads=1)
    ways = {(each["engine"], each["precision"]) for each in found["measured"]}
    assert ways >= {("onnx", "int8"), ("onnx", "fp32")}
    after = json.loads((made / "potstill.json").read_text())["engine"]
    assert (after["tried"], after["processor"]) == (before["tried"], before["processor"])


def test_compare_takes_the_engine_that_a_bundle_asks_for(small: Path, rows: Path) -> None:
    told = potstill.compare([str(small)], test=str(rows))
    assert [each.measured.engine for each in told.models] == ["onnx"]


def test_a_graph_larger_than_a_file_can_be_is_refused_in_one_line(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, out = open_folder(source), tmp_path / "out"
    graph = onnx_model(folder.config, folder.answering_head, fp32_weights(folder), ["logits"])
    numbers = sum(len(each.raw_data) for each in graph.graph.initializer)
    verbs = (
        ["predict", source, "good", "--engine", "onnx"],
        ["quantize", source, "--engine", "onnx", "--out", out],
        ["export", source, "--out", out],
    )
    monkeypatch.setattr("potstill.runtime.onnx_operators.MOST_BYTES", numbers)  # in fp32: whole
    assert said(capsys, *verbs[0]).status == 0
    monkeypatch.setattr("potstill.runtime.onnx_operators.MOST_BYTES", numbers - 1)
    for words in verbs:
        told = said(capsys, *words)
        assert (told.status, told.out) == (2, "")
        assert "more than the 2 GiB that one ONNX file holds; to mend it: take the ope" in told.err
        assert told.err.count("\n") == 1
        assert not out.exists()
