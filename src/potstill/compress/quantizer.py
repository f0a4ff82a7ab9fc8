"""What the gate needs of an engine's quantization: a graph, its parts, copies with smaller numbers.

A part is what can stay in full precision by itself: the attention (its products of tokens with each
other too) or the feed-forward of a layer, or the head. The tables of the embeddings are none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from potstill.runtime.packed_engine import Floats, Inputs
from potstill.runtime.processors import VNNI

Graph = Any  # the library's own

_OURS = ("layers.", "head.", "pooler")  # dense layers, as `graph.py` names them
_LEAST = 1e-30


@dataclass(frozen=True, slots=True, kw_only=True)
class Smaller:
    """What is made of a graph."""

    precision: str
    calls: Sequence[Inputs] = ()  # to calibrate on, where it is calibrated
    kept: Sequence[str] = ()  # dense layers, by their names in the graph, that stay as they are
    processor: str = VNNI  # on which int8 products are to be right


class Quantizer(Protocol):
    """The graph of one model, and one library that makes its numbers smaller."""

    graph: Graph  # in fp32

    def parts(self) -> dict[str, list[str]]:
        """Return the parts in their order, each with the names of its dense layers."""
        ...

    def quantized(self, asked: Smaller) -> Graph:
        """Return a quantized copy of the graph."""
        ...

    def outputs(self, graph: Graph, calls: Sequence[Inputs]) -> list[Floats]:
        """Return what a graph, exact or quantized, makes of each call."""
        ...

    def write(self, graph: Graph, file: Path) -> None:
        """Write a graph as its engine reads it."""
        ...


def parts_of(layers: Iterable[str]) -> dict[str, list[str]]:
    """Return the parts that the products of a graph belong to, by their names; others are none."""
    parts: dict[str, list[str]] = {}
    for name in layers:
        if name.startswith(_OURS):
            is_layer = name.startswith("layers.")
            parts.setdefault(".".join(name.split(".")[:3]) if is_layer else "head", []).append(name)
    return parts


def output_error(quantizer: Quantizer, smaller: Graph, calls: Sequence[Inputs]) -> float:
    """Return by how much outputs are off: squares of differences over squares, in fp32."""
    exact, rough = (quantizer.outputs(each, calls) for each in (quantizer.graph, smaller))
    off = sum(_squares(one - other) for one, other in zip(exact, rough, strict=True))
    return off / max(sum(_squares(one) for one in exact), _LEAST)


def _squares(values: Floats) -> float:
    return float(np.square(values, dtype=np.float64).sum())
