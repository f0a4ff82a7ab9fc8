"""The engines by name; the libraries of one are imported only when it is chosen.

"auto" takes what the bundle asks for where it was chosen on such a processor, beside a card where
there is one; else CUDA where it is, through torch, and else the first of OpenVINO, ONNX Runtime and
torch that is installed. Nothing is measured here.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from potstill.bundle.folder import ModelFolder
from potstill.bundle.runtime_files import STORED, stored_precisions
from potstill.errors import MissingExtraError, RecipeError
from potstill.hardware import require_threads
from potstill.runtime.choice import EngineChoice, choice_of, told_choice, why_not_here
from potstill.runtime.engine import Engine
from potstill.runtime.openvino_library import openvino
from potstill.runtime.packed_engine import PackedEngine
from potstill.runtime.packed_rows import RowSize

_CARD = Path("/proc/driver/nvidia")
# Where they are called otherwise than the engine: the first answers, the others write its graph.
_LIBRARIES: Mapping[str, tuple[str, ...]] = {"onnx": ("onnxruntime", "onnx")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The engine that answers, how it is asked, and why it was taken."""

    name: str
    device: str
    precision: str
    threads: int | None
    size: RowSize | None  # that was measured; None: the usual one
    reason: str


def build_engine(
    folder: ModelFolder,
    *,
    engine: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> Engine:
    """Build the engine that is asked for.

    Raises:
        RecipeError: there is no such engine, or there are not so many threads.
        MissingExtraError: its libraries are not installed.
    """
    require_threads(threads)
    taken = taken_engine(folder, engine=engine, device=device, precision=precision, threads=threads)
    built = ENGINES[taken.name](folder, taken.device, taken.precision, taken.threads)
    built.reason = taken.reason
    if taken.size is not None and isinstance(built, PackedEngine):
        built.size = taken.size
    return built


def taken_engine(
    folder: ModelFolder,
    *,
    engine: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> Taken:
    """Decide who answers: what is named, else the bundle's choice, else the device's engine.

    What the bundle's choice says of an engine holds where that engine is named, too.

    Raises:
        RecipeError: there is no such engine.
        ModelError: the manifest's words cannot be understood.
    """
    choice, reason = choice_of(folder), "asked for"
    if engine == "auto":
        passed_over = _why_passed_over(folder, device, precision)
        if choice is not None and passed_over is None:
            engine, reason = choice.name, _reason_of(choice)
            device = choice.device if device == "auto" else device
        else:
            engine, reason = _engine_and_reason(device, precision)
            reason += f"; the bundle's choice is passed over: {passed_over}" if passed_over else ""
    if engine not in ENGINES:
        raise RecipeError(f"there is no engine {engine!r}", allowed=", ".join(["auto", *ENGINES]))
    size = None
    if choice is not None and choice.name == engine and choice.device == _device(engine, device):
        precision = choice.precision if precision == "auto" else precision
        threads, size = threads or choice.threads_here, choice.size
    return Taken(
        name=engine, device=device, precision=precision, threads=threads, size=size, reason=reason
    )


def engine_of(folder: ModelFolder, *, device: str = "auto", precision: str = "auto") -> str:
    """Return the engine that answers where none is named.

    Raises:
        ModelError: the manifest's words cannot be understood.
    """
    return taken_engine(folder, device=device, precision=precision).name


def _why_passed_over(folder: ModelFolder, device: str, precision: str) -> str | None:
    """Say what speaks against a bundle's choice; None: nothing does, or there is no choice."""
    choice = told_choice(folder)
    if choice is None or not folder.has_weights:
        return None
    why = why_not_here(choice, folder)
    if why is None and precision not in ("auto", choice.precision):
        why = f"it is in {choice.precision}"
    if why is None and device not in ("auto", choice.device):
        why = f"it is for {choice.device}"
    if why is None and not is_engine_installed(choice.name, is_stored=_is_stored(choice, folder)):
        why = f"{choice.name} is not installed"
    if why is None and device == "auto" and choice.card != has_card():
        why = f"it was measured {'beside' if choice.card else 'without'} a card"
    return why


def _reason_of(choice: EngineChoice) -> str:
    if choice.cpu_flags is None:
        return "the bundle's choice"
    is_like = "on such a processor" if choice.is_measured_here else "on another processor"
    return f"the bundle's choice, measured {is_like}"


def _device(engine: str, device: str) -> str:
    """Return the device of an engine that is asked for one."""
    if engine != "torch":
        return "cpu"
    return ("cuda" if has_card() else "cpu") if device == "auto" else device


def _is_stored(choice: EngineChoice, folder: ModelFolder) -> bool:
    is_known = choice.name in STORED
    return is_known and choice.precision in stored_precisions(folder.path, choice.name)


def chosen_engine(device: str, precision: str) -> str:
    """Return the engine for a device; fp16 and cards are torch's.

    Where none is installed it is the one whose install is told: OpenVINO, far smaller than torch.
    """
    return _engine_and_reason(device, precision)[0]


def _engine_and_reason(device: str, precision: str) -> tuple[str, str]:
    if device not in ("auto", "cpu"):
        return "torch", f"{device} is asked for"
    if precision == "fp16":
        return "torch", "fp16 is asked for"
    if device == "auto" and has_card():
        return "torch", "there is a card"
    first = next((name for name in ENGINES if is_engine_installed(name)), "openvino")
    return first, "the first that is installed"


def is_engine_installed(engine: str, *, is_stored: bool = False) -> bool:
    """Tell whether the libraries of an engine are there, to write a graph or for a stored one."""
    if engine not in ENGINES:  # a manifest's word: nothing is imported by it
        return False
    names = _LIBRARIES.get(engine, (engine,))
    return all(_is_installed(name) for name in (names[:1] if is_stored else names))


def _is_installed(package: str) -> bool:
    if package in sys.modules:
        return sys.modules[package] is not None  # None: somebody has shut it out
    return importlib.util.find_spec(package) is not None


def has_card() -> bool:
    """Tell whether a card could serve; a machine without its driver is not made to load torch."""
    if not _CARD.exists() or not _is_installed("torch"):
        return False
    import torch

    return torch.cuda.is_available()


def _openvino(folder: ModelFolder, device: str, precision: str, threads: int | None) -> Engine:
    openvino("the openvino engine")
    from potstill.runtime.openvino_engine import load_openvino_engine

    return load_openvino_engine(folder, device=device, precision=precision, threads=threads)


def _onnx(folder: ModelFolder, device: str, precision: str, threads: int | None) -> Engine:
    from potstill.runtime.onnx_engine import load_onnx_engine

    return load_onnx_engine(folder, device=device, precision=precision, threads=threads)


def _torch(folder: ModelFolder, device: str, precision: str, threads: int | None) -> Engine:
    try:
        import torch  # noqa: F401 - only to tell its absence apart from faults of our own
    except ModuleNotFoundError as error:
        raise MissingExtraError("torch", extra="train", needed_for="the torch engine") from error
    from potstill.runtime.torch_engine import load_torch_engine

    return load_torch_engine(folder, device=device, precision=precision, threads=threads)


ENGINES: dict[str, Callable[[ModelFolder, str, str, int | None], Engine]] = {
    "openvino": _openvino,
    "onnx": _onnx,
    "torch": _torch,
}
