"""The ONNX Runtime engine: packed rows in fp32 on a CPU, the smallest install."""

from __future__ import annotations

from typing import Any

from potstill.bundle.folder import ModelFolder
from potstill.errors import MissingExtraError, RecipeError
from potstill.hardware import chosen_threads
from potstill.runtime.onnx_operators import onnx_model
from potstill.runtime.packed_engine import PackedEngine, Take, graph_inputs, require_cpu, told
from potstill.runtime.packed_rows import PackedRows


class OnnxEngine(PackedEngine):
    """Call after call, each by all threads."""

    name = "onnx"

    def _prepare(self, outputs: tuple[str, ...]) -> None:
        self._sessions: dict[tuple[str, ...], Any] = {}
        self._session(outputs)

    def _call(self, outputs: tuple[str, ...], requests: list[PackedRows], take: Take) -> None:
        session = self._session(outputs)
        for rows in requests:
            inputs = graph_inputs(rows, self.folder.config)
            found = dict(zip(outputs, session.run(list(outputs), inputs), strict=True))
            take(rows, found.__getitem__)

    def _session(self, outputs: tuple[str, ...]) -> Any:
        """Return the session of the graph of these outputs, made when first asked."""
        if outputs not in self._sessions:
            self._sessions[outputs] = self._made(outputs)
        return self._sessions[outputs]

    def _made(self, outputs: tuple[str, ...]) -> Any:
        library = onnxruntime()
        config, head = self.folder.config, self.folder.answering_head
        options = library.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3  # errors; it warns of every fold that it does not do
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        try:
            written = onnx_model(config, head, self._weights(), outputs).SerializeToString()
            return library.InferenceSession(written, options, providers=["CPUExecutionProvider"])
        except (RuntimeError, MemoryError) as error:
            raise told(error) from error


def load_onnx_engine(
    folder: ModelFolder, *, device: str = "auto", precision: str = "auto", threads: int | None
) -> OnnxEngine:
    """Load a folder's model for inference on the CPU.

    Raises:
        MissingExtraError: onnxruntime or onnx is not installed.
        ModelError: the weights do not fit.
        RecipeError: a device or precision that this engine does not have.
    """
    require_cpu(device, "onnx")
    if precision not in ("auto", "fp32"):
        raise RecipeError(
            f"precision is {precision!r} on cpu", allowed="auto, fp32 with the onnx engine"
        )
    onnxruntime()
    return OnnxEngine(folder, precision="fp32", threads=threads or chosen_threads())


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
