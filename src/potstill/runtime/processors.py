"""Kinds of processors that int8 products tell apart.

vnni   x86 with VNNI or AMX: four products are summed in 32 bits
avx2   x86 without: two products of 8 bits are summed in 16, which saturate at full range
arm    sums in 32 bits

A graph whose weights take their full range can be wrong on `avx2`, without a word, wherever two
neighbouring products are large; one made for `avx2` keeps weights to half the range, and is right
everywhere.

Source: ONNX Runtime's and NNCF's pages on quantization (`reduce_range`, `OverflowFix`).
"""

from __future__ import annotations

import platform
from collections.abc import Mapping

from potstill.hardware import cpu_flags

VNNI, AVX2, ARM = "vnni", "avx2", "arm"
PROCESSORS = (VNNI, AVX2, ARM)
HERE = "here"

_SUMS_IN_32_BITS = {"avx512_vnni", "avx_vnni", "amx_int8"}
_OF_ARM = ("aarch64", "arm64")
_RUNS_ON: Mapping[str, tuple[str, ...]] = {
    VNNI: (VNNI, ARM),
    ARM: (VNNI, ARM),
    AVX2: PROCESSORS,
}


def processor_here() -> str:
    """Return the kind of this processor; where the system tells no flags, what cannot saturate."""
    flags = cpu_flags()
    if "asimd" in flags or (not flags and platform.machine().lower() in _OF_ARM):
        return ARM
    return VNNI if flags & _SUMS_IN_32_BITS else AVX2


def runs_here(processor: str | None) -> bool:
    """Tell whether int8 products of a graph made for a kind of processor are right on this one.

    Args:
        processor: the kind; None: nobody said, as of bundles of earlier versions.
    """
    return processor is None or processor_here() in _RUNS_ON.get(processor, ())
