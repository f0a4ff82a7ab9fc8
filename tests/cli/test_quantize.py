"""`potstill quantize`: smaller numbers, a gate, a bundle without weights."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import potstill
from potstill.bundle.folder import open_folder
from potstill.errors import GateNotMet, ModelError, RecipeError
from tests.command_line import said, write_jsonl
from tests.quantizing import TEXTS

pytest.importorskip("nncf", reason="pip install 'potstill[quantize]'")


@pytest.fixture(scope="module")
def small(place: Path, source: Path, rows: Path) -> Path:
    potstill.quantize(source, place / "small", calibration=rows, threads=1)
    return place / "small"


def test_a_bundle_without_weights_answers_nearly_as_its_source(source: Path, small: Path) -> None:
    assert not list(small.glob("*.safetensors"))
    model = potstill.load(small, threads=1)
    assert (model.engine.name, model.engine.precision) == ("openvino", "int8")
    ours = model.predict(TEXTS)
    theirs = potstill.load(source, precision="fp32", threads=1).predict(TEXTS)
    same = [one["label"] == other["label"] for one, other in zip(ours, theirs, strict=True)]
    assert np.mean(same) > 0.8


def test_info_tells_what_it_holds_and_what_transformers_finds(small: Path, source: Path) -> None:
    told = potstill.info(small)
    assert told["runtime_files"] == ["openvino/int8.bin", "openvino/int8.xml"]
    assert told["size_bytes"] == sum(
        (small / name).stat().st_size for name in told["runtime_files"]
    )
    assert told["engine"]["precision"] == "int8"
    assert told["transformers"]["complete"] is False
    assert told["fingerprint"] != potstill.info(source)["fingerprint"]
    assert told["warnings"] == []
    lineage = told["lineage"]
    assert lineage["quantized_from"] == potstill.info(source)["fingerprint"]
    assert lineage["quantization"] == "int8"
    assert told["engine"]["tried"] == [{"kept": [], "gate": None}]


def test_a_bundle_without_weights_holds_no_pickles_to_convert(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = said(capsys, "predict", small, "good", "--allow-pickle")
    assert told.status == 0, told.err
    assert not small.with_name("small-safetensors").exists()


def test_what_needs_weights_says_where_they_are(small: Path) -> None:
    with pytest.raises(RecipeError, match="precision is 'fp32' on cpu; allowed: auto, int8"):
        potstill.load(small, precision="fp32")
    with pytest.raises(ModelError, match=r"holds no weights, only openvino/int8.*--keep-source"):
        potstill.load(small, engine="torch")
    with pytest.raises(ModelError, match="holds no weights"):
        potstill.quantize(small, small.with_name("again"), precision="int4")
    model = potstill.load(small)
    with pytest.raises(RecipeError, match=r"the int8 graph of this bundle does not give state\.0"):
        model.engine.run(model.encode(["good"]).batch, ["state.0"])


def test_with_its_source_kept_both_can_be_asked(place: Path, source: Path) -> None:
    made = place / "both"
    report = potstill.quantize(source, made, precision="int8-weights", keep_source=True)
    assert report.warnings == [
        "no gate was asked for: give --dev and --floor to know what was lost"
    ]
    assert potstill.load(made).engine.precision == "int8-weights"
    assert potstill.load(made, precision="fp32").predict(TEXTS[:5]) == potstill.load(
        source, precision="fp32"
    ).predict(TEXTS[:5])
    assert potstill.load(made, engine="torch", precision="fp32").engine.name == "torch"
    assert potstill.info(made)["fingerprint"] == potstill.info(source)["fingerprint"]
    graph = [made / "openvino" / f"int8-weights.{ending}" for ending in ("xml", "bin")]
    size = sum(file.stat().st_size for file in graph)
    assert potstill.info(made)["size_bytes"] == report.details["size_bytes"] == size
    folder = open_folder(made)
    assert folder.size_bytes("openvino", "int8-weights") == size
    assert folder.size_bytes("torch", "fp32") == (made / "model.safetensors").stat().st_size


def test_a_copy_of_the_weights_alone_says_nothing_of_the_graph(
    place: Path, source: Path, tmp_path: Path
) -> None:
    made = place / "kept"
    potstill.quantize(source, made, precision="int4", keep_source=True)
    potstill.export(made, tmp_path / "exported", format="hf")
    potstill.load(made).save(tmp_path / "saved")
    expected = potstill.load(source, precision="fp32", threads=1).predict(TEXTS[:5])
    for copy in (tmp_path / "exported", tmp_path / "saved"):
        assert potstill.load(copy, precision="fp32", threads=1).predict(TEXTS[:5]) == expected
        assert len(potstill.load(copy, threads=1).predict(TEXTS[:5])) == 5
        told = potstill.info(copy)
        assert told["engine"] == {}
        assert "quantization" not in told["lineage"]
    pytest.importorskip("onnx", reason="pip install 'potstill[onnx]'")
    potstill.export(made, tmp_path / "onnx")
    told = json.loads((tmp_path / "onnx" / "potstill.json").read_text())
    assert told["engine"] == {}
    assert "quantized_from" not in told["lineage"]


@pytest.mark.parametrize("precision", ["int8", "int8-weights", "int4"])
def test_the_command_says_what_it_made(
    source: Path,
    rows: Path,
    tmp_path: Path,
    precision: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    texts = ["--calibration", rows] if precision != "int8-weights" else []
    words = ["--precision", precision, "--out", tmp_path / "out", *texts, "--threads", "1"]
    told = said(capsys, "quantize", source, *words).pairs
    assert told["engine"] == "openvino"
    assert told["precision"].startswith(precision)


@pytest.fixture(scope="module")
def agreed(place: Path, source: Path, rows: Path) -> tuple[Path, Path]:
    """Return rows that the source's int4 copy answers rightly, and some that it does not."""
    potstill.quantize(source, place / "int4", precision="int4")
    answers = potstill.load(place / "int4", threads=1).predict(TEXTS)
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    told = list(zip(lines, answers, strict=True))
    same = [line for line, answer in told if line["label"] == answer["label"]]
    other = [line for line, answer in told if line["label"] != answer["label"]]
    assert len(same) > 60
    assert len(other) > 2
    right, wrong = place / "right.jsonl", place / "wrong.jsonl"
    return write_jsonl(right, *same), write_jsonl(wrong, *same[:30], *other)


