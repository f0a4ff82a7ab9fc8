"""Dropout whose randomness is passed in: the same seed gives the same bytes in any process.

A network drops values if and only if it is handed a `Noise`; there is no hidden training mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_LEVELS = 2**16


class Noise:
    """A stream of dropout masks, determined by its seed words alone.

    On the CPU the bits come from numpy: torch's own generator is serial there and took longer than
    the layer it serves. The probability is kept to 1/65,536.
    """

    def __init__(self, *seed: int, device: torch.device | str = "cpu") -> None:
        """Start the stream for seed words such as (seed, step, micro-batch)."""
        self.device = torch.device(device)
        self._source = _source(seed, self.device)

    def drop(self, values: Tensor, probability: float) -> Tensor:
        """Zero each value with `probability` and scale the rest so that the mean stays.

        Shapes: any -> the same.
        """
        if probability <= 0.0:
            return values
        is_kept, scale = self._kept(values, probability)
        left: Tensor = _Scaled.apply(values, is_kept, scale)  # type: ignore[no-untyped-call] # torch's own
        return left

    def _kept(self, values: Tensor, probability: float) -> tuple[Tensor, float]:
        """Return which values stay, and by what they are multiplied."""
        if isinstance(self._source, torch.Generator):
            keep = 1.0 - probability
            is_kept = torch.empty_like(values, dtype=torch.bool)
            return is_kept.bernoulli_(keep, generator=self._source), 1.0 / keep
        dropped_levels = round(probability * _LEVELS)
        levels = np.frombuffer(self._source.bytes(2 * values.numel()), dtype=np.uint16)
        is_kept = torch.from_numpy(levels >= dropped_levels).view(values.shape)
        return is_kept, _LEVELS / (_LEVELS - dropped_levels)


class _Scaled(torch.autograd.Function):
    """Values times a mask and a factor; the mask is kept in one byte a value until the gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, is_kept: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(is_kept)
        ctx.scale = scale
        return is_kept.to(values.dtype).mul_(scale).mul_(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (is_kept,) = ctx.saved_tensors
        return is_kept.to(gradient.dtype).mul_(ctx.scale).mul_(gradient), None, None


def _source(seed: Sequence[int], device: torch.device) -> torch.Generator | np.random.Generator:
    words = np.random.SeedSequence(list(seed))
    if device.type == "cpu":
        return np.random.Generator(np.random.SFC64(words))
    generator = torch.Generator(device)
    generator.manual_seed(int(words.generate_state(1, np.uint64)[0] >> 1))
    return generator
