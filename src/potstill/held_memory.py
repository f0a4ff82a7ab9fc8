"""How much memory this process holds, and the most it has held."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_FORGET_PEAK = "5"  # proc(5): the peak of resident memory starts again from what is held now


def resident_bytes() -> int:
    """Return the memory that is held now; where the system tells only a peak, that peak."""
    return _told("VmRSS") or _peak_of_usage()


def peak_bytes() -> int:
    """Return the most that was held since `forget_peak`, or since the process began.

    On Linux the figure of getrusage is not asked: it begins with the parent's.
    """
    return _told("VmHWM") or _peak_of_usage()


def forget_peak() -> None:
    """Begin the peak anew, where the system can: imports hold more than they leave behind."""
    with contextlib.suppress(OSError):
        _CLEAR.write_text(_FORGET_PEAK)


def bytes_of_usage(maximum: int, platform: str) -> int:
    """Return getrusage's peak in bytes: macOS counts bytes, all others 1,024 of them."""
    return maximum if platform == "darwin" else maximum * 1024


def _told(name: str) -> int | None:
    try:
        lines = _STATUS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


def _peak_of_usage() -> int:
    import resource

    return bytes_of_usage(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, sys.platform)
