"""Folders of graphs, and what goes wrong around engines: one line, and nothing half done."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import potstill
from potstill.bundle.manifest import read_manifest, write_manifest
from potstill.errors import MissingExtraError, ModelError, StorageError
from potstill.workflows import copy_judge
from tests.command_line import said, write_jsonl, write_rows
from tests.folders import write_tiny_model
from tests.task_data import measure_here

pytest.importorskip("nncf", reason="pip install 'potstill[quantize]'")
pytest.importorskip("onnxruntime", reason="pip install 'potstill[onnx]'")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    labels = ("blame", "praise")
    source = write_tiny_model(
        *(folder / "source", "classification"), task="classification", labels=labels
    )
    write_rows(folder / "rows.jsonl", count=40)
    potstill.quantize(source, folder / "small", precision="int8-weights", threads=1, tune=False)
    potstill.export(source, folder / "onnx-folder", quantized=True)
    potstill.export(source, folder / "ir-folder", format="openvino")
    return folder


VERBS = {
    "info": (),
    "predict": ("good",),
    "evaluate": ("--test", "ROWS"),
    "compare": (),
    "tune": (),
    "export": ("--out", "OUT"),
    "quantize": ("--precision", "int4", "--out", "OUT"),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("folder", "what", "how"),
    [
        (
            "onnx-folder",
            "an ONNX graph (onnx/model.onnx, onnx/model_quantized.onnx)",
            "ONNX Runtime",
        ),
        ("ir-folder", "a graph for OpenVINO (openvino/openvino_model.xml)", "OpenVINO runs"),
    ],
)
def test_an_exported_folder_says_what_it_is_and_who_runs_it(
    verb: str,
    folder: str,
    what: str,
    how: str,
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    named = {"ROWS": place / "rows.jsonl", "OUT": tmp_path / "out"}
    words = [named.get(word, word) for word in VERBS[verb]]
    told = said(capsys, verb, place / folder, *words)
    assert told.status == 2
    assert f"the folder holds only {what}" in told.complaint
    assert how in told.complaint
    assert not (tmp_path / "out").exists()


def test_a_quantized_bundle_without_its_manifest_is_told_so(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "small", tmp_path / "small")
    (tmp_path / "small" / "potstill.json").unlink()
    with pytest.raises(ModelError, match=r"openvino/int8-weights\.xml.*needs its potstill\.json"):
        potstill.load(tmp_path / "small")


@pytest.mark.parametrize("engine", ["openvino", "onnx"])
@pytest.mark.parametrize("fault", ["altered", "cut", "missing"])
def test_a_last_layer_that_is_not_the_one_is_refused(
    engine: str, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = {"kind": "classification", "task": "regression", "labels": ("score",)}
    source = write_tiny_model(tmp_path / "source", **kind)
    small = tmp_path / "small"
    precision = {"openvino": "int8-weights", "onnx": "int8"}[engine]
    potstill.quantize(source, small, engine=engine, precision=precision, tune=False)
    assert said(capsys, "predict", small, "good").status == 0
    file = small / engine / "last_layer.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    if fault == "missing":
        file.unlink()
    else:
        file.write_bytes(content if fault == "altered" else content[:-4])
    told = said(capsys, "predict", small, "good")
    assert (told.status, told.out) == (2, "")
    assert f"{engine}/last_layer.safetensors" in told.complaint


def flip_last_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


GRAPH_FILES = ("openvino/int8-weights.bin", "openvino/int8-weights.xml")
ALTERED, MISSING = "was changed after the bundle was written", "is missing from the bundle"


@pytest.mark.parametrize(
    ("spoil", "names", "fault"),
    [
        (lambda file: os.truncate(file, 100), GRAPH_FILES[:1], ALTERED),
        (flip_last_bit, GRAPH_FILES[:1], ALTERED),
        (Path.unlink, GRAPH_FILES[:1], MISSING),
        (lambda file: file.write_bytes(b""), GRAPH_FILES[1:], ALTERED),
        (lambda file: shutil.rmtree(file.parent, ignore_errors=True), GRAPH_FILES, MISSING),
    ],
    ids=["cut", "one bit", "missing", "emptied", "all missing"],
)
def test_info_warns_of_each_file_that_is_not_the_one_of_the_manifest(
    spoil: Callable[[Path], object],
    names: Sequence[str],
    fault: str,
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small = shutil.copytree(place / "small", tmp_path / "small")
    assert said(capsys, "info", small, "--json").answer["warnings"] == []
    for name in names:
        spoil(small / name)
    warnings = [f"{name}: the file {fault}" for name in names]
    assert said(capsys, "info", small, "--json").answer["warnings"] == warnings
    told = said(capsys, "info", small)
    assert told.status == 0
    assert told.err.splitlines() == [f"potstill: warning: {warning}" for warning in warnings]


GRAPH_FAULTS = {
    "empty": (".xml", lambda content: b""),
    "cut": (".xml", lambda content: content[:3000]),
    "of a newer version": (".xml", lambda content: content.replace(b"opset1", b"opset99")),
    "without its last numbers": (".bin", lambda content: content[:-5000]),
}


@pytest.mark.parametrize("fault", GRAPH_FAULTS)
def test_a_graph_that_openvino_does_not_know_is_told_in_one_line(
    fault: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = shutil.copytree(place / "small", tmp_path / "small")
    ending, spoil = GRAPH_FAULTS[fault]
    graph = small / "openvino" / "int8-weights.xml"
    file = graph.with_suffix(ending)
    file.write_bytes(spoil(file.read_bytes()))
    manifest = read_manifest(small)
    assert manifest is not None
    write_manifest(small, manifest)  # so that the hashes are right
    told = said(capsys, "predict", small, "good")
    assert told.status == 2
    assert f"{graph}: openvino cannot open it: " in told.complaint
    assert "to mend it: pip install --upgrade openvino, or quantize" in told.complaint


@pytest.mark.parametrize(
    "words",
    [
        ("predict", "MODEL", "good"),
        ("predict", "MODEL", "good", "--json"),
        ("predict", "MODEL", "--input", "ROWS", "--output", "OUT.jsonl"),
        ("evaluate", "MODEL", "--test", "ROWS"),
        ("embed", "MODEL", "--input", "ROWS", "--output", "OUT.npy"),
        ("compare", "MODEL", "--rounds", "1", "--threads", "1"),
        ("export", "MODEL", "--format", "hf", "--out", "OUT"),
        ("quantize", "MODEL", "--precision", "int8-weights", "--no-tune", "--out", "OUT"),
        ("quantize", "MODEL", "--precision", "bf16", "--no-tune", "--out", "OUT"),
    ],
    ids=" ".join,
)
def test_weights_that_the_config_leaves_out_are_told_once(
    words: Sequence[str],
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = shutil.copytree(place / "source", tmp_path / "model")
    (model / "potstill.json").unlink()
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    measure_here(monkeypatch)
    named = {"MODEL": model, "ROWS": place / "rows.jsonl"}
    named |= {f"OUT{ending}": tmp_path / f"out{ending}" for ending in ("", ".jsonl", ".npy")}
    told = said(capsys, *(named.get(word, word) for word in words))
    assert told.status == 0
    assert told.err.count("16 weights are not used and not known to be ignorable: bert.en") == 1
    assert "are not used" not in told.out


@pytest.mark.parametrize("verb", ["finetune", "distill", "shrink"])
def test_nothing_is_trained_from_a_bundle_without_weights(
    verb: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = place / "rows.jsonl"
    first = "--model" if verb == "finetune" else "--teacher"
    words = [verb, first, place / "small", "--train", rows, "--out", tmp_path / "out"]
    told = said(capsys, *words, *(["--test", rows] if verb == "shrink" else []))
    assert told.status == 2
    assert "holds no weights, only openvino/int8-weights.bin" in told.complaint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "value"), [("row_tokens", 0), ("request_tokens", -1)])
def test_a_size_that_is_none_is_refused(
    name: str, value: int, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(place / "small", tmp_path / "small")
    file = tmp_path / "small" / "potstill.json"
    told = json.loads(file.read_text())
    told["engine"][name] = value
    file.write_text(json.dumps(told))
    complaint = said(capsys, "predict", tmp_path / "small", "good").complaint
    assert f"engine.{name} is {value}; allowed: 1 or more" in complaint


def test_half_a_size_is_refused(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(place / "small", tmp_path / "small")
    file = tmp_path / "small" / "potstill.json"
    told = json.loads(file.read_text())
    told["engine"] |= {"row_tokens": 48, "request_tokens": None}
    file.write_text(json.dumps(told))
    complaint = said(capsys, "predict", tmp_path / "small", "good").complaint
    assert "one of row_tokens and request_tokens; allowed: both, or neither" in complaint


def test_without_openvino_a_quantized_bundle_names_the_install_line(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'potstill\[cpu\]'"):
        potstill.load(place / "small")


def test_without_nncf_it_is_told_before_a_row_is_answered(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("the missing extra is told first")

    monkeypatch.setitem(sys.modules, "nncf", None)
    monkeypatch.setattr(copy_judge, "build_engine", never)
    rows = str(place / "rows.jsonl")
    with pytest.raises(MissingExtraError, match=r"pip install 'potstill\[quantize\]'"):
        potstill.quantize(place / "source", tmp_path / "out", dev=rows, floor=0.9)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("precision", ["int4", "bf16"])
def test_folders_above_the_output_are_made(place: Path, tmp_path: Path, precision: str) -> None:
    out = tmp_path / "new" / "folder" / "small"
    potstill.quantize(place / "source", out, precision=precision, threads=1, tune=False)
    assert potstill.load(out, threads=1).predict(["good"])
    assert [path.name for path in out.parent.iterdir()] == ["small"]


@pytest.mark.parametrize("precision", ["int8-weights", "bf16"])
def test_a_full_disk_leaves_nothing_half_written(
    place: Path, tmp_path: Path, precision: str
) -> None:
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20 * 2**10, before[1]))
    try:
        with pytest.raises(StorageError, match="free some space"):
            potstill.quantize(
                place / "source", tmp_path / "out", precision=precision, threads=1, tune=False
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_empty_texts_are_nothing_to_calibrate_on(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blank = write_jsonl(tmp_path / "blank.jsonl", *[{"text": " "}] * 4)
    words = ("--out", tmp_path / "out", "--calibration", blank)
    told = said(capsys, "quantize", place / "source", *words)
    assert told.status == 2
    assert "blank.jsonl: all texts are empty" in told.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "who"), [("none", "the bare encoder"), ("masked-lm", "masked-lm")]
)
def test_what_has_no_rows_of_its_own_is_not_calibrated(
    kind: str, who: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_tiny_model(tmp_path / "m", kind, task=None if kind == "none" else kind)
    words = ("--out", tmp_path / "out", "--calibration", place / "rows.jsonl")
    told = said(capsys, "quantize", model, *words)
    assert told.status == 2
    assert f"{who} has no rows of its own" in told.err
    assert "allowed: int8-weights, int4, bf16" in told.err


def test_compare_takes_the_engine_that_a_bundle_asks_for(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = tmp_path / "chosen"
    shutil.copytree(place / "source", chosen)
    file = chosen / "potstill.json"
    choice = {"name": "onnx", "precision": "fp32", "card": True}  # which was slower
    file.write_text(json.dumps(json.loads(file.read_text()) | {"engine": choice}))
    measure_here(monkeypatch)
    monkeypatch.setattr("potstill.runtime.engines.has_card", lambda: True)
    words = ("--rounds", "1", "--threads", "1", "--json")
    models = said(capsys, "compare", chosen, place / "small", *words).answer["models"]
    engines = [(model["engine"], model["precision"]) for model in models]
    assert engines == [("onnx", "fp32"), ("openvino", "int8-weights")]
    assert {model["engine_reason"] for model in models} == {"the bundle's choice"}