def test_a_floor_that_no_attempt_reaches_leaves_nothing(
    source: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["--dev", rows, "--floor", "1.0", "--threads", "1", "--json"]
    told = said(capsys, "quantize", source, "--precision", "int4", "--out", out, *words)
    assert told.status == 3
    refused = json.loads(told.out)
    last = told.err.splitlines()[-1]
    assert f"int4: {refused['refusal']}; to mend it" in last
    assert "the gate fails, floor 100.0%: retention" in last
    assert (refused["bundle"], refused["engine"], refused["precision"]) == (
        None,
        "openvino",
        "int4",
    )
    kept = [each["kept"] for each in refused["tried"]]
    parts = list(refused["sensitivity"])  # most sensitive first
    assert kept == [parts[:count] for count in range(len(parts) + 1)]
    assert {each["gate"]["outcome"] for each in refused["tried"]} <= {"fails", "undecided"}
    assert last.endswith("to mend it: lower --floor; nothing was written")
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_misses_the_floor_on_test_rows_stays_marked_so(
    source: Path, agreed: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dev, test = agreed
    out = tmp_path / "out"
    words = ["--dev", dev, "--test", test, "--floor", "0.9", "--threads", "1"]
    told = said(capsys, "quantize", source, "--precision", "int4", "--out", out, *words)
    assert told.status == 3
    (line,) = [line for line in told.err.splitlines() if "floor 90.0%" in line]
    assert "test rows" in line
    assert "a lower --floor" in line
    assert "layers" not in line
    marked = potstill.info(out)["measurements"]["quantized_gate"]
    assert marked.startswith("the gate ")
    assert "holds" not in marked
    assert f"- quantized_gate: {marked}" in (out / "README.md").read_text()
    assert marked in said(capsys, "info", out).pairs["measurements"]


def test_a_gate_that_test_rows_cannot_tell_is_undecided(
    source: Path, agreed: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dev, _ = agreed
    few, out = tmp_path / "few.jsonl", tmp_path / "out"
    few.write_text(dev.read_text().partition("\n")[0] + "\n")
    words = ["--dev", dev, "--test", few, "--floor", "0.5", "--threads", "1"]
    told = said(capsys, "quantize", source, "--precision", "int4", "--out", out, *words)
    assert told.status == 3
    undecided = "the gate is undecided, floor 50.0%: no retention can be told on 1 test row"
    assert undecided in told.err
    assert "holds" not in told.out
    assert potstill.info(out)["measurements"]["quantized_gate"] == undecided


def test_wrong_test_rows_are_told_before_any_work(
    source: Path, agreed: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dev, _ = agreed
    (tmp_path / "wrong.jsonl").write_text('{"text": "good"}\n')
    for precision in ("int4", "bf16"):
        for test in ("nowhere.jsonl", tmp_path / "wrong.jsonl"):
            words = ["--precision", precision, "--dev", dev, "--test", test, "--floor", "0.5"]
            told = said(capsys, "quantize", source, "--out", tmp_path / "out", *words)
            assert told.status == 2
            assert told.err.count("\n") == 1  # not a step was told
            assert Path(test).name in told.err


@pytest.mark.parametrize("name", ["openvino/int8.xml", "openvino/int8.bin"])
@pytest.mark.parametrize("fault", ["altered", "cut", "missing"])
def test_a_runtime_file_that_is_not_the_one_is_refused(
    small: Path, tmp_path: Path, name: str, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(small, broken)
    content = bytearray((broken / name).read_bytes())
    content[len(content) // 2] ^= 1
    if fault == "missing":
        (broken / name).unlink()
    else:
        (broken / name).write_bytes(content if fault == "altered" else content[: len(content) // 2])
    told = said(capsys, "predict", broken, "good")
    assert told.status == 2
    assert told.err.count("\n") == 1
    assert name in told.err
    assert told.out == ""


def test_a_graph_of_another_version_is_refused(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("potstill.runtime.stored_graphs.input_names", lambda config: ["other"])
    told = said(capsys, "predict", small, "good")
    assert told.status == 2
    assert "another version of potstill; to mend it: quantize its source again" in told.err


def test_what_is_compiled_is_kept_for_the_next_start(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer() -> object:
        return potstill.load(small, threads=1).predict(["the film"])

    plain = answer()
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path))
    assert answer() == plain
    (kept,) = tmp_path.rglob("*.blob")
    written = kept.stat().st_mtime_ns
    assert answer() == plain
    assert kept.stat().st_mtime_ns == written
    kept.chmod(0o600)
    kept.write_bytes(kept.read_bytes()[:1000])  # as a full disk leaves it
    assert answer() == plain


def test_an_altered_graph_is_refused_whatever_was_kept(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    copy = tmp_path / "copy"
    shutil.copytree(small, copy)
    potstill.load(copy, threads=1).predict(["the film"])
    with (copy / "openvino" / "int8.bin").open("r+b") as numbers:
        numbers.write(b"another number")
    with pytest.raises(ModelError, match="changed after the bundle was written"):
        potstill.load(copy, threads=1).predict(["the film"])


def test_a_floor_that_holds_lets_it_pass_and_test_rows_are_read_at_the_end(
    place: Path, source: Path, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = place / "gated"
    words = ["--dev", rows, "--test", rows, "--floor", "0.5", "--threads", "1", "--json"]
    told = said(capsys, "quantize", source, "--precision", "int8", "--out", out, *words)
    assert told.status == 0, told.err
    report = json.loads(told.out)
    assert report["gate"]["outcome"] == "holds"
    assert report["metrics"]["accuracy"]["value"] > 0.8
    assert report["size_bytes"] == potstill.info(out)["size_bytes"]
    assert report["source_bytes"] == potstill.info(source)["size_bytes"]
    assert report["kept"] == []
    assert json.loads((out / "potstill.json").read_text())["engine"]["tried"]


def test_parts_are_put_back_and_a_floor_out_of_reach_is_refused(
    place: Path, source: Path, rows: Path
) -> None:
    from potstill.workflows.quantize import QuantizeOptions, quantize

    told: list[str] = []
    options = QuantizeOptions(precision="int4", dev=str(rows), floor=1.0, threads=1)
    with pytest.raises(GateNotMet, match=r"in full precision|undecided"):
        quantize(source, place / "put-back", options, told.append)
    assert any("is put back" in line for line in told)
    assert not (place / "put-back").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--precision", "int3"], "precision"),
        (["--precision", "int8"], "calibrated on texts, and there are none"),
        (["--precision", "int4", "--floor", "0.9"], "a floor is judged on dev rows"),
        (["--precision", "int4", "--floor", "97"], "floor is 97"),
        (["--precision", "bf16", "--engine", "foo"], "--engine: a bundle in bf16 is read by every"),
        (
            ["--precision", "int8-weights", "--calibration", "f"],
            "--calibration: int8-weights by the openvino engine is calibrated on no texts",
        ),
        (["--precision", "bf16", "--calibration", "f"], "--calibration: bf16 is calibrated on no"),
        (["--precision", "int4", "--for", "avx2"], "--for: int4 is right on every processor"),
        (["--precision", "int4", "--accept", "point"], "--accept: there is no gate"),
    ],
)
def test_wrong_input_is_told_in_one_line(
    source: Path,
    tmp_path: Path,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = said(capsys, "quantize", source, "--out", tmp_path / "out", *words)
    assert (told.status, told.out) == (2, "")
    assert message in told.err
    assert told.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_empty_file_has_nothing_to_calibrate_on(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    told = said(
        *(capsys, "quantize", source, "--out", tmp_path / "out"),
        *("--calibration", tmp_path / "empty.jsonl"),
    )
    assert told.status == 2
    assert "empty.jsonl" in told.err


# A telemetry client sends from a process of its own, so that what is asked stands in a file.
TRACED = """
import multiprocessing, os, socket, sys

multiprocessing.set_start_method("fork")  # children keep what is patched here
asked = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY | os.O_APPEND)


def told(own, address, *more, **named):
    os.write(asked, f"{address!r}\\n".encode())
    raise OSError("nobody is asked")


socket.socket.connect = socket.socket.connect_ex = told
socket.getaddrinfo = lambda *words, **named: told(None, words)
"""
OURS = """
import potstill

potstill.quantize(sys.argv[2], sys.argv[3], calibration=sys.argv[4], threads=1)
potstill.load(sys.argv[3]).predict(["good"])
potstill.export(sys.argv[2], sys.argv[5], quantized=True)
assert not [name for name in sys.modules if "telemetry" in name.split(".")[0]]
"""
NNCF_BY_ITSELF = """
import nncf, numpy, openvino
from openvino import opset13 as ops

given = ops.parameter([-1, 8], numpy.float32)
product = ops.matmul(given, numpy.ones((8, 8), numpy.float32), False, True)
graph = openvino.Model([ops.result(product)], [given])
nncf.quantize(graph, nncf.Dataset([numpy.ones((2, 8), numpy.float32)]), subset_size=1)
"""
ENDED = """
for child in multiprocessing.active_children():
    child.join(20)
"""


# NNCF and its client are silent by themselves where one of these is set.
SILENCED_BY = ("NNCF_CI", "NNCF_DEV", "CI", "TF_BUILD", "JENKINS_URL")


def asked_by(program: str, home: Path, *words: object) -> str:
    """Run a program without pytest, in whose presence NNCF is silent by itself."""
    file = home / "asked"
    home.mkdir()
    subprocess.run(
        [sys.executable, "-c", TRACED + program + ENDED, str(file), *map(str, words)],
        env={**os.environ, "HOME": str(home)},  # where a client keeps whether it may send
        check=True,
        capture_output=True,
    )
    return file.read_text()


def test_nobody_is_told_of_it(
    source: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SILENCED_BY:
        monkeypatch.delenv(name, raising=False)
    words = [source, tmp_path / "small", rows, tmp_path / "onnx"]
    assert asked_by(OURS, tmp_path / "ours", *words) == ""
    assert "google" in asked_by(NNCF_BY_ITSELF, tmp_path / "control")
