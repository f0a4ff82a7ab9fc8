"""Memory that ends while engines answer is told, and the next batch is answered."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from potstill.bundle.folder import open_folder
from potstill.errors import DataError, OutOfMemory
from potstill.runtime import packed_engine
from potstill.runtime.engines import build_engine
from potstill.runtime.packed_engine import PackedEngine, is_of_memory
from potstill.runtime.packed_rows import RowSize
from tests.folders import write_tiny_model
from tests.tiny import random_batch

pytest.importorskip("openvino", reason="pip install 'potstill[cpu]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'potstill[onnx]'")

NAMES = ["openvino", "onnx"]
OUTPUTS = ("logits",)
BATCH = random_batch([5, 1, 12, 7, 30, 3])


def engine_of(place: Path, name: str) -> PackedEngine:
    folder = open_folder(write_tiny_model(place / "m", "classification", task="classification"))
    engine = build_engine(folder, engine=name, precision="fp32", threads=2)
    assert isinstance(engine, PackedEngine)
    engine.size = RowSize(row_tokens=8, request_tokens=8)  # many calls
    return engine


def no_memory(*_words: object, **_named: object) -> None:
    raise MemoryError


def require_answers(engine: PackedEngine, expected: np.ndarray) -> None:
    np.testing.assert_allclose(engine.run(BATCH)["logits"], expected, atol=1e-6)
    one = engine.run(BATCH.take([1]))["logits"]
    np.testing.assert_allclose(one, expected[1:2], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", ["_put", "_empty", "packed_requests"])
def test_wherever_memory_ends_it_is_told_and_the_next_batch_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, place: str
) -> None:
    engine = engine_of(tmp_path, name)
    expected = engine.run(BATCH)["logits"]
    with monkeypatch.context() as patch:
        owner = packed_engine if place == "packed_requests" else PackedEngine
        patch.setattr(owner, place, no_memory)  # in OpenVINO's callback all calls raise at once
        for _ in range(2):
            with pytest.raises(OutOfMemory, match="answer fewer texts at once"):
                engine.run(BATCH)
    require_answers(engine, expected)


class BusyQueue:
    """What a queue of OpenVINO's is after a request of it has failed."""

    def __iter__(self):
        return iter([self])

    def set_callback(self, _copy: object) -> None:
        pass

    def start_async(self, *_inputs: object, **_named: object) -> None:
        raise RuntimeError("[CPU] Subgraph node with name 'Transpose_12' can't alloc\n")

    infer = start_async

    def wait(self, **_named: object) -> None:
        raise RuntimeError("Infer Request is busy")


@pytest.mark.parametrize("is_alone", [True, False])
def test_a_queue_that_failed_is_not_asked_again(tmp_path: Path, *, is_alone: bool) -> None:
    engine = engine_of(tmp_path, "openvino")
    expected = engine.run(BATCH)["logits"]
    (engine._alone if is_alone else engine._queues)[OUTPUTS] = BusyQueue()
    with pytest.raises(OutOfMemory):
        engine.run(BATCH.take([1]) if is_alone else BATCH)
    assert not engine._queues
    assert not engine._alone
    require_answers(engine, expected)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("Failed to allocate memory for requested buffer of size 8"), True),
        (onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException("std::bad_alloc"), True),
        (RuntimeError("malloc_trim is missing"), False),
        (RuntimeError("shapes differ"), False),
        (DataError("a text about allocation"), False),
    ],
)
def test_what_is_of_memory_is_known_by_its_class_or_its_words(
    error: Exception, *, expected: bool
) -> None:
    assert is_of_memory(error) == expected


LOADING = """
import sys, threading
import potstill
texts, found, ready = ["good"], [], threading.Barrier(6)
def load():
    ready.wait()
    try:
        found.append(len(potstill.load(sys.argv[1], engine="openvino", threads=1).predict(texts)))
    except BaseException as error:
        found.append(repr(error))
threads = [threading.Thread(target=load) for _ in range(6)]
[each.start() for each in threads]
[each.join() for each in threads]
assert found == [1] * 6, found
"""


def test_first_loads_in_several_threads_all_answer(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "m", "classification", task="classification")
    subprocess.run([sys.executable, "-c", LOADING, folder], check=True, timeout=300)
