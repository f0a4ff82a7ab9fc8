"""Ranking: how well a document answers a query, read together (a cross-encoder).

Rows are pairs: the query in `text`, the document in `text_pair`, its grade in `label`. Metrics are
of queries: the rows of one query are its candidates.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.architectures.heads import HeadSpec, Pooling
from potstill.data.rows import Rows
from potstill.errors import DataError, RecipeError
from potstill.metrics.correlation import Spearman
from potstill.metrics.metric import Metric
from potstill.metrics.per_class import ClassScores
from potstill.metrics.ranking import NDCG, AveragePrecision, ReciprocalRank, ranked_by_score
from potstill.tasks.task import OfWholeTexts
from potstill.text.windows import Windows

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]

NAME = "ranking"
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, eq=False)
class Grades:
    """What is true of candidates: their queries, grades, and how many words they share."""

    queries: tuple[str, ...]  # of each row
    grades: Floats  # (B,), above 0: relevant
    shared_words: Floats  # (B,) share of the query's words that stand in the document

    def by_query(self) -> list[dict[int, float]]:
        """Return the grade of each relevant candidate, by its place among its query's rows."""
        found: dict[str, dict[int, float]] = {}
        seen: dict[str, int] = {}
        for query, grade in zip(self.queries, self.grades, strict=True):
            place = seen.get(query, 0)
            seen[query] = place + 1
            relevant = found.setdefault(query, {})
            if grade > 0:
                relevant[place] = float(grade)
        return list(found.values())


@dataclass(frozen=True, slots=True)
class Ranking(OfWholeTexts):
    """A score a pair; answers are scores, (B,), the greater the better."""

    labels: tuple[str, ...] = ("relevance",)
    highest: float = 1.0  # the best grade of the training rows

    name = NAME
    loss = "yes-or-no"
    metric_names = ("ndcg@10", "mrr@10", "map")

    @classmethod
    def from_rows(cls, rows: Rows) -> Ranking:
        """Find the best grade.

        Raises:
            DataError: no document is relevant, or all are.
        """
        grades = np.asarray(rows.column("label"), dtype=np.float64)
        if not (grades > 0).any() or not (grades <= 0).any():
            raise DataError(
                "no document is relevant" if not (grades > 0).any() else "all are relevant",
                where=f"{rows.source}, field 'label'",
                allowed="grades above 0 for relevant documents, and 0 for others, some of each",
            )
        return cls(highest=float(grades.max()))

    def head(self, pooling: Pooling) -> HeadSpec:
        """Return the head that answers this task."""
        return HeadSpec(kind="classification", labels=self.labels, pooling=pooling)

    def targets(self, rows: Rows, windows: Windows) -> Floats:
        """Return the grade of each window's row as a share of the best grade, (W, 1)."""
        grades = np.asarray(rows.column("label"), dtype=np.float64)
        shares = np.clip(grades / self.highest, 0.0, 1.0).astype(np.float32)
        return shares[windows.rows][:, None]

    def unknown_targets(self, windows: Windows) -> Floats:
        """Return nan for each window."""
        return np.full((len(windows.texts), 1), np.nan, dtype=np.float32)

    def gold(self, rows: Rows) -> Grades:
        """Return queries and grades."""
        pairs = list(zip(rows.column("text"), rows.column("text_pair"), strict=True))
        return Grades(
            queries=tuple(query for query, _ in pairs),
            grades=np.asarray(rows.column("label"), dtype=np.float64),
            shared_words=np.array([_shared(query, document) for query, document in pairs]),
        )

    def answers(self, outputs: Floats, windows: Windows, rows: Rows) -> Floats:
        """Return a score a row: of a document in windows the best one's."""
        del rows
        if len(windows.rows) == windows.row_count:
            return outputs[:, 0].astype(np.float64)
        best = np.full(windows.row_count, -np.inf)
        np.maximum.at(best, windows.rows, outputs[:, 0].astype(np.float64))
        return best

    def as_gold(self, answers: Floats) -> Floats:
        """Return the scores."""
        return answers

    def primary(self, *, has_gold: bool) -> str:
        """Return nDCG of the first ten; without grades how near the teacher's scores are."""
        return "ndcg@10" if has_gold else "spearman"

    def metric(self, name: str) -> Metric:
        """Return a metric by its name.

        Raises:
            RecipeError: no such metric.
        """
        known: dict[str, Metric] = {
            "ndcg@10": NDCG(10),
            "mrr@10": ReciprocalRank(10),
            "map": AveragePrecision(),
            "spearman": Spearman(),
        }
        if name not in known:
            raise RecipeError(f"primary is {name!r}", allowed=", ".join(known))
        return known[name]

    def statistics(self, metric: Metric, answers: Floats, gold: Grades | Floats) -> Floats:
        """Return the metric's statistics of each query."""
        if not isinstance(gold, Grades):
            return metric.statistics(answers, gold)
        if metric.name == "spearman":
            return metric.statistics(answers, gold.grades)
        ranked: Any = ranked_by_score(answers, gold.queries)
        grades: Any = gold.by_query()
        return metric.statistics(ranked, grades)

    def trivial(self, gold: Grades) -> tuple[Floats, str]:
        """Return the share of the query's words that stand in the document."""
        return gold.shared_words, "shared words"

    def breakdown(self, answers: Floats, gold: Grades) -> list[ClassScores]:
        """Return nothing: scores have no classes."""
        del answers, gold
        return []

    def same(self, one: Floats, other: Floats) -> Bools:
        """Tell where both call the document relevant, or both do not."""
        return np.asarray((one > 0) == (other > 0))

    def right(self, answers: Floats, gold: Grades) -> Bools:
        """Tell where a score above 0 stands with a grade above 0."""
        return np.asarray((answers > 0) == (gold.grades > 0))

    def sureness(self, answers: Floats) -> Floats:
        """Return how far the probability is from one half, 0 to 1."""
        return np.asarray(np.abs(np.tanh(0.5 * answers)))

    def shown(self, answers: Floats) -> list[str]:
        """Return the scores."""
        return [f"{answer:.3f}" for answer in answers]

    def shown_gold(self, rows: Rows) -> list[str]:
        """Return each row's grade."""
        return [f"{grade:g}" for grade in rows.column("label")]

    def items(self, answers: Floats, rows: Rows, truncated: Bools) -> list[dict[str, Any]]:
        """Return for each pair its score, 0 to 1."""
        del rows
        return [
            {"score": float(0.5 * (1 + np.tanh(0.5 * answer))), "truncated": bool(is_cut)}
            for answer, is_cut in zip(answers, truncated, strict=True)
        ]


def _shared(query: str, document: str) -> float:
    words = set(_WORD.findall(query.lower()))
    return len(words & set(_WORD.findall(document.lower()))) / max(len(words), 1)
