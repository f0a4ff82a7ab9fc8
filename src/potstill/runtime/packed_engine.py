"""What engines on packed rows share: texts into rows, calls, answers back to their places.

Legend: B texts, N tokens, R rows, T slots of a row, F texts of a row at most, C outputs, D width.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.architectures.config import EncoderConfig
from potstill.architectures.fitting import require_fitting
from potstill.bundle.folder import ModelFolder
from potstill.bundle.named_weights import fp32_weights
from potstill.errors import OutOfMemory, RecipeError
from potstill.runtime import graph
from potstill.runtime.engine import Outputs
from potstill.runtime.outputs import OutputShapes
from potstill.runtime.packed_rows import PackedRows, RowSize, packed_requests, token_numbers
from potstill.text.ragged import RaggedBatch

Floats = NDArray[np.float32]
Inputs = Mapping[str, NDArray[np.int32]]
Take = Callable[[PackedRows, Callable[[str], Floats]], None]  # rows, and what gives an output

_ALL_OF_TYPE_0 = np.zeros(1, dtype=np.int32)


class PackedEngine(ABC):
    """Runs one model folder; safe to be called from several threads, one at a time."""

    name: str
    device = "cpu"

    def __init__(
        self, folder: ModelFolder, *, precision: str, threads: int, size: RowSize | None = None
    ) -> None:
        """Compile what is asked for most, so that a broken folder fails at once.

        Args:
            folder: the model.
            precision: format of the large products.
            threads: to compute with.
            size: of rows and calls; None: what serves most machines.
        """
        self.folder, self.precision, self.threads = folder, precision, threads
        self.size = size or RowSize()
        self._shapes = OutputShapes(folder.config, folder.answering_head)
        self._last_layer: tuple[Floats, Floats] | None = None  # left by the graph
        self._turn = threading.Lock()
        self._prepare((self._shapes.names[0],))

    def run(self, batch: RaggedBatch, outputs: Sequence[str] = ("logits",)) -> Outputs:
        """Return the outputs asked for: see `Engine.run`."""
        self._shapes.require_known(outputs)
        if not len(batch):
            return self._shapes.of_nothing(outputs)
        require_fitting(batch, self.folder.config)
        results = {name: self._empty(name, batch) for name in outputs}
        requests = list(packed_requests(batch, self.size))

        def take(rows: PackedRows, output: Callable[[str], Floats]) -> None:
            for name, result in results.items():
                self._put(result, name, output(name), rows, batch)

        with self._turn:
            try:
                self._call(tuple(outputs), requests, take)
            except (RuntimeError, MemoryError) as error:
                raise told(error) from error
        return results

    @abstractmethod
    def _prepare(self, outputs: tuple[str, ...]) -> None:
        """Make ready to give these outputs."""

    @abstractmethod
    def _call(self, outputs: tuple[str, ...], requests: list[PackedRows], take: Take) -> None:
        """Compute all requests and hand each to `take`, in any order."""

    def _weights(self) -> dict[str, Floats]:
        """Read the weights, and keep the layer that the graph leaves."""
        weights = fp32_weights(self.folder)
        if graph.leaves_last_layer(self.folder.answering_head):
            self._last_layer = weights["head.output.weight"], weights["head.output.bias"]
        return weights

    def _empty(self, output: str, batch: RaggedBatch) -> Floats:
        count = len(batch) if self._shapes.is_per_text(output) else batch.total_tokens
        return np.empty((count, self._shapes.width(output)), dtype=np.float32)

    def _put(
        self, result: Floats, name: str, found: Floats, rows: PackedRows, batch: RaggedBatch
    ) -> None:
        """Copy what was computed to where its texts stand in the batch."""
        if not self._shapes.is_per_text(name):
            flat_SC = found.reshape(rows.rows * rows.width, -1)
            result[token_numbers(batch, rows.texts)] = flat_SC[rows.slots]
            return
        found_BC = found[rows.row_of_text, rows.rank_of_text]
        if name == "logits" and self._last_layer is not None:
            weight_CD, bias_C = self._last_layer
            found_BC = found_BC @ weight_CD.T + bias_C
        result[rows.texts] = found_BC


def graph_inputs(rows: PackedRows, config: EncoderConfig) -> Inputs:
    """Return the inputs of a graph for some rows, by name."""
    inputs = {
        graph.IDS: rows.laid_out(rows.batch.ids),
        graph.POSITIONS: rows.laid_out(rows.batch.positions() + config.position_offset),
        graph.TEXTS: rows.text_numbers(),
        graph.FIRSTS: rows.firsts(),
    }
    if graph.has_token_types(config):
        types = rows.batch.token_types
        inputs[graph.TOKEN_TYPES] = rows.laid_out(_ALL_OF_TYPE_0 if types is None else types)
    return inputs


def require_cpu(device: str, engine: str) -> None:
    """Check the device of an engine that knows one only.

    Raises:
        RecipeError: another one is asked for.
    """
    if device not in ("auto", "cpu"):
        raise RecipeError(
            f"device is {device!r}",
            allowed=f"auto, cpu with the {engine} engine",
            cure="use --engine torch",
        )


def told(error: Exception) -> Exception:
    """Return our error where memory has ended, else the error as it is: a fault of ours."""
    words = str(error)
    is_memory = isinstance(error, MemoryError) or "alloc" in words
    cure = "lower --max-length, or answer fewer texts at once"
    return (
        OutOfMemory("the CPU has no memory left for this batch", cure=cure) if is_memory else error
    )
