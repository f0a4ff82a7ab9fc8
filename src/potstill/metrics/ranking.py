"""Metrics of rankings: of each query the documents in the order found, and the grades of some.

Grades above 0 are relevant; documents without a grade are not. A query without a relevant document
says nothing about a ranking and is left out.

Legend: Q queries. Source: Manning, Raghavan, Schütze 2008, chapter 8; gains as in trec_eval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.metrics.metric import quotient

Floats = NDArray[np.floating[Any]]
Ranked = Sequence[int]
Grades = Mapping[int, float]


@dataclass(frozen=True, slots=True)
class NDCG:
    """Discounted gain of the first `depth` documents over that of the best order."""

    depth: int = 10

    @property
    def name(self) -> str:
        """Return ndcg@depth."""
        return f"ndcg@{self.depth}"

    def statistics(self, predicted: Any, targets: Any) -> Floats:
        """Return (value, 1) for each query, (Q, 2)."""
        return _statistics(self._of, predicted, targets)

    def value(self, sums: Floats) -> Floats:
        """Return the mean over queries."""
        return quotient(sums[..., 0], sums[..., 1], empty=np.nan)

    def _of(self, ranked: Ranked, grades: Grades) -> float:
        gains = [grades.get(document, 0.0) for document in ranked[: self.depth]]
        best = sorted(grades.values(), reverse=True)[: self.depth]
        return _discounted(gains) / _discounted(best)


@dataclass(frozen=True, slots=True)
class Recall:
    """Share of the relevant documents among the first `depth`."""

    depth: int = 100

    @property
    def name(self) -> str:
        """Return recall@depth."""
        return f"recall@{self.depth}"

    def statistics(self, predicted: Any, targets: Any) -> Floats:
        """Return (value, 1) for each query, (Q, 2)."""
        return _statistics(self._of, predicted, targets)

    def value(self, sums: Floats) -> Floats:
        """Return the mean over queries."""
        return quotient(sums[..., 0], sums[..., 1], empty=np.nan)

    def _of(self, ranked: Ranked, grades: Grades) -> float:
        return sum(document in grades for document in ranked[: self.depth]) / len(grades)


@dataclass(frozen=True, slots=True)
class ReciprocalRank:
    """One over the rank of the first relevant document, 0 below `depth` (MRR)."""

    depth: int = 10

    @property
    def name(self) -> str:
        """Return mrr@depth."""
        return f"mrr@{self.depth}"

    def statistics(self, predicted: Any, targets: Any) -> Floats:
        """Return (value, 1) for each query, (Q, 2)."""
        return _statistics(self._of, predicted, targets)

    def value(self, sums: Floats) -> Floats:
        """Return the mean over queries."""
        return quotient(sums[..., 0], sums[..., 1], empty=np.nan)

    def _of(self, ranked: Ranked, grades: Grades) -> float:
        ranks = (
            rank for rank, document in enumerate(ranked[: self.depth], 1) if document in grades
        )
        return 1.0 / next(ranks, np.inf)


@dataclass(frozen=True, slots=True)
class AveragePrecision:
    """Mean precision at the rank of each relevant document (MAP)."""

    depth: int | None = None
    name: str = "map"

    def statistics(self, predicted: Any, targets: Any) -> Floats:
        """Return (value, 1) for each query, (Q, 2)."""
        return _statistics(self._of, predicted, targets)

    def value(self, sums: Floats) -> Floats:
        """Return the mean over queries."""
        return quotient(sums[..., 0], sums[..., 1], empty=np.nan)

    def _of(self, ranked: Ranked, grades: Grades) -> float:
        hits, total = 0, 0.0
        for rank, document in enumerate(ranked[: self.depth], 1):
            if document in grades:
                hits += 1
                total += hits / rank
        return total / len(grades)


def ranked_by_score(scores: Floats, groups: Sequence[Any]) -> list[list[int]]:
    """Return for each group, in the order of first sight, its rows' places, the best score first.

    Rows are counted from 0 inside their group. Of equal scores the later row comes first: a file
    that lists relevant documents first gives nothing to a model that cannot tell them apart.
    """
    members: dict[Any, list[float]] = {}
    for score, group in zip(scores, groups, strict=True):
        members.setdefault(group, []).append(float(score))
    return [_best_first(each) for each in members.values()]


def _best_first(scores: Sequence[float]) -> list[int]:
    return sorted(range(len(scores)), key=lambda place: (-scores[place], -place))


def _statistics(of: Any, predicted: Sequence[Ranked], targets: Sequence[Grades]) -> Floats:
    found = np.zeros((len(targets), 2))
    for query, (ranked, grades) in enumerate(zip(predicted, targets, strict=True)):
        relevant = {document: grade for document, grade in grades.items() if grade > 0}
        if relevant:
            found[query] = of(ranked, relevant), 1.0
    return found


def _discounted(gains: Sequence[float]) -> float:
    return float(sum(gain / np.log2(rank + 1) for rank, gain in enumerate(gains, 1)))
