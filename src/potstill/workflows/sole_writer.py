"""One run at a time writes to a place: a second would overwrite the checkpoints of the first."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from potstill.errors import OutputError
from potstill.files import require_free, told_in_one_line
from potstill.train.world import World
from potstill.workflows.task_rows import run_folder

_LOCK = "lock"


@contextlib.contextmanager
def sole_writer(out: Path, world: World) -> Iterator[None]:
    """Hold the folder of a run's state; among several processes the main one does it for all.

    Raises:
        OutputError: another run holds it, or has written to `out` in the meantime.
    """
    with locked(run_folder(out)) if world.is_main else contextlib.nullcontext():
        if world.is_main:
            require_free(out)
        yield


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, made where it is missing; a kill lets go of it by itself.

    A folder that was made here and holds nothing at the end is removed. On Windows, and on disks
    that know no locks, nothing is held.

    Raises:
        OutputError: another run holds it, or it cannot be written.
    """
    made = [each for each in (folder, *folder.absolute().parents) if not each.exists()]
    with told_in_one_line(folder):
        folder.mkdir(parents=True, exist_ok=True)
        held = _held(folder / _LOCK)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the run may have removed all of it
            (folder / _LOCK).unlink()  # while it is ours: a later one could be another's
        held.close()
        with contextlib.suppress(OSError):
            for each in made:
                each.rmdir()


def _held(file: Path) -> IO[str]:
    """Return the open file whose lock we have; closing it gives the lock back."""
    while True:
        stream = file.open("a+", encoding="utf-8")
        try:
            _lock(stream)
            if _is_still_there(stream, file):
                break
        except BlockingIOError:
            stream.seek(0)
            holder = stream.read().strip() or "unknown"
            stream.close()
            raise OutputError(
                f"another run is writing here (process {holder})",
                where=str(file.parent),
                cure="wait for it, or name another --out",
            ) from None
        stream.close()
    stream.truncate(0)
    stream.write(str(os.getpid()))
    stream.flush()
    return stream


def _lock(stream: IO[str]) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a disk without locks
        return


def _is_still_there(stream: IO[str], file: Path) -> bool:
    """Tell whether a lock is of the file that others see: its holder may just have removed it."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), file.stat())
    except FileNotFoundError:
        return False
