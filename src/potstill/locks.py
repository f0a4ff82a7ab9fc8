"""One process at a time writes to a folder: a second would overwrite what the first is making."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from potstill.errors import OutputError
from potstill.files import told_in_one_line

LOCK = "lock"  # the file that is held; who lists a folder passes over it
_POLL_S = 0.5


@contextlib.contextmanager
def locked(
    folder: Path, *, flag: str = "--out", waiting: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Hold a folder, made where it is missing; a kill lets go of it by itself.

    A folder that holds nothing at the end is removed, whoever made it: a killed run may have left
    it. On Windows, and on disks that know no locks, nothing is held.

    Args:
        folder: what is held.
        flag: names the folder, for the one who is refused.
        waiting: None: who comes second is refused. Else it waits, and tells this, once, which
            process it waits for.

    Raises:
        OutputError: another run holds it, or it cannot be written.
    """
    made = [each for each in folder.absolute().parents if not each.exists()]
    held: IO[str] | None = None
    try:
        with told_in_one_line(folder):
            folder.mkdir(parents=True, exist_ok=True)
        if _knows_locks():
            held = _held(folder, flag, waiting)
        yield
    finally:
        if held is not None:
            _let_go(held, folder / LOCK)
        with contextlib.suppress(OSError):  # not empty, or the run has removed all of it
            for each in (folder, *made):
                each.rmdir()


def _held(folder: Path, flag: str, waiting: Callable[[str], None] | None) -> IO[str]:
    """Return the open file whose lock we have; closing it gives the lock back."""
    is_told = False
    while True:
        with told_in_one_line(folder):
            stream = _opened(folder)
            if _is_locked(stream):
                if _is_still_there(stream, folder / LOCK):
                    _sign(stream, folder / LOCK)
                    return stream
                stream.close()  # its holder has just let go, and removed it
                continue
            stream.seek(0)
            holder = stream.read().strip() or "unknown"
            stream.close()
        if waiting is None:
            raise OutputError(
                f"another run is writing here (process {holder})",
                where=str(folder),
                cure=f"wait for it, or name another {flag}",
            )
        if not is_told:
            waiting(holder)
            is_told = True
        time.sleep(_POLL_S)


def _sign(held: IO[str], file: Path) -> None:
    """Write down who holds it; where the disk is full, nobody does."""
    try:  # past the stream's buffer, which would be written once more when it is closed
        os.ftruncate(held.fileno(), 0)
        os.write(held.fileno(), str(os.getpid()).encode())
    except OSError:
        _let_go(held, file)
        raise


def _opened(folder: Path) -> IO[str]:
    while True:
        try:
            return (folder / LOCK).open("a+", encoding="utf-8")
        except FileNotFoundError:
            if folder.is_dir():  # a link to nowhere, or a disk that has gone
                raise
            folder.mkdir(parents=True, exist_ok=True)  # a holder let go, and removed it


def _let_go(held: IO[str], file: Path) -> None:
    """Remove the lock's file while it is held, and only if it is that one, then close it."""
    with contextlib.suppress(OSError):
        # A run that removes its folder takes the file along: what stands there may be another's.
        if _is_still_there(held, file):
            file.unlink()
    held.close()


def _knows_locks() -> bool:
    try:
        import fcntl  # noqa: F401 - asked whether it is there
    except ImportError:  # Windows
        return False
    return True


def _is_locked(stream: IO[str]) -> bool:
    """Take the lock of an open file; False where another has it."""
    import fcntl

    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a disk without locks
        return True
    return True


def _is_still_there(stream: IO[str], file: Path) -> bool:
    """Tell whether an open file is the one that others see."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), file.stat())
    except FileNotFoundError:
        return False
