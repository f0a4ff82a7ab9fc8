"""An OpenVINO graph with smaller numbers, by NNCF.

int8           weights for each output, activations by calibration with smoothing (SmoothQuant);
               the answer itself, a mean or a vector of length 1, is never rounded
int8-weights   weights alone, by output; nothing is calibrated
int4           weights alone, in groups of 64 inputs; nothing is calibrated

Sources: Xiao et al. 2022, arXiv 2211.10438 (SmoothQuant); NNCF 3.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from potstill.architectures.config import EncoderConfig
from potstill.architectures.heads import HeadSpec
from potstill.bundle.runtime_files import INT8
from potstill.compress.nncf_library import nncf
from potstill.compress.quantized_tables import scale_taken_rows
from potstill.compress.quantizer import Smaller, parts_of
from potstill.runtime.graph import POOLING, UNIT_LENGTH, Weights
from potstill.runtime.openvino_library import openvino, save_graph
from potstill.runtime.openvino_operators import openvino_model
from potstill.runtime.packed_engine import Floats, Inputs
from potstill.runtime.processors import AVX2

_GROUP = 64  # inputs that share one scale in int4


class OpenVinoQuantizer:
    """See `quantizer.Quantizer`; a graph is an `openvino.Model`."""

    def __init__(
        self, config: EncoderConfig, head: HeadSpec, weights: Weights, output: str
    ) -> None:
        """Write the graph that gives one output."""
        self.graph = openvino_model(config, head, weights, [output])
        self._group = math.gcd(_GROUP, config.hidden_size)

    def parts(self) -> dict[str, list[str]]:
        """Return the parts that can stay in full precision."""
        nodes = self.graph.get_ordered_ops()
        products = (node for node in nodes if node.get_type_name() == "MatMul")
        return parts_of(node.get_friendly_name() for node in products)

    def quantized(self, asked: Smaller) -> Any:
        """Return a quantized copy of the graph."""
        library = nncf()
        with contextlib.redirect_stdout(io.StringIO()):  # its bars would stand among our answers
            return self._made(library, asked)

    def outputs(self, graph: Any, calls: Sequence[Inputs]) -> list[Floats]:
        """Return what a graph makes of each call, the rest of it in fp32."""
        settings = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino("quantizing").Core().compile_model(graph, "CPU", settings)
        return [np.array(compiled(inputs)[0]) for inputs in calls]

    def write(self, graph: Any, file: Path) -> None:
        """Write the graph, `.xml`, and its numbers, `.bin`, beside it."""
        save_graph(graph, file)

    def _made(self, library: Any, asked: Smaller) -> Any:
        names = [*asked.kept, POOLING, UNIT_LENGTH]
        scope = library.IgnoredScope(names=names, validate=False)
        graph = self.graph.clone()
        if asked.precision == INT8:
            assert asked.calls, "activations are calibrated on texts: this is a bug"
            small = library.quantize(
                graph,
                library.Dataset(list(asked.calls)),
                model_type=library.ModelType.TRANSFORMER,
                subset_size=len(asked.calls),
                ignored_scope=scope,
                advanced_parameters=_for_processor(library, asked.processor),
            )
            scale_taken_rows(small)
            return small
        modes = library.CompressWeightsMode
        if asked.precision == "int8-weights":
            return library.compress_weights(graph, mode=modes.INT8_SYM, ignored_scope=scope)
        return library.compress_weights(
            graph,
            mode=modes.INT4_SYM,
            group_size=self._group,
            ratio=1.0,
            all_layers=True,
            ignored_scope=scope,
        )


def _for_processor(library: Any, processor: str) -> Any:
    """Return settings by which weights keep to half their range where sums of 16 bits saturate."""
    if processor != AVX2:
        return None
    fix = library.OverflowFix.ENABLE
    return library.AdvancedQuantizationParameters(overflow_fix=fix)
