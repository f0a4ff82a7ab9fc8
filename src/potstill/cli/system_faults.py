"""What the system refuses where no step of a run foresaw it, in our words."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from potstill.errors import InputError, OutOfMemory, PotstillError, StorageError
from potstill.files import DISK_FAULTS


def require_names_in_utf8(words: Sequence[str]) -> None:
    """Check that every word of a command can be told again, in a manifest or as JSON.

    Raises:
        InputError: one is not UTF-8.
    """
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{word.encode(errors='backslashreplace').decode()} is not UTF-8",
                allowed="words and names of files in UTF-8",
                cure="rename the file, or reach it through a link",
            ) from error


def mend_standard_streams() -> None:
    """Open what is closed to nowhere, and write what an encoding lacks by its number.

    A file that is opened later would take the place of a closed stream, and its answers.
    """
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def told(fault: Exception) -> PotstillError | None:
    """Return in our words what the system refused; None where it is a fault of ours."""
    if isinstance(fault, OSError) and fault.errno is not None:
        where = fault.filename if isinstance(fault.filename, str) else None
        if fault.errno in DISK_FAULTS:
            cure = "free some space and run the same command again"
            return StorageError(str(fault.strerror), where=where, cure=cure)
        cure = "check the path and who may read or write it"
        return InputError(str(fault.strerror), where=where, cure=cure)
    if _is_of_memory(fault):
        cure = "give fewer or shorter rows, or a machine with more memory"
        return OutOfMemory("the machine has no memory left", cure=cure)
    return None


def _is_of_memory(fault: Exception) -> bool:
    from potstill.runtime.packed_engine import is_of_memory  # a start needs none of it

    return is_of_memory(fault)
