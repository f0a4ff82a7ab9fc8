"""The engines by name; the libraries of one are imported only when it is chosen."""

from __future__ import annotations

from collections.abc import Callable

from potstill.bundle.folder import ModelFolder
from potstill.errors import MissingExtraError, RecipeError
from potstill.runtime.engine import Engine


def build_engine(
    folder: ModelFolder,
    *,
    engine: str = "torch",
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> Engine:
    """Build the engine that is asked for.

    Raises:
        RecipeError: there is no such engine.
        MissingExtraError: its libraries are not installed.
    """
    if engine not in ENGINES:
        raise RecipeError(f"there is no engine {engine!r}", allowed=", ".join(ENGINES))
    return ENGINES[engine](folder, device, precision, threads)


def _torch(folder: ModelFolder, device: str, precision: str, threads: int | None) -> Engine:
    try:
        import torch  # noqa: F401 - only to tell its absence apart from faults of our own
    except ModuleNotFoundError as error:
        raise MissingExtraError("torch", extra="train", needed_for="the torch engine") from error
    from potstill.runtime.torch_engine import load_torch_engine

    return load_torch_engine(folder, device=device, precision=precision, threads=threads)


ENGINES: dict[str, Callable[[ModelFolder, str, str, int | None], Engine]] = {"torch": _torch}
