"""What a training reads: texts, what is true of them, and which tokens' answers count.

Legend: B texts, N their tokens, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.text.ragged import RaggedBatch, concatenate, tokens_of

Int64 = NDArray[np.int64]
Values = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Learnable:
    """Texts with targets; what has no target is marked so, see `is_labelled`."""

    texts: RaggedBatch
    targets: Values  # (B,), (B, C) or (B, 2), or one a token (N,); -1 or nan: not known
    readable_N: NDArray[np.bool_] | None = None  # tokens whose answers count; None: whole texts
    per_token: bool = False  # targets are the tokens'

    def __post_init__(self) -> None:
        """Hold the law of the type; a breach is a bug of ours."""
        wanted = self.texts.total_tokens if self.per_token else len(self.texts)
        assert len(self.targets) == wanted, "one target a text, or a token"
        assert self.readable_N is None or len(self.readable_N) == self.texts.total_tokens

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.texts)

    def take(self, rows: Int64) -> Learnable:
        """Return the chosen texts, in the order given."""
        needs_tokens = self.per_token or self.readable_N is not None
        tokens = tokens_of(rows, self.texts.offsets) if needs_tokens else None
        return Learnable(
            self.texts.take(rows),
            self.targets[tokens if self.per_token else rows],
            None if self.readable_N is None else self.readable_N[tokens],
            self.per_token,
        )

    def with_texts(self, texts: RaggedBatch) -> Learnable:
        """Return the same with other ids."""
        return replace(self, texts=texts)

    @property
    def is_labelled(self) -> NDArray[np.bool_]:
        """Return which texts have a target, (B,)."""
        known = known_targets(self.targets)
        if not self.per_token:
            return known
        return np.bincount(self.texts.text_index()[known], minlength=len(self)) > 0


def known_targets(targets: Values) -> NDArray[np.bool_]:
    """Return which targets are known, (len,): whole numbers from 0 on, or anything but nan."""
    flat = targets.reshape(len(targets), math.prod(targets.shape[1:]))  # -1 fails on no target
    is_known = ~np.isnan(flat) if np.issubdtype(flat.dtype, np.floating) else flat >= 0
    return np.asarray(is_known.all(axis=1))


def joined(parts: Sequence[Learnable]) -> Learnable:
    """Join parts of one kind one after another."""
    masks = [part.readable_N for part in parts]
    return Learnable(
        concatenate([part.texts for part in parts]),
        np.concatenate([part.targets for part in parts]),
        None if masks[0] is None else np.concatenate([mask for mask in masks if mask is not None]),
        parts[0].per_token,
    )
