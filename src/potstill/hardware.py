"""What this process may use: threads by affinity and cgroup quota, and the processor's formats."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import platform
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from potstill.errors import RecipeError

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of mallopt's options in glibc's malloc.h
_CGROUPS, _OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_THREADS_A_PROCESSOR, _ALWAYS_ALLOWED = 4, 16  # beyond them threads cost memory and gain nothing
_LARGEST_BLOCK = 2**30  # bytes; what is larger goes back at once
_LARGE_WHILE_LOADING = 2**20
_LARGE_BY_ITSELF = 2**25  # to which glibc lets it grow; it trims what is free above twice that


def usable_threads() -> int:
    """Return how many threads can run at once: CPU affinity and cgroup quota, whichever is less."""
    affinity = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    quota = _cgroup_quota()
    return affinity if quota is None else max(1, min(affinity, math.ceil(quota)))


def chosen_threads() -> int:
    """Return how many threads to use: those that can run, or fewer by OMP_NUM_THREADS."""
    usable, asked = usable_threads(), os.environ.get("OMP_NUM_THREADS", "")
    return min(usable, int(asked)) if asked.isdecimal() and int(asked) else usable


def require_threads(threads: int | None) -> None:
    """Check a number of threads that is asked for; None asks for none.

    Raises:
        RecipeError: below 1, or far more than this machine has processors.
    """
    processors = os.cpu_count() or 1
    most = max(_ALWAYS_ALLOWED, _THREADS_A_PROCESSOR * processors)
    if threads is not None and not 1 <= threads <= most:
        raise RecipeError(
            f"threads is {threads}, and this machine has {processors} processors",
            where="--threads",
            allowed=f"1 to {most}",
            cure="leave it out: as many are taken as can run at once",
        )


@cache
def cpu_flags() -> frozenset[str]:
    """Return the processor's feature flags as Linux names them; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def cpu_has_bf16() -> bool:
    """Tell whether the processor multiplies bf16 itself; without that it is slower than fp32."""
    return bool(cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"})


def keep_freed_memory() -> bool:
    """Ask glibc to keep what is freed for the next allocation; tell whether it will.

    By default it hands large blocks back to the system at once, so that every training step pays
    anew for each page of its gradients and activations.
    Other C libraries are left as they are.
    """
    return _set_malloc_options(_LARGEST_BLOCK, _LARGEST_BLOCK)


@contextlib.contextmanager
def large_blocks_given_back() -> Iterator[None]:
    """Have glibc hand blocks of a megabyte back as soon as they are freed, meanwhile.

    Of itself it keeps blocks as large as the largest that was freed; a library that loads a file
    frees some that it never asks for again. Afterwards it stands where it would have grown to.
    Other C libraries are left as they are.
    """
    _set_malloc_options(_LARGE_WHILE_LOADING, 2 * _LARGE_WHILE_LOADING)
    try:
        yield
    finally:
        _set_malloc_options(_LARGE_BY_ITSELF, 2 * _LARGE_BY_ITSELF)


def _set_malloc_options(large_block: int, kept: int) -> bool:
    """Set from which size blocks go back when they are freed, and how much may stay free."""
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(set_option(_MMAP_THRESHOLD, large_block) and set_option(_TRIM_THRESHOLD, kept))


def give_back_freed_memory() -> bool:
    """Hand what glibc keeps back to the system; tell whether there was anything."""
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (AttributeError, OSError, TypeError):
        return False


def cpu_name() -> str:
    """Return the processor's name as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cgroup_quota() -> float | None:
    """Return the processors that cgroups grant, None where they set no limit.

    A limit holds for all below it, so that the least on the way from this process's own cgroup up
    to the root counts.
    """
    found = [
        quota
        for place, read in _cgroups_of_processors()
        for folder in (place, *place.parents)
        if folder.is_relative_to(_CGROUPS) and (quota := read(folder)) is not None
    ]
    return min(found, default=None)


def _cgroups_of_processors() -> Iterator[tuple[Path, Callable[[Path], float | None]]]:
    """Yield this process's own cgroups that may limit processors, and how a limit is read there.

    A container may be told its place as the machine outside sees it: then that folder is absent,
    and its mount's root is its own.
    """
    v2, v1 = _CGROUPS, _CGROUPS / "cpu"
    yield v2, _quota_of_v2
    yield v1, _quota_of_v1
    try:
        lines = _OWN_CGROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:  # "0::/system.slice/a.service", "4:cpu,cpuacct:/a"
        _, _, controllers_and_place = line.partition(":")
        controllers, _, place = controllers_and_place.partition(":")
        inside = place.lstrip("/")
        if ".." in Path(inside).parts:  # outside of what this process's namespace shows
            continue
        if not controllers:
            yield v2 / inside, _quota_of_v2
        elif "cpu" in controllers.split(","):
            yield v1 / inside, _quota_of_v1


def _quota_of_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_of_v1(folder: Path) -> float | None:
    try:
        quota_us = int((folder / "cpu.cfs_quota_us").read_text())
        period_us = int((folder / "cpu.cfs_period_us").read_text())
        return quota_us / period_us if quota_us > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
