"""How many parameters a model has, from its sizes alone: the shape of each weight by its name."""

from __future__ import annotations

import math

from potstill.architectures.config import EncoderConfig
from potstill.architectures.heads import HeadSpec
from potstill.architectures.names import VECTOR_MAP, hf_names


def count_parameters(config: EncoderConfig, head: HeadSpec | None = None) -> int:
    """Return the number of parameters; a tied decoder counts once."""
    return sum(math.prod(shape) for shape in weight_shapes(config, head or HeadSpec()).values())


def weight_shapes(config: EncoderConfig, head: HeadSpec) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight by our name."""
    names = [*hf_names(config, head), *(VECTOR_MAP if head.width else ())]
    return {name: _shape(name, config, head) for name in names}


def _shape(name: str, config: EncoderConfig, head: HeadSpec) -> tuple[int, ...]:
    module, _, part = name.rpartition(".")
    rows, columns = _matrix(module, config, head)
    if module.endswith("norm"):
        return (rows,)
    return (rows,) if part == "bias" else (rows, columns)


def _matrix(module: str, config: EncoderConfig, head: HeadSpec) -> tuple[int, int]:
    """Return (outputs, inputs) of a dense layer, (rows, width) of a table, (width, 1) of a norm."""
    width, inner = config.hidden_size, config.feed_forward_size
    sizes = {
        "embeddings.words": (config.vocabulary_size, width),
        "embeddings.positions": (config.max_positions, width),
        "embeddings.token_types": (config.token_types, width),
        "head.output": (head.width or len(head.labels), width),
        "head.decoder": (config.vocabulary_size, width),
    }
    if module.endswith("norm"):
        return (width, 1)
    if module.endswith("feed_forward.up"):
        return (inner, width)
    if module.endswith("feed_forward.down"):
        return (width, inner)
    return sizes.get(module, (width, width))
