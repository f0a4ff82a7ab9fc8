"""The OpenVINO engine: packed rows in bf16 or fp32 on a CPU, without torch."""

from __future__ import annotations

from typing import Any

from potstill.bundle.folder import ModelFolder
from potstill.errors import RecipeError
from potstill.hardware import chosen_threads, cpu_has_bf16
from potstill.runtime.openvino_library import openvino
from potstill.runtime.openvino_operators import openvino_model
from potstill.runtime.packed_engine import PackedEngine, Take, told
from potstill.runtime.packed_rows import PackedRows

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
_BULK_REQUESTS = 8  # from so many on, one stream a thread pays for its own copy of the weights


class OpenVinoEngine(PackedEngine):
    """One text at a time by all threads together, many by one thread each."""

    name = "openvino"

    def _prepare(self, outputs: tuple[str, ...]) -> None:
        self._queues: dict[tuple[tuple[str, ...], int], Any] = {}
        self._queue(outputs, streams=1)

    def _call(self, outputs: tuple[str, ...], requests: list[PackedRows], take: Take) -> None:
        is_bulk = len(requests) >= _BULK_REQUESTS and self.threads > 1
        queue = self._queue(outputs, streams=self.threads if is_bulk else 1)
        queue.set_callback(
            lambda request, rows: take(rows, lambda name: request.get_tensor(name).data)
        )
        for rows in requests:
            queue.start_async(self._inputs(rows), rows)
        queue.wait_all()

    def _queue(self, outputs: tuple[str, ...], *, streams: int) -> Any:
        """Return a queue of requests to the graph of these outputs, compiled when first asked."""
        if (outputs, streams) not in self._queues:
            self._queues[outputs, streams] = self._compiled(outputs, streams)
        return self._queues[outputs, streams]

    def _compiled(self, outputs: tuple[str, ...], streams: int) -> Any:
        library = openvino("the openvino engine")
        config, head = self.folder.config, self.folder.answering_head
        settings = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[self.precision],
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": streams,
            "CPU_DENORMALS_OPTIMIZATION": True,
        }
        try:
            written = openvino_model(config, head, self._weights(), outputs)
            compiled = library.Core().compile_model(written, "CPU", settings)
        except (RuntimeError, MemoryError) as error:
            raise told(error) from error
        return library.AsyncInferQueue(compiled, streams)


def load_openvino_engine(
    folder: ModelFolder, *, device: str = "auto", precision: str = "auto", threads: int | None
) -> OpenVinoEngine:
    """Load a folder's model for inference on the CPU.

    Raises:
        ModelError: the weights do not fit.
        RecipeError: a device or precision that this engine or machine does not have.
    """
    require_cpu(device, "openvino")
    usable = [name for name in PRECISIONS if name != "bf16" or cpu_has_bf16()]
    chosen = usable[-1] if precision == "auto" else precision
    if chosen not in usable:
        raise RecipeError(
            f"precision is {precision!r} on cpu",
            allowed=f"{', '.join(['auto', *usable])} with the openvino engine on this processor",
        )
    return OpenVinoEngine(folder, precision=chosen, threads=threads or chosen_threads())


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
