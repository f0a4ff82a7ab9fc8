"""The OpenVINO engine: packed rows in fp32, bf16, or what a bundle holds, without torch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from potstill.bundle.folder import ModelFolder
from potstill.bundle.runtime_files import INT8, graph_files
from potstill.errors import ModelError
from potstill.hardware import chosen_threads, cpu_flags, cpu_has_bf16
from potstill.runtime.compiled_graphs import compiled_folder
from potstill.runtime.engine import Outputs
from potstill.runtime.openvino_alone import AloneRequest
from potstill.runtime.openvino_layout import without_layout
from potstill.runtime.openvino_library import openvino
from potstill.runtime.packed_engine import (
    Floats,
    PackedEngine,
    Take,
    graph_inputs,
    is_of_memory,
    require_cpu,
)
from potstill.runtime.packed_rows import PackedRows
from potstill.runtime.stored_graphs import (
    require_inputs,
    require_usable,
    stored_graph,
    usable_precisions,
)
from potstill.text.ragged import RaggedBatch

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoEngine(PackedEngine):
    """One text by all threads together, and nothing laid out; many texts by one thread each."""

    name = "openvino"

    def _prepare(self, outputs: tuple[str, ...]) -> None:
        self._queues: dict[tuple[str, ...], Any] = {}
        self._alone: dict[tuple[str, ...], AloneRequest] = {}
        self._streams = self.threads
        self._request_alone(outputs)

    def _computed(self, batch: RaggedBatch, outputs: Sequence[str]) -> Outputs:
        try:
            if len(batch) > 1:
                return super()._computed(batch, outputs)
            with self._turn:  # somebody waits: nothing that many texts would need
                output = self._reader(self._request_alone(tuple(outputs)).infer(batch))
                return {name: self._answers(name, output(name), batch).copy() for name in outputs}
        except BaseException:
            # What failed once says for ever that it is busy.
            self._queues, self._alone = {}, {}
            raise

    def _call(self, outputs: tuple[str, ...], requests: list[PackedRows], take: Take) -> None:
        queue = self._queue(outputs)
        faults: list[BaseException] = []

        def copied(request: Any, rows: PackedRows) -> None:
            try:
                take(rows, self._reader(lambda name: request.get_tensor(name).data))
            except BaseException as error:
                faults.append(error)

        queue.set_callback(copied)
        try:
            for rows in requests:
                queue.start_async(graph_inputs(rows, self.folder.config), rows)
            queue.wait_all()
        except BaseException:
            for request in queue:  # those beside the one that failed still write
                with contextlib.suppress(Exception):
                    request.wait()
            raise
        if faults:
            raise faults[0]

    def _reader(self, output: Callable[[str], Floats]) -> Callable[[str], Floats]:
        """Return what gives an output of a call by the name that it was asked for."""
        if not self._is_stored:
            return output
        only = self._shapes.names[0]  # what a stored graph gives
        return lambda _: output(only)

    def _queue(self, outputs: tuple[str, ...]) -> Any:
        """Return a queue of calls of the graph of these outputs, compiled when first asked."""
        if outputs not in self._queues:
            compiled = self._compiled(outputs, is_alone=False)
            # One more call for each stream waits ready, so that none stands still between two.
            jobs = 2 * self._streams
            self._queues[outputs] = openvino("the openvino engine").AsyncInferQueue(compiled, jobs)
        return self._queues[outputs]

    def _request_alone(self, outputs: tuple[str, ...]) -> AloneRequest:
        """Return what answers one text, its graph compiled when first asked."""
        if outputs not in self._alone:
            compiled = self._compiled(outputs, is_alone=True)
            self._alone[outputs] = AloneRequest(compiled, self.folder.config)
        return self._alone[outputs]

    @property
    def _is_stored(self) -> bool:
        return self.precision not in PRECISIONS

    def _compiled(self, outputs: tuple[str, ...], *, is_alone: bool) -> Any:
        library = openvino("the openvino engine")
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": PRECISIONS.get(self.precision) or rest_of(self.precision),
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": 1 if is_alone else self._streams,
            "CPU_DENORMALS_OPTIMIZATION": True,
        }
        if not self._is_stored:
            graph = self._written(outputs)
            graph = without_layout(graph) if is_alone else graph
            return library.Core().compile_model(graph, "CPU", settings)
        file, graph = self._stored(outputs)
        with _fault_told(file):
            graph = without_layout(graph) if is_alone else graph
            return library.Core().compile_model(graph, "CPU", settings | self._kept_compiled())

    def _kept_compiled(self) -> dict[str, str]:
        """Return the setting by which a later start finds what is compiled now."""
        manifest = self.folder.manifest
        assert manifest is not None, "a stored graph's hashes stand in a manifest"
        files = graph_files(self.name, self.precision)
        folder = compiled_folder([manifest.files[file] for file in files])
        return {} if folder is None else {"CACHE_DIR": str(folder)}

    def _written(self, outputs: tuple[str, ...]) -> Any:
        from potstill.runtime.openvino_operators import openvino_model  # a stored graph needs none

        config, head = self.folder.config, self.folder.answering_head
        return openvino_model(config, head, self._weights(), outputs)

    def _stored(self, outputs: tuple[str, ...]) -> tuple[Path, Any]:
        """Return the graph that lies in the bundle, and its file."""
        folder = self.folder
        file, self._last_layer = stored_graph(folder, self.name, self.precision, outputs)
        library = openvino("the openvino engine")
        with _fault_told(file):
            graph = library.Core().read_model(file)
            names = [each.any_name for each in graph.inputs]
        require_inputs(names, folder, file)
        return file, graph


@contextlib.contextmanager
def _fault_told(file: Path) -> Iterator[None]:
    """Tell in one line what the library says of a stored graph; memory is told elsewhere."""
    try:
        yield
    except Exception as error:  # the library has one class for all its faults, and it is Python's
        if is_of_memory(error):
            raise
        raise ModelError(
            f"openvino cannot open it: {error}",
            where=str(file),
            cure="pip install --upgrade openvino, or quantize its source again",
        ) from error


def rest_of(precision: str) -> str:
    """Return the precision of a stored graph's other operators, as OpenVINO names it.

    Where bf16 products take AMX's tiles, attention between products of 8 bits is wrong at some
    lengths (OpenVINO 2026.4; docs/lab-log.md, 2026-11-29): there it runs in fp32.
    """
    is_wrong = precision == INT8 and "amx_bf16" in cpu_flags()
    return PRECISIONS["bf16" if cpu_has_bf16() and not is_wrong else "fp32"]


def load_openvino_engine(
    folder: ModelFolder, *, device: str = "auto", precision: str = "auto", threads: int | None
) -> OpenVinoEngine:
    """Load a folder's model for inference on the CPU.

    Raises:
        ModelError: the weights do not fit.
        RecipeError: a device or precision that this engine or machine does not have.
    """
    require_cpu(device, "openvino")
    chosen = require_usable(precision, openvino_precisions(folder), "openvino")
    return OpenVinoEngine(folder, precision=chosen, threads=threads or chosen_threads())


def openvino_precisions(folder: ModelFolder) -> list[str]:
    """Return what this model and processor can do, what to take unasked last."""
    written = [name for name in PRECISIONS if name != "bf16" or cpu_has_bf16()]
    return usable_precisions(folder, "openvino", written)
