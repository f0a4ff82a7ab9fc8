"""Freed memory is kept for the next step, and handed back before it piles up.

Batches differ in shape at every step, so what is kept falls to pieces that fit nothing: a training
of a 3-layer MiniLM on questions was seen to grow to 9 GB, of which most was free. To hand all of
it back costs a tenth of a second, and the pages must be paid for anew: that is worth it now and
then, not at every step (see `hardware.keep_freed_memory`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from potstill.hardware import give_back_freed_memory, keep_freed_memory
from potstill.measure.memory import resident_bytes

_GROWTH = 1.2  # what is held may grow so far beyond what a few steps need, and forecasts say
_LEARNED_FROM = 10  # steps, whose batches differ in size


@dataclass(slots=True)
class FreedMemory:
    """Watches what this process holds between steps."""

    held: Callable[[], int] = resident_bytes
    give_back: Callable[[], bool] = give_back_freed_memory
    is_kept: bool = field(default_factory=keep_freed_memory)  # by this system's C library
    _needed: int = field(default=0, init=False)  # bytes that the first steps held
    _steps: int = field(default=0, init=False)  # since all was handed back

    def after_step(self) -> None:
        """Learn what steps need, and hand back what is free when much more is held."""
        if not self.is_kept:
            return
        held = self.held()
        self._steps += 1
        if self._steps <= _LEARNED_FROM:
            self._needed = max(self._needed, held)
        elif held > _GROWTH * self._needed:
            self.give_back()
            self._needed = self._steps = 0
