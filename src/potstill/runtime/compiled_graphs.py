"""Where OpenVINO keeps what it made of a stored graph, so that the next start is quicker.

To compile a quantized graph takes two thirds of the time that one answer takes. What comes of it is
kept in the user's cache, in a folder for each graph, whose name is made of the hashes that were
just checked: of an altered graph nothing is found there. OpenVINO itself asks whether version,
processor and settings are the same, and makes anew what it cannot read. What it can read it runs,
so that nothing is kept where somebody else could write.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Sequence
from functools import cache
from pathlib import Path

SETTING = "POTSTILL_CACHE"  # a folder, or "off"
_OFF = "off"
_OWN_NAME = re.compile("[0-9a-f]{32}")  # of a graph's folder; what is called otherwise is not ours
_KEPT = 8  # graphs, those used last; each takes about as much as its bundle


def compiled_folder(hashes: Sequence[str]) -> Path | None:
    """Return the folder for what is made of a graph; None where nothing is kept.

    Args:
        hashes: of the graph's files.
    """
    try:
        place = _place()
        if place is None:
            return None
        str(place).encode()  # OpenVINO takes no other names
        folder = place / hashlib.sha256("\n".join(hashes).encode()).hexdigest()[:32]
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(exist_ok=True, mode=0o700)
        if not _is_ours_alone(place) or not _is_ours_alone(folder):
            return None
        os.utime(folder)
        is_open = os.access(folder, os.W_OK | os.X_OK)
    except OSError as error:
        _tell_unusable(error.strerror or str(error))
        return None
    except UnicodeEncodeError:
        _tell_unusable("its name is not UTF-8")
        return None
    if not is_open:
        _tell_unusable(os.strerror(errno.EACCES))
        return None
    _forget_oldest(place)
    return folder


def _place() -> Path | None:
    asked = os.environ.get(SETTING, "")
    if asked == _OFF:
        return None
    if asked:
        return Path(asked).absolute() / "openvino"
    user = os.environ.get("XDG_CACHE_HOME", "")
    try:
        base = Path(user) if Path(user).is_absolute() else Path.home() / ".cache"
    except RuntimeError:  # nobody's home is known
        return None
    return base / "potstill" / "openvino"


def _tell_unusable(why: str) -> None:
    """Say that the asked-for place cannot be used; a home that cannot is slower, no worse."""
    asked = os.environ.get(SETTING, "")
    if asked:
        shown = os.fsencode(asked).decode(errors="backslashreplace")
        _warn(
            f"{SETTING}={shown} cannot be written, so that no compiled graph is kept "
            f"({why}); to mend it: name a folder of your own, or {SETTING}={_OFF}"
        )


def _is_ours_alone(folder: Path) -> bool:
    """Tell whether this user owns a folder and nobody else may write to it."""
    found = folder.stat()
    is_alone = found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not is_alone:
        _warn(
            f"{folder}: others may write here, so that no compiled graph is kept; to mend it: "
            f"chmod go-w, a folder of your own by {SETTING}, or {SETTING}={_OFF}"
        )
    return is_alone


@cache
def _warn(line: str) -> None:
    """Log a line, once in a process; where nobody has said how, as the command line warns."""
    import logging

    logger, ours = logging.getLogger(__name__), logging.StreamHandler()
    ours.setFormatter(logging.Formatter("potstill: warning: %(message)s"))
    if not logger.hasHandlers():
        logger.addHandler(ours)
    logger.warning(line)
    logger.removeHandler(ours)


def _forget_oldest(place: Path) -> None:
    with contextlib.suppress(OSError):  # another process may take one away at the same time
        ours = [folder for folder in place.iterdir() if _OWN_NAME.fullmatch(folder.name)]
        by_use = sorted(ours, key=lambda folder: folder.stat().st_mtime, reverse=True)
        for folder in by_use[_KEPT:]:
            shutil.rmtree(folder, ignore_errors=True)
