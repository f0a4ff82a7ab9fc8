"""The OpenVINO engine gives what the torch engine gives, on every family and head."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from potstill.bundle.folder import ModelFolder, open_folder
from potstill.errors import DataError, MissingExtraError, RecipeError
from potstill.runtime.engines import build_engine
from potstill.runtime.packed_rows import RowSize
from tests.folders import write_tiny_model
from tests.tiny import random_batch

pytest.importorskip("openvino", reason="pip install 'potstill[cpu]'")

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


def engines(folder: ModelFolder, precision: str = "fp32"):
    return [
        build_engine(folder, engine=name, precision=precision, threads=1)
        for name in ("openvino", "torch")
    ]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", HEADS)
def test_all_outputs_are_those_of_torch(tmp_path: Path, family: str, head: str) -> None:
    ours, reference = engines(folder_of(tmp_path, family, head))
    batch = random_batch(LENGTHS, token_types=family == "bert")
    names = ["vectors", "state.0", "state.1", "state.2", *(["logits"] if head != "none" else [])]
    together = ours.run(batch, names)
    expected = reference.run(batch, names)
    for name in names:
        assert together[name].shape == expected[name].shape
        np.testing.assert_allclose(together[name], expected[name], atol=TOLERANCE, err_msg=name)
        alone = ours.run(batch, [name])[name]  # the last layer may be computed at fewer positions
        np.testing.assert_allclose(alone, expected[name], atol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize("head", ["classification", "mean", "token-classification"])
def test_packed_is_padded_is_one_by_one(tmp_path: Path, head: str) -> None:
    engine, _ = engines(folder_of(tmp_path, head=head))
    batch = random_batch(LENGTHS)
    alone = [engine.run(batch.take([text]))["logits"] for text in range(len(batch))]
    for size in (RowSize(), RowSize(row_tokens=1, request_tokens=64), RowSize(40, 80)):
        engine.size = size
        found = engine.run(batch)["logits"]
        np.testing.assert_allclose(found, np.concatenate(alone), atol=TOLERANCE)


def test_many_requests_come_back_in_order(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    engine = build_engine(folder, engine="openvino", precision="fp32", threads=2)
    engine.size = RowSize(row_tokens=16, request_tokens=16)
    batch = random_batch([1 + number % 16 for number in range(200)])
    expected = build_engine(folder, engine="torch", precision="fp32", threads=1).run(batch)
    np.testing.assert_allclose(engine.run(batch)["logits"], expected["logits"], atol=TOLERANCE)


def test_a_number_is_not_rounded_to_bf16(tmp_path: Path) -> None:
    ours, _ = engines(folder_of(tmp_path, head="number"), "bf16")
    weight, bias = ours._last_layer
    ours._last_layer = weight, bias + np.float32(1000.1)
    found = ours.run(random_batch([4]))["logits"] - np.float32(1000.1)
    ours._last_layer = weight, bias
    assert abs(float(found[0, 0]) - float(ours.run(random_batch([4]))["logits"][0, 0])) < 1e-3


def test_no_text_gives_empty_outputs(tmp_path: Path) -> None:
    engine, _ = engines(folder_of(tmp_path))
    assert engine.run(random_batch([]), ["logits"])["logits"].shape == (0, 3)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    engine, _ = engines(folder_of(tmp_path))
    with pytest.raises(DataError, match="a text has 41 tokens"):
        engine.run(random_batch([41]))
    with pytest.raises(DataError, match=r"token id \d+ is not in the model's vocabulary"):
        engine.run(random_batch([30], vocabulary=100, seed=4))
    with pytest.raises(RecipeError, match=r"no output 'state.9'.*state.2"):
        engine.run(random_batch([3]), ["state.9"])


def test_a_device_or_precision_that_is_not_there_is_told(tmp_path: Path, monkeypatch) -> None:
    folder = folder_of(tmp_path)
    with pytest.raises(RecipeError, match="device is 'cuda'"):
        build_engine(folder, engine="openvino", device="cuda")
    monkeypatch.setattr("potstill.runtime.openvino_engine.cpu_has_bf16", lambda: False)
    with pytest.raises(RecipeError, match="precision is 'bf16'; allowed: auto, fp32"):
        build_engine(folder, engine="openvino", precision="bf16")
    assert build_engine(folder, engine="openvino").precision == "fp32"


def test_without_the_library_the_install_line_is_told_and_auto_takes_torch(
    tmp_path: Path, monkeypatch
) -> None:
    folder = folder_of(tmp_path)
    monkeypatch.setattr("potstill.runtime.engines._is_installed", lambda name: name == "torch")
    assert build_engine(folder).name == "torch"
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    monkeypatch.setattr("sys.meta_path", [Without("openvino"), *sys.meta_path])
    with pytest.raises(MissingExtraError, match=r"pip install 'potstill\[cpu\]'"):
        build_engine(folder, engine="openvino")


class Without:
    """Hides a package, as on a machine that does not have it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_neither_torch_nor_telemetry_is_loaded(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    program = (
        "import sys, json, potstill\n"
        f"model = potstill.load({str(folder.path)!r})\n"
        "model.predict(['a good film'])\n"
        "print(json.dumps([model.engine.name, sorted(sys.modules)]))"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    name, modules = json.loads(told.stdout)
    assert name == "openvino"
    assert "torch" not in modules
    assert not [module for module in modules if "telemetry" in module]
