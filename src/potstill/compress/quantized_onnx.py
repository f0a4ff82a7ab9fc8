"""An ONNX graph with int8 numbers, by ONNX Runtime's own quantization.

Weights have a scale for each output, tables of rows one scale, and activations are quantized as
they come, over all tokens of a call: nothing is calibrated. Its ways of 4 bits, and of 8 bits with
activations in blocks, were tried and left (docs/lab-log.md).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from potstill.architectures.config import EncoderConfig
from potstill.architectures.heads import HeadSpec
from potstill.bundle.runtime_files import INT8
from potstill.compress.ort_quantization import write_with_int8_weights
from potstill.compress.quantizer import Smaller, parts_of
from potstill.hardware import chosen_threads
from potstill.runtime.graph import Weights
from potstill.runtime.onnx_engine import opened
from potstill.runtime.onnx_operators import onnx_library, onnx_model
from potstill.runtime.packed_engine import Floats, Inputs
from potstill.runtime.processors import AVX2


class OnnxQuantizer:
    """See `quantizer.Quantizer`; a graph is an `onnx.ModelProto`."""

    def __init__(
        self, config: EncoderConfig, head: HeadSpec, weights: Weights, output: str
    ) -> None:
        """Write the graph that gives one output."""
        self.graph = onnx_model(config, head, weights, [output])

    def parts(self) -> dict[str, list[str]]:
        """Return the parts that can stay in full precision."""
        return parts_of(node.name for node in self.graph.graph.node if node.op_type == "MatMul")

    def quantized(self, asked: Smaller) -> Any:
        """Return a quantized copy of the graph."""
        assert asked.precision == INT8, "precisions are checked before: this is a bug"
        with tempfile.TemporaryDirectory() as place:  # the library writes files
            file = Path(place) / "graph.onnx"
            is_half_range = asked.processor == AVX2
            write_with_int8_weights(
                self.graph, file, has_signs=True, is_half_range=is_half_range, kept=asked.kept
            )
            return onnx_library().load(file)

    def outputs(self, graph: Any, calls: Sequence[Inputs]) -> list[Floats]:
        """Return what a graph makes of each call."""
        session = opened(graph.SerializeToString(), chosen_threads())
        return [np.array(session.run(None, dict(inputs))[0]) for inputs in calls]

    def write(self, graph: Any, file: Path) -> None:
        """Write the graph and its numbers into one file."""
        file.write_bytes(graph.SerializeToString())
