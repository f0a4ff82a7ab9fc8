"""Which engine a bundle asks for: a choice that was measured, with the processor it was made on."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from potstill.bundle.folder import ModelFolder
from potstill.bundle.runtime_files import (
    HOW_IT_WAS_MADE,
    INT8,
    ONNX,
    OPENVINO,
    STORED,
    stored_precisions,
)
from potstill.errors import ModelError
from potstill.hardware import chosen_threads, cpu_flags, cpu_has_bf16
from potstill.runtime.packed_rows import RowSize
from potstill.runtime.processors import runs_here

_FLAGS = (
    *("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"),
    *("asimd", "i8mm", "bf16"),
)
# What engines compute in where they read weights.
_WRITTEN: Mapping[str, tuple[str, ...]] = {
    OPENVINO: ("fp32", "bf16"),
    ONNX: ("fp32",),
    "torch": ("fp32", "bf16", "fp16"),
}
_CURE = "copy the bundle again"
_COUNTS = ("row_tokens", "request_tokens", "threads", "threads_of")
_FIELDS: Mapping[str, tuple[type, ...]] = {
    **{"name": (str,), "precision": (str,), "device": (str,), "card": (bool,)},
    "processor": (str, type(None)),
    **dict.fromkeys(_COUNTS, (int, type(None))),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineChoice:
    """An engine, what it computes in, and how much at once."""

    name: str
    precision: str
    device: str = "cpu"
    row_tokens: int | None = None  # None, both: the engine's usual size
    request_tokens: int | None = None
    cpu_flags: tuple[str, ...] | None = None  # of where it was measured; None: it was not
    card: bool = False  # a card was there, and was measured too
    processor: str | None = None  # for which the stored int8 graph was made; None: nobody said
    threads: int | None = None  # fewer than all were faster; None: all that can run
    threads_of: int | None = None  # that could run when this was measured

    @property
    def size(self) -> RowSize | None:
        """Return the size of rows and calls that was measured; None: none was."""
        if self.row_tokens is None or self.request_tokens is None:
            return None
        return RowSize(self.row_tokens, self.request_tokens)

    @property
    def is_measured_here(self) -> bool:
        """Tell whether it was measured on a processor like this one, or nowhere."""
        return self.cpu_flags is None or set(self.cpu_flags) == set(flags_here())

    @property
    def threads_here(self) -> int | None:
        """Return the threads to take; None where all are, or where others can run than then."""
        return self.threads if chosen_threads() == self.threads_of else None

    def to_json(self) -> dict[str, Any]:
        """Return it as the manifest holds it."""
        return asdict(self)


def flags_here() -> tuple[str, ...]:
    """Return the flags of this processor on which speed depends; its kind where none is told."""
    told = tuple(flag for flag in _FLAGS if flag in cpu_flags())
    return told or (platform.machine().lower(),)


def choice_of(folder: ModelFolder) -> EngineChoice | None:
    """Return what a bundle asks for, None where it asks for nothing or nothing that serves here.

    A bundle that holds graphs and no weights has no other way to answer, whatever the processor;
    sizes and threads that were measured elsewhere it leaves.

    Raises:
        ModelError: the manifest's words cannot be understood.
    """
    choice = told_choice(folder)
    if choice is None or (folder.has_weights and why_not_here(choice, folder)):
        return None
    if choice.is_measured_here:
        return choice
    return replace(choice, row_tokens=None, request_tokens=None, threads=None, threads_of=None)


def told_choice(folder: ModelFolder) -> EngineChoice | None:
    """Return what a bundle's manifest says, whether or not it serves here.

    Raises:
        ModelError: its words cannot be understood.
    """
    engine = folder.manifest.engine if folder.manifest else {}
    told = {name: engine[name] for name in engine if name not in HOW_IT_WAS_MADE}
    return _read(told, str(folder.path / "potstill.json")) if told else None


def why_not_here(choice: EngineChoice, folder: ModelFolder) -> str | None:
    """Say why a bundle's choice does not serve on this processor; None: it does."""
    if choice.name not in _WRITTEN:
        return f"this version has no engine {choice.name!r}"
    if choice.precision == INT8 and not runs_here(choice.processor):
        return f"its int8 is for {choice.processor} processors"
    if not choice.is_measured_here:
        return "it was measured on another processor"
    return None if _can_be_had(choice, folder) else f"{choice.precision} cannot be had here"


def _can_be_had(choice: EngineChoice, folder: ModelFolder) -> bool:
    if choice.name in STORED and choice.precision in stored_precisions(folder.path, choice.name):
        return True
    is_of_cards = choice.precision == "fp16"
    is_of_some = choice.precision == "bf16" and choice.device == "cpu"
    return (
        choice.precision in _WRITTEN[choice.name]
        and (not is_of_cards or choice.device == "cuda")
        and (not is_of_some or cpu_has_bf16())
    )


def size_on_disk(folder: ModelFolder) -> int:
    """Return the bytes that are read to answer as the bundle asks: of a graph, else the weights.

    Raises:
        ModelError: the manifest's words cannot be understood.
    """
    choice = choice_of(folder)
    asked = ("", "") if choice is None else (choice.name, choice.precision)
    return folder.size_bytes(*asked)


def _read(told: Mapping[str, Any], where: str) -> EngineChoice:
    for name in ("name", "precision"):
        if name not in told:
            raise ModelError(f"engine has no {name}", where=where, cure=_CURE)
    for name, kinds in _FIELDS.items():
        if name in told and type(told[name]) not in kinds:
            raise ModelError(f"engine.{name} is {told[name]!r}", where=where, cure=_CURE)
    for name in _COUNTS:
        if told.get(name) is not None and told[name] < 1:
            raise ModelError(
                f"engine.{name} is {told[name]}", where=where, allowed="1 or more", cure=_CURE
            )
    if (told.get("row_tokens") is None) != (told.get("request_tokens") is None):
        raise ModelError(
            "engine has one of row_tokens and request_tokens",
            where=where,
            allowed="both, or neither",
            cure=_CURE,
        )
    if told.get("threads") is not None and told["threads"] > (told.get("threads_of") or 0):
        raise ModelError(
            f"engine.threads is {told['threads']}",
            where=where,
            allowed=f"at most engine.threads_of, which is {told.get('threads_of')}",
            cure=_CURE,
        )
    flags = told.get("cpu_flags")
    is_list = isinstance(flags, list) and all(isinstance(flag, str) for flag in flags)
    if flags is not None and not is_list:
        raise ModelError(
            f"engine.cpu_flags is {flags!r}",
            where=where,
            allowed="a list of words, or null",
            cure=_CURE,
        )
    known = {name: told[name] for name in _FIELDS if name in told}
    return EngineChoice(**known, cpu_flags=None if flags is None else tuple(flags))
