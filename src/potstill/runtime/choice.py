"""Which engine a bundle asks for: a choice that was measured, with the processor it was made on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from potstill.bundle.folder import ModelFolder
from potstill.bundle.runtime_files import INT8
from potstill.errors import ModelError
from potstill.hardware import chosen_threads, cpu_flags
from potstill.runtime.packed_rows import RowSize
from potstill.runtime.processors import runs_here

_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "i8mm")
_USUAL = RowSize()
_CURE = "copy the bundle again"
_FIELDS: Mapping[str, tuple[type, ...]] = {
    **{"name": (str,), "precision": (str,), "row_tokens": (int,), "request_tokens": (int,)},
    "processor": (str, type(None)),
    **dict.fromkeys(("threads", "threads_of"), (int, type(None))),
}
_COUNTS = ("row_tokens", "request_tokens", "threads", "threads_of")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineChoice:
    """An engine, what it computes in, and how much at once."""

    name: str
    precision: str
    row_tokens: int = _USUAL.row_tokens
    request_tokens: int = _USUAL.request_tokens
    cpu_flags: tuple[str, ...] = ()  # on which speed depends
    processor: str | None = None  # for which the stored int8 graph was made; None: nobody said
    threads: int | None = None  # fewer than all were faster; None: all that can run
    threads_of: int | None = None  # that could run when this was measured

    @property
    def size(self) -> RowSize:
        """Return the size of rows and calls."""
        return RowSize(self.row_tokens, self.request_tokens)

    @property
    def is_for_here(self) -> bool:
        """Tell whether this processor has what the choice was made on, and answers rightly."""
        is_right = self.precision != INT8 or runs_here(self.processor)
        return is_right and cpu_flags().issuperset(self.cpu_flags)

    @property
    def threads_here(self) -> int | None:
        """Return the threads to take; None where all are, or where others can run than then."""
        return self.threads if chosen_threads() == self.threads_of else None

    def to_json(self) -> dict[str, Any]:
        """Return it as the manifest holds it."""
        return asdict(self)


def flags_here() -> tuple[str, ...]:
    """Return the flags of this processor on which speed depends."""
    return tuple(flag for flag in _FLAGS if flag in cpu_flags())


def choice_of(folder: ModelFolder) -> EngineChoice | None:
    """Return what a bundle asks for, None where it asks for nothing or another processor.

    A bundle that holds graphs and no weights has no other way to answer, whatever the processor.

    Raises:
        ModelError: the manifest's words cannot be understood.
    """
    told = folder.manifest.engine if folder.manifest else {}
    if not told:
        return None
    choice = _read(told, str(folder.path / "potstill.json"))
    return choice if choice.is_for_here or not folder.has_weights else None


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
    if told.get("threads") is not None and told["threads"] > (told.get("threads_of") or 0):
        raise ModelError(
            f"engine.threads is {told['threads']}",
            where=where,
            allowed=f"at most engine.threads_of, which is {told.get('threads_of')}",
            cure=_CURE,
        )
    flags = told.get("cpu_flags", [])
    if not isinstance(flags, list) or not all(isinstance(flag, str) for flag in flags):
        raise ModelError(
            f"engine.cpu_flags is {flags!r}", where=where, allowed="a list of words", cure=_CURE
        )
    known = {name: told[name] for name in _FIELDS if name in told}
    return EngineChoice(**known, cpu_flags=tuple(flags))
