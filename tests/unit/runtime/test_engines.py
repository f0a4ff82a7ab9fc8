"""Engines without torch give what the torch engine gives, on every family and head."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

from potstill.bundle.folder import ModelFolder, open_folder
from potstill.errors import DataError, MissingExtraError, RecipeError
from potstill.freed_memory import FreedMemory
from potstill.runtime.engines import build_engine, chosen_engine
from potstill.runtime.packed_rows import RowSize
from potstill.text.ragged import RaggedBatch
from tests.folders import write_tiny_model
from tests.processors import needs_bf16
from tests.tiny import random_batch

pytest.importorskip("openvino", reason="pip install 'potstill[cpu]'")
pytest.importorskip("onnxruntime", reason="pip install 'potstill[onnx]'")

NAMES = ["openvino", "onnx"]
LENGTHS = [5, 1, 12, 7, 30, 3, 38, 9, 2]
FAMILIES = ["bert", "distilbert", "roberta"]
HEADS = {
    "classification": {},
    "mean": {"kind": "classification", "pooling": "mean"},
    "number": {"kind": "classification", "labels": ("score",)},
    "token-classification": {},
    "question-answering": {},
    "masked-lm": {},
    "none": {},
}
TOLERANCE = 1e-5


def folder_of(place: Path, family: str = "bert", head: str = "classification") -> ModelFolder:
    settings = dict(HEADS[head])
    kind = settings.pop("kind", head)
    task = {"classification": "classification", "none": None}.get(kind, kind)
    return open_folder(write_tiny_model(place / "m", kind, task=task, family=family, **settings))


def fp32(folder: ModelFolder, engine: str, threads: int = 1):
    return build_engine(folder, engine=engine, precision="fp32", threads=threads)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", HEADS)
def test_all_outputs_are_those_of_torch(tmp_path: Path, family: str, head: str, name: str) -> None:
    folder = folder_of(tmp_path, family, head)
    ours, reference = fp32(folder, name), fp32(folder, "torch")
    batch = random_batch(LENGTHS, token_types=family == "bert")
    names = ["vectors", "state.0", "state.1", "state.2", *(["logits"] if head != "none" else [])]
    together = ours.run(batch, names)
    expected = reference.run(batch, names)
    for name in names:
        assert together[name].shape == expected[name].shape
        np.testing.assert_allclose(together[name], expected[name], atol=TOLERANCE, err_msg=name)
        alone = ours.run(batch, [name])[name]  # the last layer may be computed at fewer positions
        np.testing.assert_allclose(alone, expected[name], atol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("head", ["classification", "mean", "token-classification"])
def test_packed_is_padded_is_one_by_one(tmp_path: Path, head: str, name: str) -> None:
    engine = fp32(folder_of(tmp_path, head=head), name)
    batch = random_batch(LENGTHS)
    alone = [engine.run(batch.take([text]))["logits"] for text in range(len(batch))]
    for size in (RowSize(), RowSize(row_tokens=1, request_tokens=64), RowSize(40, 80)):
        engine.size = size
        found = engine.run(batch)["logits"]
        np.testing.assert_allclose(found, np.concatenate(alone), atol=TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_a_text_alone_leaves_nothing_to_the_next(tmp_path: Path, name: str) -> None:
    folder = folder_of(tmp_path)
    engine, reference = fp32(folder, name), fp32(folder, "torch")
    lengths = [9, 9, 5, 9]  # inputs stand ready by length
    batch = random_batch(lengths, token_types=True)
    without = RaggedBatch(batch.ids, batch.offsets)
    for text, given in enumerate([batch, without, batch, without]):
        one = given.take([text])
        found, expected = (each.run(one)["logits"] for each in (engine, reference))
        np.testing.assert_allclose(found, expected, atol=TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_many_requests_come_back_in_order(tmp_path: Path, name: str) -> None:
    folder = folder_of(tmp_path)
    engine = fp32(folder, name, threads=2)
    engine.size = RowSize(row_tokens=16, request_tokens=16)
    batch = random_batch([1 + number % 16 for number in range(200)])
    expected = fp32(folder, "torch").run(batch)
    np.testing.assert_allclose(engine.run(batch)["logits"], expected["logits"], atol=TOLERANCE)


@needs_bf16
def test_a_number_is_not_rounded_to_bf16(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, head="number")
    ours = build_engine(folder, engine="openvino", precision="bf16", threads=1)
    weight, bias = ours._last_layer
    ours._last_layer = weight, bias + np.float32(1000.1)
    found = ours.run(random_batch([4]))["logits"] - np.float32(1000.1)
    ours._last_layer = weight, bias
    assert abs(float(found[0, 0]) - float(ours.run(random_batch([4]))["logits"][0, 0])) < 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_no_text_gives_empty_outputs(tmp_path: Path, name: str) -> None:
    engine = fp32(folder_of(tmp_path), name)
    assert engine.run(random_batch([]), ["logits"])["logits"].shape == (0, 3)


@pytest.mark.parametrize("name", NAMES)
def test_what_does_not_fit_is_refused(tmp_path: Path, name: str) -> None:
    engine = fp32(folder_of(tmp_path), name)
    with pytest.raises(DataError, match="a text has 41 tokens"):
        engine.run(random_batch([41]))
    with pytest.raises(RecipeError, match=r"no output 'state.9'.*state.2"):
        engine.run(random_batch([3]), ["state.9"])


@pytest.mark.parametrize("name", [*NAMES, "torch"])
@pytest.mark.parametrize("texts", [[3], [3, 2]], ids=["alone", "together"])
def test_a_number_that_no_table_has_is_refused(tmp_path: Path, name: str, texts: list[int]) -> None:
    folder = folder_of(tmp_path)
    engine, rows = fp32(folder, name), folder.config.vocabulary_size
    ids, offsets = random_batch(texts).ids, random_batch(texts).offsets
    nothing = np.zeros_like(ids)
    for wrong in (rows, -1):
        with pytest.raises(DataError, match=f"token id {wrong} is not.*allowed: 0 to {rows - 1}"):
            engine.run(RaggedBatch(np.where(np.arange(len(ids)) == 1, wrong, ids), offsets))
    for wrong in (2, -1):
        types = nothing + np.int32(wrong)
        with pytest.raises(DataError, match=f"token type {wrong} is not.*allowed: 0 to 1"):
            engine.run(RaggedBatch(ids, offsets, types))


def test_results_are_of_whoever_asked_for_them(tmp_path: Path) -> None:
    engine = fp32(folder_of(tmp_path, head="masked-lm"), "onnx")
    found = weakref.ref(engine.run(random_batch(LENGTHS))["logits"])
    gc.collect()
    assert found() is None


def test_what_batches_leave_free_is_handed_back(tmp_path: Path) -> None:
    engine = fp32(folder_of(tmp_path), "torch")
    held, given_back = iter([100, 110, 150, 150]), []
    engine._freed = FreedMemory(
        held=lambda: next(held), give_back=lambda: bool(given_back.append(1)), is_kept=True
    )
    for _ in range(3):
        engine.run(random_batch(LENGTHS))
    assert len(given_back) == 1


def test_onnxruntime_plans_no_memory_by_shape(tmp_path: Path) -> None:
    """Else its arena grows with each shape that it sees (`benchmarks/bench_memory.py`)."""
    engine = fp32(folder_of(tmp_path), "onnx")
    engine.run(random_batch(LENGTHS))
    (session,) = engine._sessions.values()
    options = session.get_session_options()
    assert (options.enable_cpu_mem_arena, options.enable_mem_pattern) == (True, False)


MASKED = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import potstill
engine = potstill.load(sys.argv[1], engine=sys.argv[2], precision="fp32").engine
if sys.argv[2] == "torch":
    import torch
    print(torch.get_num_threads())
elif sys.argv[2] == "onnx":
    print(engine.threads)
else:
    compiled = engine._compiled(("logits",), is_alone=True)
    print(engine.threads, compiled.get_property("INFERENCE_NUM_THREADS"))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux alone")
@pytest.mark.parametrize("name", [*NAMES, "torch"])
def test_threads_are_those_that_the_process_may_use(tmp_path: Path, name: str) -> None:
    folder = folder_of(tmp_path)
    told = subprocess.run(
        [sys.executable, "-c", MASKED, str(folder.path), name],
        env={key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(told.stdout.split()) == {"1"}


def test_a_device_or_precision_that_is_not_there_is_told(tmp_path: Path, monkeypatch) -> None:
    folder = folder_of(tmp_path)
    for name in NAMES:
        with pytest.raises(RecipeError, match=f"device is 'cuda'.*with the {name} engine"):
            build_engine(folder, engine=name, device="cuda")
    with pytest.raises(RecipeError, match="precision is 'bf16' on cpu; allowed: auto, fp32"):
        build_engine(folder, engine="onnx", precision="bf16")
    monkeypatch.setattr("potstill.runtime.openvino_engine.cpu_has_bf16", lambda: False)
    with pytest.raises(RecipeError, match="precision is 'bf16' on cpu; allowed: auto, fp32"):
        build_engine(folder, engine="openvino", precision="bf16")
    assert build_engine(folder, engine="openvino").precision == "fp32"


@pytest.mark.parametrize(
    ("installed", "chosen"),
    [
        ({"openvino", "onnx", "onnxruntime", "torch"}, "openvino"),
        ({"onnx", "onnxruntime", "torch"}, "onnx"),
        ({"onnxruntime", "torch"}, "torch"),
        (set(), "openvino"),  # the install that is told is the smaller one
    ],
)
def test_auto_takes_the_first_that_is_installed(
    installed: set[str], chosen: str, monkeypatch
) -> None:
    monkeypatch.setattr("potstill.runtime.engines._is_installed", installed.__contains__)
    assert chosen_engine("auto", "auto") == chosen
    assert chosen_engine("cpu", "fp16") == "torch"
    assert chosen_engine("mps", "auto") == "torch"


@pytest.mark.parametrize(
    ("package", "name", "extra"),
    [("openvino", "openvino", "cpu"), ("onnxruntime", "onnx", "onnx"), ("onnx", "onnx", "onnx")],
)
def test_without_the_library_the_install_line_is_told(
    tmp_path: Path, monkeypatch, package: str, name: str, extra: str
) -> None:
    folder = folder_of(tmp_path)
    monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.setattr("sys.meta_path", [Without(package), *sys.meta_path])
    with pytest.raises(MissingExtraError, match=rf"pip install 'potstill\[{extra}\]'"):
        build_engine(folder, engine=name)


class Without:
    """Hides a package, as on a machine that does not have it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.parametrize("name", NAMES)
