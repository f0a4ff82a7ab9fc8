"""The child process in which a pickle is read: torch's restricted loader behind three more bars.

Old versions of torch are refused, memory is bounded, and an audit hook stops the process from
starting programs or opening sockets while foreign bytes are read. The hook is no sandbox (native
code escapes it); it is there for the day on which the loader has a hole once more.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.safetensors_header import STORED_AS, shown
from potstill.bundle.weights import write_weights
from potstill.errors import ModelError, OutOfMemory, PotstillError

_SAFE_TORCH = (2, 10)
_FORBIDDEN = re.compile(
    r"os\.(system|exec|spawn|posix_spawn|fork\w*|startfile)|subprocess\.\w+|pty\.spawn"
    r"|socket\.(connect|bind|getaddrinfo|sendto|sendmsg)|ctypes\.dlopen"
)
_NO_TRUST = "do not load this file anywhere; get the model as safetensors from a source you trust"
_SAVE_AGAIN = "save the model again with model.save_pretrained(FOLDER)"
_NO_MEMORY = "loading it takes more memory than the converter may have"


def main() -> int:
    """Convert what standard input asks for; an error is one JSON object on standard output."""
    request = json.load(sys.stdin)
    try:
        import torch  # noqa: F401 (loaded before the bars go up: it needs programs and memory)

        _bound_memory(request["memory_bytes"])
        forbid_programs_and_sockets()
        convert(
            [Path(file) for file in request["pickles"]],
            Path(request["into"]),
            most_bytes=request["memory_bytes"],
        )
    except PotstillError as error:
        told = {
            "kind": type(error).__name__,
            "what": error.what,
            "where": error.where,
            "allowed": error.allowed,
            "cure": error.cure,
        }
        sys.stdout.write(json.dumps(told) + "\n")
        return 1
    return 0


def convert(pickles: list[Path], into: Path, *, most_bytes: int) -> None:
    """Write the tensors of all files as safetensors; bfloat16 is widened to float32.

    Args:
        pickles: the file, or the shards.
        into: the folder to write to.
        most_bytes: what the tensors of one file may take, written out.

    Raises:
        ModelError: this torch is unsafe, or a file holds something else than tensors by name.
        OutOfMemory: the tensors take more than they may.
        StorageError: the disk is full.
    """
    import torch

    require_safe_torch(torch.__version__)
    tensors: dict[str, NDArray[Any]] = {}
    try:
        for file in pickles:
            for name, value in _load(file, most_bytes).items():
                tensors[name] = _to_numpy(value, name, file)
        write_weights(into, tensors)
    except MemoryError as error:
        raise _out_of_memory(pickles[0], _NO_MEMORY) from error


def require_safe_torch(version: str) -> None:
    """Check that torch's restricted loader has no known hole.

    Raises:
        ModelError: it has.
    """
    found = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if found < _SAFE_TORCH:
        raise ModelError(
            f"torch {version} cannot load pickles safely (CVE-2025-32434, CVE-2026-24747)",
            where="--allow-pickle",
            allowed="torch 2.10 or later",
            cure="pip install --upgrade 'potstill[train]'",
        )


def forbid_programs_and_sockets() -> None:
    """Make this process unable to start programs or open connections from Python, for good."""

    def audit(event: str, _: tuple[object, ...]) -> None:
        if _FORBIDDEN.fullmatch(event):
            raise _Forbidden(f"the pickle tried {event}, past torch's restricted loader")

    sys.addaudithook(audit)


class _Forbidden(Exception):
    """Foreign bytes made this process do what a loader never does."""


def _bound_memory(memory_bytes: int) -> None:
    """Allow `memory_bytes` of addresses beyond what torch itself has taken, where that is known."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _load(file: Path, most_bytes: int) -> Mapping[str, object]:
    import torch

    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # whatever foreign bytes can cause: it is told, not passed through
        raise _refusal(error, file) from error
    if not isinstance(loaded, Mapping) or not all(isinstance(name, str) for name in loaded):
        raise ModelError(
            f"the pickle holds a {type(loaded).__name__}, not tensors by name",
            where=str(file),
            cure=_SAVE_AGAIN,
        )
    tensors = [value for value in loaded.values() if isinstance(value, torch.Tensor)]
    # One stored number can stand for a tensor of any size (stride 0); written out it fills disks.
    written_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if written_bytes > most_bytes:
        raise _out_of_memory(file, f"its tensors would take {written_bytes:,} bytes")
    return loaded


def _refusal(error: Exception, file: Path) -> PotstillError:
    reason = _reason(str(error))
    if "allocate memory" in reason or "not enough memory" in reason:
        return _out_of_memory(file, _NO_MEMORY)
    if isinstance(error, _Forbidden):
        return ModelError(f"refused: {error}", where=str(file), cure=_NO_TRUST)
    if wanted := re.search(r"GLOBAL ([\w.]+)", reason):
        return ModelError(
            f"refused: the pickle asks for {wanted[1]}, which no table of weights needs",
            where=str(file),
            cure=_NO_TRUST,
        )
    return ModelError(
        f"this is no table of weights, or it is damaged: {type(error).__name__}: {reason}",
        where=str(file),
        cure="download or copy the file again",
    )


def _reason(text: str) -> str:
    """Return the line of torch's long message that tells what happened."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for number, line in enumerate(lines):
        if "WeightsUnpickler error:" in line:
            return line.partition("WeightsUnpickler error:")[2].strip() or lines[number + 1]
        if line.startswith("Trying to load"):
            return line
    return lines[0] if lines else "the file ends too early"


def _out_of_memory(file: Path, what: str) -> OutOfMemory:
    return OutOfMemory(
        f"{what}, and that is far more than the file is long",
        where=str(file),
        cure="do not trust this file; if you know it, convert it where it was made",
    )


def _to_numpy(value: object, name: str, file: Path) -> NDArray[Any]:
    import torch

    where = f"{file}, entry {shown(name)}"
    if not isinstance(value, torch.Tensor):
        raise ModelError(
            f"this is a {type(value).__name__}, not a tensor",
            where=where,
            cure=_SAVE_AGAIN,
        )
    try:
        wide = value.float() if value.dtype is torch.bfloat16 else value
        array: NDArray[Any] = wide.detach().numpy()
    except (TypeError, RuntimeError):  # sparse, quantized, or of a dtype that numpy lacks
        array = np.empty(0, dtype=object)
    if array.dtype not in STORED_AS.values():
        raise ModelError(
            f"a tensor of {value.dtype}, {value.layout}, cannot be written",
            where=where,
            allowed="dense tensors of floats, integers or booleans",
            cure=_SAVE_AGAIN,
        )
    return array
