"""The OpenVINO engine: packed rows in fp32, bf16, or what a bundle holds, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from potstill.bundle.folder import ModelFolder
from potstill.bundle.runtime_files import (
    LAST_LAYER,
    graph_file,
    stored_precisions,
    verified_file,
)
from potstill.bundle.safetensors_header import read_header
from potstill.bundle.weights import WeightFiles, read_tensors
from potstill.errors import RecipeError
from potstill.hardware import chosen_threads, cpu_has_bf16
from potstill.runtime.choice import choice_of
from potstill.runtime.graph import leaves_last_layer
from potstill.runtime.openvino_library import openvino
from potstill.runtime.openvino_operators import openvino_model
from potstill.runtime.packed_engine import (
    Floats,
    PackedEngine,
    Take,
    graph_inputs,
    require_cpu,
    told,
)
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
        alone = self._shapes.names[0] if self._is_stored else None  # what a stored graph gives
        queue.set_callback(
            lambda request, rows: take(rows, lambda name: request.get_tensor(alone or name).data)
        )
        for rows in requests:
            queue.start_async(graph_inputs(rows, self.folder.config), rows)
        queue.wait_all()

    def _queue(self, outputs: tuple[str, ...], *, streams: int) -> Any:
        """Return a queue of requests to the graph of these outputs, compiled when first asked."""
        if (outputs, streams) not in self._queues:
            self._queues[outputs, streams] = self._compiled(outputs, streams)
        return self._queues[outputs, streams]

    @property
    def _is_stored(self) -> bool:
        return self.precision not in PRECISIONS

    def _compiled(self, outputs: tuple[str, ...], streams: int) -> Any:
        library = openvino("the openvino engine")
        rest = "bf16" if cpu_has_bf16() else "fp32"  # of a quantized graph's other operators
        settings = {
            "INFERENCE_PRECISION_HINT": PRECISIONS.get(self.precision, PRECISIONS[rest]),
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": streams,
            "CPU_DENORMALS_OPTIMIZATION": True,
        }
        try:
            graph = self._stored(outputs) if self._is_stored else self._written(outputs)
            compiled = library.Core().compile_model(graph, "CPU", settings)
        except (RuntimeError, MemoryError) as error:
            raise told(error) from error
        return library.AsyncInferQueue(compiled, streams)

    def _written(self, outputs: tuple[str, ...]) -> Any:
        config, head = self.folder.config, self.folder.answering_head
        return openvino_model(config, head, self._weights(), outputs)

    def _stored(self, outputs: tuple[str, ...]) -> Any:
        """Return the graph that lies in the bundle, its hash checked."""
        path, manifest = self.folder.path, self.folder.manifest
        head = self.folder.answering_head
        given = {self._shapes.names[0], *(["vectors"] if head.kind == "embedding" else [])}
        if not given.issuperset(outputs):
            raise RecipeError(
                f"the {self.precision} graph of this bundle does not give {', '.join(outputs)}",
                allowed=", ".join(sorted(given)),
            )
        name = graph_file(self.precision)
        verified_file(path, name.replace(".xml", ".bin"), manifest)
        if leaves_last_layer(head):
            self._last_layer = _read_last_layer(verified_file(path, LAST_LAYER, manifest))
        return (
            openvino("the openvino engine").Core().read_model(verified_file(path, name, manifest))
        )


def _read_last_layer(file: Path) -> tuple[Floats, Floats]:
    header = read_header(file)
    found = dict(read_tensors(WeightFiles((file,), header, file.stat().st_size)))
    return found["weight"], found["bias"]


def load_openvino_engine(
    folder: ModelFolder, *, device: str = "auto", precision: str = "auto", threads: int | None
) -> OpenVinoEngine:
    """Load a folder's model for inference on the CPU.

    Raises:
        ModelError: the weights do not fit.
        RecipeError: a device or precision that this engine or machine does not have.
    """
    require_cpu(device, "openvino")
    usable = usable_precisions(folder)
    chosen = usable[-1] if precision == "auto" else precision
    if chosen not in usable:
        raise RecipeError(
            f"precision is {precision!r} on cpu",
            allowed=f"{', '.join(['auto', *usable])} with the openvino engine on this processor",
        )
    return OpenVinoEngine(folder, precision=chosen, threads=threads or chosen_threads())


def usable_precisions(folder: ModelFolder) -> list[str]:
    """Return what this model and processor can do, what to take unasked last."""
    stored = stored_precisions(folder.path)
    choice = choice_of(folder)
    if not folder.has_weights and choice is not None:  # the graph may be missing: its reader tells
        return [*(name for name in stored if name != choice.precision), choice.precision]
    written = [name for name in PRECISIONS if name != "bf16" or cpu_has_bf16()]
    if choice is not None and choice.precision in stored:
        return [*written, *(name for name in stored if name != choice.precision), choice.precision]
    return [*stored, *written]
