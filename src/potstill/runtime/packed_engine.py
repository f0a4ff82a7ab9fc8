"""What engines on packed rows share: texts into rows, calls, answers back to their places.

Legend: B texts, N tokens, R rows, T slots of a row, F texts of a row at most, C outputs, D width.
"""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.architectures.config import EncoderConfig
from potstill.architectures.fitting import require_fitting
from potstill.bundle.folder import ModelFolder
from potstill.bundle.named_weights import fp32_weights
from potstill.errors import OutOfMemory, PotstillError, RecipeError
from potstill.runtime import graph
from potstill.runtime.engine import Outputs
from potstill.runtime.outputs import OutputShapes
from potstill.runtime.packed_rows import (
    PackedRows,
    RowSize,
    bucketed,
    packed_requests,
)
from potstill.text.ragged import RaggedBatch, tokens_of

Floats = NDArray[np.float32]
Inputs = Mapping[str, NDArray[np.int32]]
_OUT_OF_MEMORY = ("bad_alloc", "can't alloc", "allocate", "allocation")  # as libraries say it
Take = Callable[[PackedRows, Callable[[str], Floats]], None]  # rows, and what gives an output


class PackedEngine(ABC):
    """Runs one model folder; safe to be called from several threads, one at a time."""

    name: str
    device = "cpu"
    reason = ""
    usual_size = RowSize()  # of rows and calls: what serves most machines
    _streams = 1  # calls that are computed at the same time

    def __init__(
        self, folder: ModelFolder, *, precision: str, threads: int, size: RowSize | None = None
    ) -> None:
        """Compile what is asked for most, so that a broken folder fails at once.

        Args:
            folder: the model.
            precision: format of the large products.
            threads: to compute with.
            size: of rows and calls; None: the usual one.
        """
        self.folder, self.precision, self.threads = folder, precision, threads
        self.size = size or self.usual_size
        self._shapes = OutputShapes(folder.config, folder.answering_head)
        self._known = frozenset(self._shapes.names)
        self._last_layer: tuple[Floats, Floats] | None = None  # left by the graph
        self._turn = threading.Lock()
        with _memory_told():
            self._prepare((self._shapes.names[0],))

    def run(self, batch: RaggedBatch, outputs: Sequence[str] = ("logits",)) -> Outputs:
        """Return the outputs asked for: see `Engine.run`."""
        if not self._known.issuperset(outputs):
            self._shapes.require_known(outputs)
        if not len(batch):
            return self._shapes.of_nothing(outputs)
        require_fitting(batch, self.folder.config)
        with _memory_told():
            return self._computed(batch, outputs)

    def _computed(self, batch: RaggedBatch, outputs: Sequence[str]) -> Outputs:
        results = {name: self._empty(name, batch) for name in outputs}
        requests = list(packed_requests(batch, self.size, streams=self._streams))

        def take(rows: PackedRows, output: Callable[[str], Floats]) -> None:
            for name, result in results.items():
                self._put(result, name, output(name), rows, batch)

        with self._turn:
            self._call(tuple(outputs), requests, take)
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
        is_per_text = self._shapes.is_per_text(name)
        places = rows.texts if is_per_text else tokens_of(rows.texts, batch.offsets)
        result[places] = self._answers(name, found, rows.batch)

    def _answers(self, name: str, found: Floats, texts: RaggedBatch) -> Floats:
        """Return what is of a call's texts or tokens, through the layer that the graph left."""
        is_per_text = self._shapes.is_per_text(name)
        answers: Floats = found[0, : len(texts) if is_per_text else texts.total_tokens]
        if name == "logits" and self._last_layer is not None:
            weight_CD, bias_C = self._last_layer
            answers = answers @ weight_CD.T + bias_C
        return answers


def graph_inputs(rows: PackedRows, config: EncoderConfig) -> Inputs:
    """Return the inputs of a graph for one call, by name.

    Numbers of tokens and of texts are filled up to few sizes; what fills is of no text.
    """
    texts = rows.batch
    numbers = 1 + texts.text_index()
    inputs: dict[str, NDArray[np.integer]] = {
        graph.IDS: texts.ids,
        graph.POSITIONS: texts.positions() + config.position_offset,
        graph.TEXTS: numbers,
        graph.FIRSTS: texts.offsets[:-1],
        graph.SLOTS: rows.slots,
    }
    if graph.has_token_types(config):
        types = texts.token_types
        inputs[graph.TOKEN_TYPES] = np.zeros_like(texts.ids) if types is None else types
    found = {name: _filled_up(values) for name, values in inputs.items()}
    found[graph.TOKENS_OF_SLOTS] = rows.laid_out(np.arange(texts.total_tokens))
    found[graph.TEXTS_OF_SLOTS] = rows.laid_out(numbers)
    return found


def inputs_alone(text: RaggedBatch, config: EncoderConfig) -> Inputs:
    """Return the inputs of one text, by name, where attention takes tokens as they lie."""
    (rows,) = packed_requests(text, RowSize())
    inputs = graph_inputs(rows, config)
    return {name: values for name, values in inputs.items() if name not in graph.LAYOUT}


def _filled_up(values: NDArray[np.integer]) -> NDArray[np.int32]:
    """Return one row of the values and zeros, (n,) -> (1, N)."""
    filled = np.zeros((1, bucketed(len(values))), dtype=np.int32)
    filled[0, : len(values)] = values
    return filled


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


@contextlib.contextmanager
def _memory_told() -> Iterator[None]:
    """Tell of memory that ended in our words; every other fault leaves as it is."""
    try:
        yield
    except Exception as error:
        if not is_of_memory(error):
            raise
        cure = "lower --max-length, or answer fewer texts at once"
        raise OutOfMemory("the CPU has no memory left for this batch", cure=cure) from error


def is_of_memory(error: Exception) -> bool:
    """Tell whether memory has ended: each library says so by a class of its own, or in words."""
    if isinstance(error, PotstillError):
        return False
    return isinstance(error, MemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY)
