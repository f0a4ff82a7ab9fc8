"""The ONNX Runtime engine: packed rows in fp32, or what a bundle holds; the smallest install."""

from __future__ import annotations

from typing import Any

from potstill.bundle.folder import ModelFolder
from potstill.bundle.onnx_files import require_self_contained
from potstill.errors import MissingExtraError, ModelError
from potstill.hardware import chosen_threads, large_blocks_given_back
from potstill.runtime.onnx_operators import onnx_model
from potstill.runtime.packed_engine import (
    PackedEngine,
    Take,
    graph_inputs,
    is_of_memory,
    require_cpu,
)
from potstill.runtime.packed_rows import PackedRows, RowSize
from potstill.runtime.stored_graphs import (
    require_inputs,
    require_usable,
    stored_graph,
    usable_precisions,
)

PRECISIONS = ("fp32",)


class OnnxEngine(PackedEngine):
    """Call after call, each by all threads."""

    name = "onnx"
    usual_size = RowSize(request_tokens=960)  # larger calls gain nothing here, or lose

    def _prepare(self, outputs: tuple[str, ...]) -> None:
        self._sessions: dict[tuple[str, ...], Any] = {}
        self._session(outputs)

    def _call(self, outputs: tuple[str, ...], requests: list[PackedRows], take: Take) -> None:
        session = self._session(outputs)
        names = [each.name for each in session.get_outputs()]
        for rows in requests:
            inputs = graph_inputs(rows, self.folder.config)
            found = dict(zip(names, session.run(names, inputs), strict=True))
            if self._is_stored:  # a stored graph has one output, whatever it is asked for as
                found |= dict.fromkeys(outputs, found[names[0]])
            take(rows, found.__getitem__)

    @property
    def _is_stored(self) -> bool:
        return self.precision not in PRECISIONS

    def _session(self, outputs: tuple[str, ...]) -> Any:
        """Return the session of the graph of these outputs, made when first asked."""
        if outputs not in self._sessions:
            self._sessions[outputs] = self._made(outputs)
        return self._sessions[outputs]

    def _made(self, outputs: tuple[str, ...]) -> Any:
        return self._stored(outputs) if self._is_stored else self._written(outputs)

    def _written(self, outputs: tuple[str, ...]) -> Any:
        config, head = self.folder.config, self.folder.answering_head
        return opened(
            onnx_model(config, head, self._weights(), outputs).SerializeToString(), self.threads
        )

    def _stored(self, outputs: tuple[str, ...]) -> Any:
        """Return a session of the graph that lies in the bundle.

        The library is given its path: read by us, the file would be held twice while it loads.
        """
        folder = self.folder
        file, self._last_layer = stored_graph(folder, self.name, self.precision, outputs)
        require_self_contained(file)
        try:
            with large_blocks_given_back():  # else 32 MB stay behind, now and then
                session = opened(str(file), self.threads)
        except Exception as error:  # the library has a class for each of its states
            if is_of_memory(error):
                raise
            raise ModelError(
                f"onnxruntime cannot open it: {error}",
                where=str(file),
                cure="pip install --upgrade onnxruntime, or quantize its source again",
            ) from error
        require_inputs([each.name for each in session.get_inputs()], folder, file)
        return session


def opened(model: str | bytes, threads: int) -> Any:
    """Return an `onnxruntime.InferenceSession` of a file or of its content."""
    library = onnxruntime()
    options = library.SessionOptions()
    options.intra_op_num_threads = threads
    # It keeps a plan of memory for each shape that it has seen, and texts have all shapes: with the
    # plans its arena grows, without them it stays at what the largest call needed.
    options.enable_mem_pattern = False
    options.log_severity_level = 3  # errors; it warns of every fold that it does not do
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    return library.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def load_onnx_engine(
    folder: ModelFolder, *, device: str = "auto", precision: str = "auto", threads: int | None
) -> OnnxEngine:
    """Load a folder's model for inference on the CPU.

    Raises:
        MissingExtraError: onnxruntime is not installed, or onnx where no graph is stored.
        ModelError: the weights do not fit.
        RecipeError: a device or precision that this engine does not have.
    """
    require_cpu(device, "onnx")
    onnxruntime()
    chosen = require_usable(precision, onnx_precisions(folder), "onnx")
    return OnnxEngine(folder, precision=chosen, threads=threads or chosen_threads())


def onnx_precisions(folder: ModelFolder) -> list[str]:
    """Return what this model can do, what to take unasked last."""
    return usable_precisions(folder, "onnx", PRECISIONS)


def onnxruntime() -> Any:
    """Return the module `onnxruntime`, its telemetry off.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import onnxruntime as found
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "onnxruntime", extra="onnx", needed_for="the onnx engine"
        ) from error
    found.disable_telemetry_events()
    return found
