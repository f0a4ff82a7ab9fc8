"""The OpenVINO engine: packed rows in bf16 or fp32 on a CPU, without torch.

Legend: B texts, N tokens, R rows, T slots of a row, F texts of a row at most, C outputs.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.architectures.fitting import require_fitting
from potstill.bundle.folder import ModelFolder
from potstill.bundle.named_weights import fp32_weights
from potstill.errors import OutOfMemory, RecipeError
from potstill.hardware import chosen_threads, cpu_has_bf16
from potstill.runtime import openvino_graph as graph
from potstill.runtime.engine import Outputs
from potstill.runtime.openvino_library import openvino
from potstill.runtime.outputs import OutputShapes
from potstill.runtime.packed_rows import PackedRows, RowSize, packed_requests, token_numbers
from potstill.text.ragged import RaggedBatch

Floats = NDArray[np.float32]

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
_ALL_OF_TYPE_0 = np.zeros(1, dtype=np.int32)
_BULK_REQUESTS = 8  # from so many on, one stream a thread pays for its own copy of the weights


@dataclass(slots=True)
class OpenVinoEngine:
    """Runs one model folder; safe to be called from several threads, one at a time."""

    folder: ModelFolder
    precision: str
    threads: int
    size: RowSize = field(default_factory=RowSize)
    name: str = field(default="openvino", init=False)
    device: str = field(default="cpu", init=False)
    _shapes: OutputShapes = field(init=False)
    _compiled: dict[tuple[tuple[str, ...], int], Any] = field(default_factory=dict, init=False)
    _last_layer: tuple[Floats, Floats] | None = field(default=None, init=False)  # left by the graph
    _turn: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        """Compile what is asked for most, so that a broken folder fails at once."""
        self._shapes = OutputShapes(self.folder.config, self.folder.answering_head)
        self._queue((self._shapes.names[0],), streams=1)

    def run(self, batch: RaggedBatch, outputs: Sequence[str] = ("logits",)) -> Outputs:
        """Return the outputs asked for: see `Engine.run`."""
        self._shapes.require_known(outputs)
        if not len(batch):
            return self._shapes.of_nothing(outputs)
        require_fitting(batch, self.folder.config)
        results = {name: self._empty(name, batch) for name in outputs}
        requests = list(packed_requests(batch, self.size))
        is_bulk = len(requests) >= _BULK_REQUESTS and self.threads > 1
        with self._turn:
            queue = self._queue(tuple(outputs), streams=self.threads if is_bulk else 1)
            queue.set_callback(lambda request, rows: self._take(request, rows, batch, results))
            try:
                for rows in requests:
                    queue.start_async(self._inputs(rows), rows)
                queue.wait_all()
            except RuntimeError as error:
                raise _told(error) from error
        return results

    def _inputs(self, rows: PackedRows) -> dict[str, NDArray[np.int32]]:
        config = self.folder.config
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

    def _take(self, request: Any, rows: PackedRows, batch: RaggedBatch, results: Outputs) -> None:
        """Copy what a request computed to where its texts stand in the batch."""
        for name, result in results.items():
            found: NDArray[np.float32] = request.get_tensor(name).data
            if not self._shapes.is_per_text(name):
                flat_SC = found.reshape(rows.rows * rows.width, -1)
                result[token_numbers(batch, rows.texts)] = flat_SC[rows.slots]
                continue
            found_BC = found[rows.row_of_text, rows.rank_of_text]
            if name == "logits" and self._last_layer is not None:
                weight_CD, bias_C = self._last_layer
                found_BC = found_BC @ weight_CD.T + bias_C
            result[rows.texts] = found_BC

    def _empty(self, output: str, batch: RaggedBatch) -> NDArray[np.float32]:
        count = len(batch) if self._shapes.is_per_text(output) else batch.total_tokens
        return np.empty((count, self._shapes.width(output)), dtype=np.float32)

    def _queue(self, outputs: tuple[str, ...], *, streams: int) -> Any:
        """Return a queue of requests to the graph of these outputs, compiled when first asked."""
        key = (outputs, streams)
        if key not in self._compiled:
            self._compiled[key] = self._compile(outputs, streams)
        return self._compiled[key]

    def _compile(self, outputs: tuple[str, ...], streams: int) -> Any:
        ov = openvino("the openvino engine")
        head, weights = self.folder.answering_head, fp32_weights(self.folder)
        if graph.leaves_last_layer(head):
            self._last_layer = weights["head.output.weight"], weights["head.output.bias"]
        written = graph.build_graph(self.folder.config, head, weights, outputs)
        settings = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[self.precision],
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": streams,
            "CPU_DENORMALS_OPTIMIZATION": True,
        }
        try:
            compiled = ov.Core().compile_model(written, "CPU", settings)
        except RuntimeError as error:
            raise _told(error) from error
        return ov.AsyncInferQueue(compiled, streams)


def load_openvino_engine(
    folder: ModelFolder, *, device: str = "auto", precision: str = "auto", threads: int | None
) -> OpenVinoEngine:
    """Load a folder's model for inference on the CPU.

    Raises:
        MissingExtraError: openvino is not installed.
        ModelError: the weights do not fit.
        RecipeError: a device or precision that this engine or machine does not have.
    """
    openvino("the openvino engine")
    if device not in ("auto", "cpu"):
        raise RecipeError(f"device is {device!r}", allowed="auto, cpu with the openvino engine")
    usable = [name for name in PRECISIONS if name != "bf16" or cpu_has_bf16()]
    chosen = usable[-1] if precision == "auto" else precision
    if chosen not in usable:
        raise RecipeError(
            f"precision is {precision!r}",
            allowed=f"{', '.join(['auto', *usable])} with the openvino engine on this processor",
        )
    return OpenVinoEngine(folder, chosen, threads or chosen_threads())


def _told(error: RuntimeError) -> Exception:
    if "bad_alloc" in str(error) or "allocate" in str(error):
        return OutOfMemory(
            "the CPU has no memory left for this batch", cure="lower --batch-tokens or --max-length"
        )
    return error
