"""Write files so that they are whole or absent: a temporary name, flush, then rename."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import secrets
import shlex
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from potstill.errors import OutputError, PotstillError, StorageError
from potstill.stages import TEMPORARY_SUFFIX, remove_abandoned, stage_of

DISK_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG}  # full, or broken


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path`; a kill at any moment leaves the old file or the new one.

    Of several processes that write it at once each writes it whole; the last one's stays.

    Raises:
        OutputError: the folder cannot be written.
        StorageError: the disk is full.
    """
    temporary = stage_of(path, secrets.token_hex(4))
    with told_in_one_line(path):
        try:
            with temporary.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        flush_folder(path.parent)


def write_output(path: Path, content: bytes) -> None:
    """Write a file that a user named, as `write_atomically` does, without what kills left of it.

    Raises:
        OutputError: the folder cannot be written.
        StorageError: the disk is full.
    """
    remove_abandoned(path)
    write_atomically(path, content)


def leftovers(path: Path) -> list[Path]:
    """Return what killed writers of `path` have left beside it."""
    return sorted(path.parent.glob(f"{glob.escape(path.name)}.*{TEMPORARY_SUFFIX}"))


@contextlib.contextmanager
def folder_whole_or_absent(target: Path) -> Iterator[Path]:
    """Give a staging folder beside `target` to fill; rename it into place at the end.

    An empty `target` is replaced. What stood at `target` is untouched if anything fails, and the
    parents that were made for it go again. What killed processes left of `target` is removed.

    Raises:
        OutputError: `target` exists and is not empty, or cannot be written.
        StorageError: the disk is full.
    """
    require_free(target)
    staging = stage_of(target, hidden=True)
    with told_in_one_line(target), _with_parents(target):
        remove_abandoned(target)
        if staging.exists():
            shutil.rmtree(staging)
        staging.mkdir()
        try:
            yield staging
            for file in sorted(staging.rglob("*")):
                if file.is_file():
                    flush_file(file)
            flush_folder(staging)
            move_into_place(staging, target)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise


@contextlib.contextmanager
def workspace_beside(target: Path) -> Iterator[Path]:
    """Give a folder on the disk of `target`, whose parents are made, and remove it at the end.

    Parents that were made and hold nothing then go too. What killed processes left of `target` is
    removed first.

    Raises:
        StorageError: the disk is full.
        OutputError: no permission.
    """
    place = stage_of(target.absolute(), secrets.token_hex(4), hidden=True)
    with contextlib.ExitStack() as stack:
        with told_in_one_line(target):
            stack.enter_context(_with_parents(place))
            remove_abandoned(target.absolute())
            place.mkdir(mode=0o700)
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


def move_into_place(staged: Path, target: Path) -> None:
    """Rename a whole folder to `target` on the same disk; an empty `target` is replaced.

    Raises:
        OutputError: `target` is not empty any more, or cannot be written.
    """
    require_free(target)
    with told_in_one_line(target):
        if target.exists():
            target.rmdir()
        staged.rename(target)
        flush_folder(target.parent)


def move_content(source: Path, target: Path) -> None:
    """Move all that a folder holds into another one on the same disk, which takes no room."""
    for entry in source.iterdir():
        entry.rename(target / entry.name)


def require_free(target: Path, *, but: Collection[str] = (), flag: str = "--out") -> None:
    """Check that `target` is absent or an empty folder, and that its parent can be written.

    Called before long work too, so that a run does not fail at its last step.

    Args:
        target: where something will be written.
        but: names of files that may stand there.
        flag: names the folder, for the one who is refused.

    Raises:
        OutputError: with the reason and a way out.
    """
    with told_in_one_line(target):
        fault = _why_not_free(target, but)
        if fault:
            raise OutputError(fault, where=str(target), cure=f"name a new folder with {flag}")
        parent = target.absolute().parent
        while not parent.exists():
            parent = parent.parent
        _require_writable(parent, target)


def require_writable_file(path: Path) -> None:
    """Check that a file can be written at `path`; one that stands there will be replaced.

    Called before long work, so that it does not fail at its last step.

    Raises:
        OutputError: with the reason and a way out.
    """
    with told_in_one_line(path):
        if path.is_dir():
            raise OutputError(
                "the output is a folder, not a file",
                where=str(path),
                cure="name a file, this folder may be its place",
            )
        if not path.parent.exists():
            raise OutputError(
                "the folder of the output does not exist",
                where=str(path),
                cure=f"mkdir -p {shlex.quote(str(path.parent))}",
            )
        _require_writable(path.parent, path)


@contextlib.contextmanager
def told_in_one_line(path: Path) -> Iterator[None]:
    """Turn the operating system's errors about `path` into ours.

    Raises:
        StorageError: the disk or quota is full, or the device failed.
        OutputError: no permission, or the path cannot exist.
    """
    try:
        yield
    except PotstillError:
        raise
    except OSError as error:
        if error.errno in DISK_FAULTS:
            raise StorageError(
                f"cannot write: {error.strerror}; what stood there before is whole",
                where=str(path),
                cure="free some space and run the same command again",
            ) from error
        raise OutputError(
            f"cannot write: {error.strerror}", where=str(path), cure="choose another place"
        ) from error


def flush_file(path: Path) -> None:
    """Force a file's content to the disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def flush_folder(path: Path) -> None:
    """Force a folder's entries (names, renames) to the disk, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of_file(path: Path) -> str:
    """Return the sha256 of a file's content in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def _with_parents(path: Path) -> Iterator[None]:
    """Make the folders above `path`; those that were made and are empty at the end go again."""
    made = [each for each in path.absolute().parents if not each.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        with contextlib.suppress(OSError):  # not empty, or another process has removed it
            for each in made:
                each.rmdir()


def _why_not_free(target: Path, but: Collection[str]) -> str | None:
    """Tell what forbids that a new folder is renamed to `target`."""
    if target.name in {"", ".."}:
        return "the output is the folder one stands in, or one above it"
    if target.is_symlink():
        return "the output is a link"
    if target.is_mount():
        return "the output is the root of a mounted disk, which cannot be replaced"
    if target.is_dir():
        is_empty = all(path.name in but for path in target.iterdir())
        return None if is_empty else "the output folder is not empty"
    return "the output is a file, not a folder" if target.exists() else None


def _require_writable(folder: Path, target: Path) -> None:
    if not folder.is_dir():
        raise OutputError(
            f"{folder} is a file, not a folder", where=str(target), cure="choose another place"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            f"no permission to write in {folder}",
            where=str(target),
            cure="choose another place, or change the rights of that folder",
        )
