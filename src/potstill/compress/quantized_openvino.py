"""An OpenVINO graph with smaller numbers, by NNCF.

int8           weights for each output, activations by calibration with smoothing (SmoothQuant);
               the answer itself, a mean or a vector of length 1, is never rounded
int8-weights   weights alone, by output; nothing is calibrated
int4           weights alone, in groups of 32 inputs; where there are texts to calibrate on, each
               weight makes up for the rounding of those before it (GPTQ)

Sources: Xiao et al. 2022, arXiv 2211.10438 (SmoothQuant); Frantar et al. 2022, arXiv 2210.17323
(GPTQ); NNCF 3.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from potstill.architectures.config import EncoderConfig
from potstill.architectures.heads import HeadSpec
from potstill.bundle.runtime_files import INT8, INT8_WEIGHTS
from potstill.compress.nncf_library import nncf
from potstill.compress.quantized_tables import scale_taken_rows
from potstill.compress.quantizer import Smaller, parts_of
from potstill.runtime.graph import POOLING, UNIT_LENGTH, Weights
from potstill.runtime.openvino_library import openvino, save_graph
from potstill.runtime.openvino_operators import openvino_model
from potstill.runtime.packed_engine import Floats, Inputs
from potstill.runtime.processors import AVX2

_GROUP = 32  # inputs that share one scale in int4
_SMOOTHING = 0.8  # SmoothQuant's alpha: the share of a product's range that weights take over


class OpenVinoQuantizer:
    """See `quantizer.Quantizer`; a graph is an `openvino.Model`."""

    def __init__(
        self, config: EncoderConfig, head: HeadSpec, weights: Weights, output: str
    ) -> None:
        """Write the graph that gives one output."""
        self.graph = openvino_model(config, head, weights, [output])
        self._group = math.gcd(_GROUP, config.hidden_size)
        self._weights_alone: tuple[Smaller, Any] | None = None  # the last, with nothing kept

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
        if asked.precision == INT8:
            return self._with_rounded_activations(library, asked)
        small = self._with_small_weights(library, replace(asked, kept=())).clone()
        self._put_back(small, asked.kept)
        return small

    def _with_rounded_activations(self, library: Any, asked: Smaller) -> Any:
        assert asked.calls, "activations are calibrated on texts: this is a bug"
        names = [*asked.kept, POOLING, UNIT_LENGTH]
        small = library.quantize(
            self.graph.clone(),
            library.Dataset(list(asked.calls)),
            model_type=library.ModelType.TRANSFORMER,
            subset_size=len(asked.calls),
            ignored_scope=library.IgnoredScope(names=names, validate=False),
            advanced_parameters=_settings(library, asked.processor),
        )
        scale_taken_rows(small)
        return small

    def _with_small_weights(self, library: Any, asked: Smaller) -> Any:
        """Return the graph with all weights small; the last one is kept, as GPTQ takes minutes."""
        if self._weights_alone is None or not _is_same(self._weights_alone[0], asked):
            scope = library.IgnoredScope(names=[POOLING, UNIT_LENGTH], validate=False)
            modes = library.CompressWeightsMode
            if asked.precision == INT8_WEIGHTS:
                settings: dict[str, Any] = {"mode": modes.INT8_SYM}
            else:
                settings = {
                    "mode": modes.INT4_SYM,
                    "group_size": self._group,
                    "ratio": 1.0,
                    "all_layers": True,
                }
                if asked.calls:
                    dataset = library.Dataset(list(asked.calls))
                    settings |= {"gptq": True, "dataset": dataset, "subset_size": len(asked.calls)}
            small = library.compress_weights(self.graph.clone(), ignored_scope=scope, **settings)
            self._weights_alone = asked, small
        return self._weights_alone[1]

    def _put_back(self, small: Any, kept: Sequence[str]) -> None:
        """Give dense layers their weights in full precision again."""
        exact = {
            node.get_friendly_name(): node.input_value(1).get_node()
            for node in self.graph.get_ordered_ops()
            if node.get_friendly_name() in kept
        }
        constant = openvino("quantizing").opset13.constant
        for node in small.get_ordered_ops():
            weights = exact.get(node.get_friendly_name())
            if weights is not None and weights.get_type_name() == "Constant":
                node.input(1).replace_source_output(constant(weights.data).output(0))


def _is_same(one: Smaller, other: Smaller) -> bool:
    return one.precision == other.precision and one.calls is other.calls


def _settings(library: Any, processor: str) -> Any:
    """Return settings of int8; weights keep to half their range where sums of 16 bits saturate."""
    fix = {"overflow_fix": library.OverflowFix.ENABLE} if processor == AVX2 else {}
    alphas = library.AdvancedSmoothQuantParameters(matmul=_SMOOTHING)
    return library.AdvancedQuantizationParameters(smooth_quant_alphas=alphas, **fix)
