"""The engines by name; the libraries of one are imported only when it is chosen.

"auto" takes what the bundle asks for where it was chosen on such a processor; else CUDA where there
is one, through torch, and else the first of OpenVINO, ONNX Runtime and torch that is installed.
Nothing is measured here.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from potstill.bundle.folder import ModelFolder
from potstill.bundle.runtime_files import STORED, stored_precisions
from potstill.errors import MissingExtraError, RecipeError
from potstill.hardware import require_threads
from potstill.runtime.choice import EngineChoice, choice_of
from potstill.runtime.engine import Engine
from potstill.runtime.openvino_library import openvino
from potstill.runtime.packed_engine import PackedEngine

_CARD = Path("/proc/driver/nvidia")
# Where they are called otherwise than the engine: the first answers, the others write its graph.
_LIBRARIES: Mapping[str, tuple[str, ...]] = {"onnx": ("onnxruntime", "onnx")}


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
    choice = choice_of(folder)
    if engine == "auto":
        engine = engine_of(folder, device=device, precision=precision)
    if engine not in ENGINES:
        raise RecipeError(f"there is no engine {engine!r}", allowed=", ".join(["auto", *ENGINES]))
    if choice is not None and engine == choice.name and precision == "auto":
        precision = choice.precision
    if choice is not None and engine == choice.name and threads is None:
        threads = choice.threads_here
    built = ENGINES[engine](folder, device, precision, threads)
    if choice is not None and isinstance(built, PackedEngine) and engine == choice.name:
        built.size = choice.size
    return built


def engine_of(folder: ModelFolder, *, device: str = "auto", precision: str = "auto") -> str:
    """Return the engine that answers where none is named: the bundle's choice, else the device's.

    Raises:
        ModelError: the manifest's words cannot be understood.
    """
    choice = choice_of(folder)
    if choice is not None and _is_free(choice, folder, device, precision):
        return choice.name
    return chosen_engine(device, precision)


def _is_free(choice: EngineChoice, folder: ModelFolder, device: str, precision: str) -> bool:
    """Tell whether nothing that is asked for speaks against a bundle's choice."""
    if not folder.has_weights:
        return True
    is_same = precision in ("auto", choice.precision) and device in ("auto", "cpu")
    return is_same and is_engine_installed(choice.name, is_stored=_is_stored(choice, folder))


def _is_stored(choice: EngineChoice, folder: ModelFolder) -> bool:
    is_known = choice.name in STORED
    return is_known and choice.precision in stored_precisions(folder.path, choice.name)


def chosen_engine(device: str, precision: str) -> str:
    """Return the engine for a device; fp16 and cards are torch's.

    Where none is installed it is the one whose install is told: OpenVINO, far smaller than torch.
    """
    is_torchs = device not in ("auto", "cpu") or precision == "fp16"
    if is_torchs or (device == "auto" and _has_card()):
        return "torch"
    return next((name for name in ENGINES if is_engine_installed(name)), "openvino")


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


def _has_card() -> bool:
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
