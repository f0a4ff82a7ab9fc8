"""What every engine does: a ragged batch of numpy arrays in, numpy arrays out.

Outputs by name:
    logits    (B, C) of a head that reads one vector a text, else (N, C); of embeddings the vectors
    vectors   (B, D) pooled, and normed where the recipe says so
    state.i   (N, D) hidden state i: 0 the embedding output, i after layer i
All are float32, in the order of the batch, whatever order or arrangement the engine used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from potstill.text.ragged import RaggedBatch

Outputs = dict[str, NDArray[Any]]
STATE_PREFIX = "state."


class Engine(Protocol):
    """One way of running one model."""

    reason: str  # why it was taken; empty where it was built by hand

    @property
    def name(self) -> str:
        """Return "torch", "openvino" or "onnx"."""
        ...

    @property
    def device(self) -> str:
        """Return "cpu", "cuda" or "mps"."""
        ...

    @property
    def precision(self) -> str:
        """Return the number format of the large products, or what a stored graph holds.

        That is "fp32", "bf16" or "fp16"; of stored graphs "int8", "int8-weights" or "int4".
        """
        ...

    def run(self, batch: RaggedBatch, outputs: Sequence[str] = ("logits",)) -> Outputs:
        """Return the outputs asked for.

        Raises:
            DataError: a text that does not fit the model.
            OutOfMemory: the device has no room for it.
        """
        ...
