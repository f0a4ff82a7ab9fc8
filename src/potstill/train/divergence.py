"""When a run has diverged though every number is finite.

A loss may rise for a while: the learning rate rises during warm-up, a batch is hard, a student that
began as a copy of its teacher has nothing to gain at first. So a run counts as diverged only where
many steps in a row, without exception, cost far more than the first one did, which no update had
touched: more than twice as much, and 3 nats a unit of weight on top, the price of a guess that is
right once in 20 times. The second part is what holds where the first loss is next to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

_TIMES = 2.0  # the first step's loss
_NATS = 3.0  # on top, a unit of weight
PATIENCE = 20  # steps in a row


@dataclass(frozen=True, slots=True)
class LossWatch:
    """What of a run's losses so far decides whether it has diverged."""

    first: float | None = None  # weighted loss of the first step; None: before it
    high_steps: int = 0  # so many of the newest steps in a row lay above the bound

    def bound(self, weights: Mapping[str, float]) -> float:
        """Return what the loss of a step may be after the first."""
        assert self.first is not None, "there was a first step"
        return _TIMES * max(self.first, 0.0) + _NATS * sum(weights.values())

    def after(self, loss: float, weights: Mapping[str, float]) -> LossWatch:
        """Return the same after one more step."""
        if self.first is None:
            return LossWatch(first=loss)
        is_high = loss > self.bound(weights)
        return replace(self, high_steps=self.high_steps + 1 if is_high else 0)

    @property
    def has_diverged(self) -> bool:
        """Tell whether the newest steps say so."""
        return self.high_steps >= PATIENCE


def weighted(means: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """Return the loss that is minimized."""
    return sum(weights[name] * value for name, value in means.items())
