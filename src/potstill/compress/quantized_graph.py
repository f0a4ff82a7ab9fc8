"""A model's graph with smaller numbers, by NNCF.

int8           weights for each output, activations by calibration with smoothing (SmoothQuant)
int8-weights   weights alone, by output; nothing is calibrated
int4           weights alone, in groups of 64 inputs; nothing is calibrated

Sources: Xiao et al. 2022, arXiv 2211.10438 (SmoothQuant); NNCF 3.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.compress.nncf_library import nncf
from potstill.compress.quantized_tables import scale_taken_rows
from potstill.runtime.openvino_library import openvino

Inputs = Mapping[str, NDArray[np.int32]]
Floats = NDArray[np.float32]

CALIBRATED = ("int8",)
PRECISIONS = ("int8", "int8-weights", "int4")
_GROUP = 64  # inputs that share one scale in int4
_OURS = ("layers.", "head.", "pooler")  # dense layers, as `graph.py` names them
_LEAST = 1e-30


def quantized(
    graph: Any, precision: str, calls: Sequence[Inputs], kept: Sequence[str], *, width: int
) -> Any:
    """Return a quantized copy of a graph.

    Args:
        graph: an `openvino.Model` of ours.
        precision: one of `PRECISIONS`.
        calls: inputs to calibrate on; of int8 alone.
        kept: dense layers, by our names, that stay as they are.
        width: the model's, which groups must divide.
    """
    library = nncf()
    with contextlib.redirect_stdout(io.StringIO()):  # its bars would stand among our answers
        return _made(library, graph, precision, calls, kept, width)


def _made(
    library: Any,
    graph: Any,
    precision: str,
    calls: Sequence[Inputs],
    kept: Sequence[str],
    width: int,
) -> Any:
    scope = library.IgnoredScope(names=list(kept), validate=False)
    if precision in CALIBRATED:
        assert calls, "activations are calibrated on texts: this is a bug"
        small = library.quantize(
            graph.clone(),
            library.Dataset(list(calls)),
            model_type=library.ModelType.TRANSFORMER,
            subset_size=len(calls),
            ignored_scope=scope,
        )
        scale_taken_rows(small)
        return small
    modes = library.CompressWeightsMode
    if precision == "int8-weights":
        return library.compress_weights(graph.clone(), mode=modes.INT8_SYM, ignored_scope=scope)
    return library.compress_weights(
        graph.clone(),
        mode=modes.INT4_SYM,
        group_size=math.gcd(_GROUP, width),
        ratio=1.0,
        all_layers=True,
        ignored_scope=scope,
    )


def parts_of(graph: Any) -> dict[str, list[str]]:
    """Return the parts that can stay in full precision, each with its dense layers.

    A part is the attention or the feed-forward of a layer, or the head.
    """
    parts: dict[str, list[str]] = {}
    for node in graph.get_ordered_ops():
        name = node.get_friendly_name()
        if node.get_type_name() == "MatMul" and name.startswith(_OURS):
            is_layer = name.startswith("layers.")
            part = ".".join(name.split(".")[:3]) if is_layer else "head"
            parts.setdefault(part, []).append(name)
    return parts


def output_error(graph: Any, smaller: Any, calls: Sequence[Inputs]) -> float:
    """Return by how much outputs are off: squares of differences over squares, in fp32."""
    exact, rough = (_outputs(each, calls) for each in (graph, smaller))
    off = sum(_squares(one - other) for one, other in zip(exact, rough, strict=True))
    return off / max(sum(_squares(one) for one in exact), _LEAST)


def _outputs(graph: Any, calls: Sequence[Inputs]) -> list[Floats]:
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino("quantizing").Core().compile_model(graph, "CPU", settings)
    return [np.array(compiled(inputs)[0]) for inputs in calls]


def _squares(values: Floats) -> float:
    return float(np.square(values, dtype=np.float64).sum())
