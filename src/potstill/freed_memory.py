"""Freed memory is kept for the next batch, and handed back before it piles up.

Batches differ in shape, so what is kept falls to pieces that fit nothing: a training of a
3-layer MiniLM on questions was seen to grow to 9 GB, of which most was free. To hand all of it back
costs a tenth of a second, and the pages must be paid for anew: that is worth it now and then, not
after every micro-batch (see `hardware.keep_freed_memory`). An engine that answers texts of all
lengths piles it up likewise, though nobody has asked the C library to keep it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from potstill.hardware import give_back_freed_memory, keep_freed_memory
from potstill.held_memory import resident_bytes

_GROWTH = 1.2  # what is held may grow so far beyond what a batch needs
_PAUSE = 50  # times what handing back took, before it may be done again: 2 % of all time


def _keep_from_now() -> bool:
    """Hand back what an earlier run of this process left, and have the rest kept."""
    give_back_freed_memory()
    return keep_freed_memory()


@dataclass(slots=True)
class FreedMemory:
    """Watches what this process holds between micro-batches.

    What one needs is what is held after one that began with nothing free: the first, and each that
    follows a handing back. Those between them hold pieces too, and must teach nothing, or the bound
    would rise with what it bounds. It is their mean, since now and then a score or a checkpoint
    comes between the two.
    """

    held: Callable[[], int] = resident_bytes
    give_back: Callable[[], bool] = give_back_freed_memory
    clock: Callable[[], float] = time.perf_counter
    is_kept: bool = field(default_factory=_keep_from_now)  # asked for, of this C library
    _needed: list[int] = field(default_factory=list, init=False)  # bytes, by each that began clean
    _is_clean: bool = field(default=True, init=False)  # nothing was free when it began
    _not_before: float = field(default=0.0, init=False)  # by the clock

    def bound(self) -> float:
        """Return the bytes beyond which freed memory is handed back; 0 where nothing is kept."""
        return _GROWTH * statistics.fmean(self._needed) if self._needed else 0.0

    def after_batch(self) -> None:
        """Learn what batches need, and hand back what is free when much more is held."""
        if not self.is_kept:
            return
        held = self.held()
        if self._is_clean:
            self._needed.append(held)
            self._is_clean = False
        began = self.clock()
        if held > self.bound() and began >= self._not_before:
            self.give_back()
            ended = self.clock()
            self._not_before = ended + _PAUSE * (ended - began)
            self._is_clean = True
