"""Has a student of vectors collapsed? A high mean cosine to the teacher does not tell.

Vectors of one kind of text often lie close together, so a student that gives all texts nearly one
vector can be near every teacher vector at once, and find nothing. What counts is whether a text's
own teacher vector is nearer than those of other texts.

Legend: B texts, D width.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.errors import Collapsed

Floats = NDArray[np.floating[Any]]

MOST_TEXTS = 1_000
_LEAST_FOUND = 0.5  # of the texts must find their own teacher vector
_LEAST_SPREAD = 0.1  # of the teacher's


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """How a student's vectors lie beside its teacher's, on texts that neither learned from."""

    texts: int
    cosine: float  # mean, of a text's two vectors
    own_text_found: float  # share of texts whose own teacher vector is the nearest of all
    spread: float  # mean distance (1 - cosine) between texts, as a share of the teacher's

    @property
    def has_collapsed(self) -> bool:
        """Tell whether texts can no longer be told apart."""
        return self.own_text_found < _LEAST_FOUND or self.spread < _LEAST_SPREAD

    def to_json(self) -> dict[str, float]:
        """Return it as plain values."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def likeness(student_BD: Floats, teacher_BD: Floats) -> Likeness:
    """Compare vectors of the same texts, at most `MOST_TEXTS` of them, all different."""
    _, first = np.unique(teacher_BD, axis=0, return_index=True)
    chosen = np.sort(first)[:MOST_TEXTS]
    student, teacher = _normed(student_BD[chosen]), _normed(teacher_BD[chosen])
    across = student @ teacher.T
    spreads = [_spread(vectors) for vectors in (student, teacher)]
    return Likeness(
        texts=len(chosen),
        cosine=float(np.diag(across).mean()),
        own_text_found=float((across.argmax(axis=1) == np.arange(len(chosen))).mean()),
        spread=spreads[0] / max(spreads[1], 1e-12),
    )


def require_not_collapsed(found: Likeness, *, where: str) -> None:
    """Check a student before its bundle is written.

    Raises:
        Collapsed: with what was measured.
    """
    if found.has_collapsed:
        raise Collapsed(
            f"the student has collapsed: only {found.own_text_found:.0%} of {found.texts} texts "
            f"find their own teacher vector, though the mean cosine is {found.cosine:.2f}; its "
            f"vectors are spread {found.spread:.0%} as wide as the teacher's",
            where=where,
            cure="give more and more varied texts, more epochs, a lower learning rate, or keep "
            "more layers",
        )


def _spread(vectors_BD: Floats) -> float:
    """Return the mean of 1 - cosine over all pairs of different texts."""
    texts = len(vectors_BD)
    if texts < 2:
        return 0.0
    total = np.square(vectors_BD.sum(axis=0)).sum()  # the sum of all products, own ones included
    return float(1.0 - (total - texts) / (texts * (texts - 1)))


def _normed(vectors_BD: Floats) -> Floats:
    wide = vectors_BD.astype(np.float64)
    return np.asarray(wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12))
