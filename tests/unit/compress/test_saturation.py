"""int8 on the very processor that tests run on: right where we say so, wrong where we refuse."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("nncf", reason="pip install 'potstill[quantize]'")
pytest.importorskip("onnxruntime", reason="pip install 'potstill[onnx]'")

from potstill.architectures.counting import weight_shapes
from potstill.bundle.runtime_files import STORED
from potstill.compress.calibration import calibration_calls
from potstill.compress.quantizer import Quantizer, Smaller, output_error
from potstill.compress.quantizers import quantizer_of
from potstill.runtime.processors import PROCESSORS, runs_here
from tests.tiny import random_batch, tiny_config, tiny_head

CONFIG, HEAD = tiny_config(), tiny_head("classification")
TEXTS = [3, 9, 20, 5, 30, 12]


@pytest.fixture(scope="module", params=STORED)
def saturating(request: pytest.FixtureRequest) -> Quantizer:
    """Return a model whose feed-forward products overflow 16 bits where they are summed there.

    What goes into the second product is large in every column, and so is each weight for its row.
    """
    drawn = np.random.default_rng(0)
    weights = {
        name: drawn.normal(0.0, 0.3, shape).astype(np.float32)
        for name, shape in weight_shapes(CONFIG, HEAD).items()
    }
    for name, array in weights.items():
        if name.endswith("feed_forward.up.weight"):
            weights[name] = 0.1 * array
        elif name.endswith("feed_forward.up.bias"):
            weights[name] = np.full_like(array, 4.0)
        elif name.endswith("feed_forward.down.weight"):
            of_rows = drawn.normal(0.0, 0.005, (len(array), 1)).astype(array.dtype)
            weights[name] = np.repeat(of_rows, array.shape[1], axis=1)
    return quantizer_of(request.param, CONFIG, HEAD, weights)


@pytest.mark.parametrize("processor", PROCESSORS)
def test_what_is_made_for_a_processor_is_near_where_it_runs_and_only_there(
    saturating: Quantizer, processor: str
) -> None:
    """Squares are off by 0.027 and 0.017 where sums overflow, else by 6e-6 and 2.5e-4."""
    calls = calibration_calls(random_batch(TEXTS * 10), CONFIG, source="rows", seed=0)
    small = saturating.quantized(Smaller(precision="int8", calls=calls, processor=processor))
    error = output_error(saturating, small, calls)
    assert (error < 0.002) == runs_here(processor)