def test_neither_torch_nor_telemetry_is_loaded(tmp_path: Path, name: str) -> None:
    folder = folder_of(tmp_path)
    program = (
        "import sys, json, potstill\n"
        f"model = potstill.load({str(folder.path)!r}, engine={name!r})\n"
        "model.predict(['a good film'])\n"
        "print(json.dumps([model.engine.name, sorted(sys.modules)]))"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    used, modules = json.loads(told.stdout)
    assert used == name
    assert "torch" not in modules
    assert not [module for module in modules if "telemetry" in module]


@pytest.mark.parametrize("missing", ["openvino", "onnxruntime"])
def test_one_engine_does_without_the_other(tmp_path: Path, missing: str) -> None:
    folder = folder_of(tmp_path)
    program = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "import potstill\n"
        f"model = potstill.load({str(folder.path)!r}, threads=1)\n"
        "model.predict(['a good film'])\n"
        f"found = potstill.tune({str(folder.path)!r}, threads=1)\n"
        "print(model.engine.name, {each['engine'] for each in found['measured']})"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    left = "onnx" if missing == "openvino" else "openvino"
    assert told.stdout.startswith(left), told.stderr
    assert missing.removesuffix("runtime") not in told.stdout


@pytest.mark.parametrize(
    ("flags", "precision", "expected"),
    [
        ({"avx512_bf16"}, "int8", "bf16"),
        ({"avx512_bf16", "amx_bf16"}, "int8", "f32"),
        ({"avx512_bf16", "amx_bf16"}, "int4", "bf16"),
        ({"avx2"}, "int4", "f32"),
    ],
)
def test_attention_between_int8_products_stays_out_of_amx_tiles(
    flags: set[str], precision: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from potstill import hardware
    from potstill.runtime import openvino_engine

    for module in (hardware, openvino_engine):
        monkeypatch.setattr(module, "cpu_flags", lambda: frozenset(flags))
    assert openvino_engine.rest_of(precision) == expected
