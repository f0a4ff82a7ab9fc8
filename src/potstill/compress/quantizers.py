"""The quantizers by their engine; the libraries of one are imported only when it is chosen."""

from __future__ import annotations

from potstill.architectures.config import EncoderConfig
from potstill.architectures.heads import HeadSpec
from potstill.bundle.runtime_files import INT4, INT8, ONNX, OPENVINO, STORED
from potstill.compress.quantizer import Quantizer
from potstill.errors import RecipeError
from potstill.recipe import require_choice
from potstill.runtime.graph import Weights
from potstill.runtime.outputs import OutputShapes


def quantizer_of(engine: str, config: EncoderConfig, head: HeadSpec, weights: Weights) -> Quantizer:
    """Write a model's graph for an engine.

    Raises:
        MissingExtraError: a library that it takes is not installed.
    """
    output = OutputShapes(config, head).names[0]
    if engine == OPENVINO:
        from potstill.compress.quantized_openvino import OpenVinoQuantizer

        return OpenVinoQuantizer(config, head, weights, output)
    assert engine == ONNX, "engines are checked before: this is a bug"
    from potstill.compress.quantized_onnx import OnnxQuantizer

    return OnnxQuantizer(config, head, weights, output)


def require_quantizing_library(engine: str) -> None:
    """Check that what quantizes for an engine is installed.

    Raises:
        MissingExtraError: the message holds the install line.
    """
    if engine == OPENVINO:
        from potstill.compress.nncf_library import nncf

        nncf()
    else:
        from potstill.runtime.onnx_engine import onnxruntime
        from potstill.runtime.onnx_operators import onnx_library

        onnxruntime()
        onnx_library()


def require_precision(engine: str, precision: str) -> None:
    """Check that an engine's library makes such numbers.

    Raises:
        RecipeError: naming those that it makes.
    """
    require_choice("engine", engine, STORED)
    if precision not in STORED[engine]:
        others = [name for name in STORED if precision in STORED[name]]
        raise RecipeError(
            f"precision is {precision!r}",
            allowed=f"{', '.join(STORED[engine])} with the {engine} engine, or bf16",
            cure=f"use --engine {others[0]}" if others else None,
        )


def is_calibrated(engine: str, precision: str) -> bool:
    """Tell whether texts are needed; ONNX Runtime quantizes activations as they come."""
    return engine == OPENVINO and precision == INT8


def gains_by_texts(engine: str, precision: str) -> bool:
    """Tell whether texts make it nearer, needed or not."""
    return engine == OPENVINO and precision in {INT8, INT4}
