"""ONNX Runtime's own quantization, without its advice."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from potstill.runtime.onnx_engine import onnxruntime
from potstill.runtime.onnx_operators import onnx_library


def write_with_int8_weights(
    source: Path | Any,
    target: Path,
    *,
    has_signs: bool,
    is_half_range: bool = False,
    kept: Sequence[str] = (),
) -> None:
    """Write an ONNX file with weights of 8 bits, whose activations are quantized as they come.

    Weights have a scale for each output, tables of rows one scale.

    Args:
        source: a file, or an `onnx.ModelProto`; it is left as it is.
        target: the file to write.
        has_signs: weights are symmetric about 0; else they have no sign, and a shift an output.
        is_half_range: weights of 7 bits, whose products do not saturate sums of 16 bits.
        kept: names of nodes that stay as they are.

    Raises:
        MissingExtraError: onnx or onnxruntime is not installed.
    """
    onnx_library()
    onnxruntime()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it advises what does not apply to graphs of ours
    try:
        quantize_dynamic(
            source,
            target,
            per_channel=True,
            reduce_range=is_half_range,
            weight_type=QuantType.QInt8 if has_signs else QuantType.QUInt8,
            nodes_to_exclude=list(kept),
        )
    finally:
        logging.disable(before)
