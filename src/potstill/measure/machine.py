"""The machine that a measurement was taken on: no host name, no path."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from potstill.hardware import cpu_flags, cpu_name, usable_threads

# Number formats that decide how fast an encoder is; Linux's names, x86 first, then Arm.
_TOLD_FLAGS = (
    *("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"),
    *("asimddp", "bf16", "i8mm", "sve"),
)
_PACKAGES = ("potstill", "torch", "tokenizers", "numpy", "openvino", "onnxruntime")
_MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def machine_facts() -> dict[str, Any]:
    """Return processor, cores and memory that may be used, system and versions."""
    return {
        "processor": cpu_name(),
        "flags": [flag for flag in _TOLD_FLAGS if flag in cpu_flags()],
        "cores": usable_threads(),
        "memory_bytes": usable_memory_bytes(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": _versions(),
    }


def usable_memory_bytes() -> int | None:
    """Return the machine's memory, or the limit that its container sets; None: not told."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
    return min([total, *(limit for file in _MEMORY_LIMITS if (limit := _limit(Path(file))))])


def quiet_cores(threads: int) -> list[int] | None:
    """Return the processors to pin a process to: one a physical core first, then their twins.

    None where the system has no affinity.
    """
    if not hasattr(os, "sched_getaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    ranked = sorted(allowed, key=lambda core: (_rank_among_twins(core, allowed), core))
    return sorted(ranked[:threads])


def _rank_among_twins(core: int, allowed: list[int]) -> int:
    """Return 0 for the first usable processor of a physical core, 1 for its twin."""
    file = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    try:
        twins = numbers_of(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
    return sum(twin < core for twin in twins if twin in allowed)


def numbers_of(ranges: str) -> list[int]:
    """Read Linux's lists of processors: "0,4-6" is 0, 4, 5, 6."""
    numbers: list[int] = []
    for part in ranges.strip().split(","):
        first, _, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return numbers


def _limit(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None  # no such file, or "max"


def _versions() -> dict[str, str]:
    """Return what is installed, by its label: importing would take seconds."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
