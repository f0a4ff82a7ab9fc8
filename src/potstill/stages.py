"""Half-written files and folders beside their place: whose they are, and which nobody finishes.

The name tells the machine and the process that writes. A process that is killed leaves its stage
behind; the next run that writes to the same place removes it. What may still be written stays: a
stage of a living process, of another machine, start or container, or one whose process number was
given to another process since.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

TEMPORARY_SUFFIX = ".potstill-part"
_START = Path("/proc/sys/kernel/random/boot_id")  # machines of one name may share a disk
_PROCESSES = Path("/proc/self/ns/pid")  # containers count their processes each for itself


def stage_of(target: Path, token: str = "", *, hidden: bool = False) -> Path:
    """Return where this process may prepare what will stand at `target`.

    Args:
        target: the place of what is prepared.
        token: tells several stages of one process apart.
        hidden: begin the name with a dot.
    """
    parts = [_beginning(target, hidden=hidden), _machine(), str(os.getpid())]
    return target.with_name(".".join([*parts, *([token] if token else [])]) + TEMPORARY_SUFFIX)


def remove_abandoned(target: Path) -> None:
    """Remove the stages of `target` whose processes have ended; what cannot be removed stays."""
    if os.name == "nt":  # to ask for a process there would end it
        return
    for stage in list(_abandoned(target)):
        if stage.is_dir() and not stage.is_symlink():
            shutil.rmtree(stage, ignore_errors=True)
        else:
            _unlink(stage)


def _abandoned(target: Path) -> Iterator[Path]:
    for hidden in (True, False):
        begin = f"{_beginning(target, hidden=hidden)}.{_machine()}."
        of_a_process = re.compile(
            re.escape(begin) + r"([0-9]+)(\.[0-9a-f]+)?" + re.escape(TEMPORARY_SUFFIX)
        )
        for path in target.parent.glob(f"{glob.escape(begin)}*{TEMPORARY_SUFFIX}"):
            found = of_a_process.fullmatch(path.name)
            if found and not _is_alive(int(found[1])):
                yield path


def _beginning(target: Path, *, hidden: bool) -> str:
    return f".{target.name}" if hidden else target.name


@functools.cache
def _machine() -> str:
    """Return a short name for what counts this process: a machine since its start, a container."""
    import platform

    try:
        counted_by = f"{_START.read_text().strip()} {_PROCESSES.readlink()}"
    except OSError:  # no Linux: a machine counts all of its processes together
        counted_by = ""
    return hashlib.sha256(f"{platform.node()} {counted_by}".encode()).hexdigest()[:8]


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # of another user; no number of a process
        return True
    return True


def _unlink(file: Path) -> None:
    try:
        file.unlink()
    except OSError:  # another process was quicker, or it may not be removed
        return
