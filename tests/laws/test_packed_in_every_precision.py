"""Packed = padded = one by one, by every engine in every precision that it has here.

How near stands in docs/engines.md: where activations are rounded, what is summed in another order
can round to the other side; ONNX Runtime's int8 has one scale for all tokens of a call.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import potstill
from potstill.bundle.folder import open_folder
from potstill.runtime.engine import Engine
from potstill.runtime.engines import build_engine
from potstill.runtime.packed_engine import PackedEngine
from potstill.runtime.packed_rows import RowSize
from tests.processors import needs_bf16
from tests.quantizing import TEXTS, write_source
from tests.tiny import random_batch

pytest.importorskip("nncf", reason="pip install 'potstill[quantize]'")

LENGTHS = [5, 1, 12, 7, 30, 3, 38, 9, 2]
EXACT, ROUNDED, ONE_SCALE = 1e-5, 2.0**-7, 0.1  # of the largest logit; two steps of bf16
HELD = [
    pytest.param("openvino", "fp32", EXACT),
    pytest.param("onnx", "fp32", EXACT),
    pytest.param("torch", "fp32", EXACT),
    pytest.param("openvino", "bf16", ROUNDED, marks=needs_bf16),
    pytest.param("torch", "bf16", ROUNDED),
    pytest.param("openvino", "int8", ROUNDED),
    pytest.param("openvino", "int8-weights", ROUNDED),
    pytest.param("openvino", "int4", ROUNDED),
    pytest.param("onnx", "int8", ONE_SCALE),
]


def engine_of(place: Path, engine: str, precision: str) -> Engine:
    folder = write_source(place / "source")
    if precision.startswith("int"):
        rows = (
            [{"text": text} for text in TEXTS]
            if (engine, precision) == ("openvino", "int8")
            else None
        )
        potstill.quantize(
            *(folder, place / "small"),
            engine=engine,
            precision=precision,
            calibration=rows,
            tune=False,
        )
        folder = place / "small"
    return build_engine(open_folder(folder), engine=engine, precision=precision, threads=1)


@pytest.mark.parametrize(("engine", "precision", "room"), HELD)
def test_companions_change_nothing(
    tmp_path: Path, engine: str, precision: str, room: float
) -> None:
    found = engine_of(tmp_path, engine, precision)
    batch = random_batch(LENGTHS, token_types=True)
    alone = np.concatenate([found.run(batch.take([text]))["logits"] for text in range(len(batch))])
    away = room * np.abs(alone).max()
    assert away < np.ptp(alone, axis=0).min() / 4, "answers must differ by more than the tolerance"
    sizes = [RowSize(), RowSize(row_tokens=1, request_tokens=64), RowSize(40, 80)]
    for size in sizes if isinstance(found, PackedEngine) else [None]:
        if size is not None:
            found.size = size
        together = found.run(batch)["logits"]
        np.testing.assert_allclose(together, alone, rtol=0, atol=away, err_msg=str(size))
        assert found.precision == precision
