"""Entities: strict F1 over all of them, and of each type.

Strict means as seqeval with mode="strict", scheme=IOB2: an entity counts if type, first and last
word are right, and an I- that no B- of its type precedes opens nothing.

Legend: B sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.metrics.metric import quotient
from potstill.metrics.per_class import ClassScores, scores_of_counts

Floats = NDArray[np.floating[Any]]
Entity = tuple[str, int, int]  # type, first word, word after the last
Sentences = Sequence[Sequence[Entity]]


def entities_of(tags: Sequence[str]) -> list[Entity]:
    """Return the entities of one sentence's IOB2 tags, in order."""
    found: list[Entity] = []
    kind: str | None = None
    start = 0
    for place, tag in enumerate([*tags, "O"]):
        if kind is not None and tag != f"I-{kind}":
            found.append((kind, start, place))
            kind = None
        if tag.startswith("B-"):
            kind, start = tag[2:], place
    return found


@dataclass(frozen=True, slots=True)
class EntityF1:
    """F1 of all entities together, or of one type."""

    type: str | None = None
    name: str = "entity_f1"

    def statistics(self, predicted: Any, targets: Any) -> Floats:
        """Return (right, predicted, actual) entities of each sentence, (B, 3)."""
        return _counts(predicted, targets, self.type)

    def value(self, sums: Floats) -> Floats:
        """Return 2 right / (predicted + actual); 0 where there is neither."""
        return quotient(2 * sums[..., 0], sums[..., 1] + sums[..., 2], empty=0.0)


@dataclass(frozen=True, slots=True)
class EntityPrecision:
    """Share of the predicted entities that are right."""

    name: str = "entity_precision"

    def statistics(self, predicted: Any, targets: Any) -> Floats:
        """Return (right, predicted, actual) entities of each sentence, (B, 3)."""
        return _counts(predicted, targets, None)

    def value(self, sums: Floats) -> Floats:
        """Return right / predicted; 0 where none is predicted."""
        return quotient(sums[..., 0], sums[..., 1], empty=0.0)


@dataclass(frozen=True, slots=True)
class EntityRecall:
    """Share of the actual entities that are found."""

    name: str = "entity_recall"

    def statistics(self, predicted: Any, targets: Any) -> Floats:
        """Return (right, predicted, actual) entities of each sentence, (B, 3)."""
        return _counts(predicted, targets, None)

    def value(self, sums: Floats) -> Floats:
        """Return right / actual; 0 where there is none."""
        return quotient(sums[..., 0], sums[..., 2], empty=0.0)


def scores_per_type(predicted: Sentences, targets: Sentences) -> list[ClassScores]:
    """Return the scores of each type that is there or predicted, sorted by name."""
    types = sorted({entity[0] for side in (predicted, targets) for row in side for entity in row})
    sums = [_counts(predicted, targets, each).sum(axis=0).astype(np.int64) for each in types]
    if not types:
        return []
    hits, answered, actual = np.stack(sums, axis=-1)
    return scores_of_counts(types, hits, answered, actual)


def _counts(predicted: Sentences, targets: Sentences, kind: str | None) -> Floats:
    counts = np.zeros((len(targets), 3))
    for row, (found, true) in enumerate(zip(predicted, targets, strict=True)):
        ours = {entity for entity in found if kind in (None, entity[0])}
        theirs = {entity for entity in true if kind in (None, entity[0])}
        counts[row] = len(ours & theirs), len(ours), len(theirs)
    return counts
