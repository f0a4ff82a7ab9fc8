"""How well a model's vectors find documents: by its own index, and by one of its teacher's vectors.

A student that lies where its teacher lies answers queries over the teacher's index (asymmetric
search), so that nothing is indexed again.

Legend: Q queries, K documents, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.data.retrieval import Retrieval
from potstill.errors import ModelError
from potstill.metrics.bootstrap import Interval, interval
from potstill.metrics.metric import Metric, point
from potstill.metrics.ranking import NDCG, AveragePrecision, Recall, ReciprocalRank
from potstill.runtime.model import Model
from potstill.search.exact import nearest
from potstill.search.lexical import bm25_ranking
from potstill.search.vector_forms import Form, as_stored, cut

Floats = NDArray[np.floating[Any]]

USUAL_METRIC = "ndcg@10"
_DEPTH = 100  # documents of a ranking
METRICS: Mapping[str, Metric] = {
    "ndcg@10": NDCG(10),
    "recall@100": Recall(_DEPTH),
    "mrr@10": ReciprocalRank(10),
    "map": AveragePrecision(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundDocuments:
    """Rankings of a retrieval set, a model's and BM25's."""

    retrieval: Retrieval
    ranked: list[list[int]]  # of each query, document numbers, the best first
    lexical: list[list[int]]  # BM25's
    seed: int = 0

    def statistics(self, name: str) -> Floats:
        """Return a metric's statistics of each query, (Q, 2)."""
        return _statistics(METRICS[name], self.ranked, self.retrieval)

    def lexical_statistics(self, name: str) -> Floats:
        """Return the same of BM25's ranking."""
        return _statistics(METRICS[name], self.lexical, self.retrieval)

    def values(self) -> dict[str, float]:
        """Return all metrics."""
        return {name: point(each, self.statistics(name)) for name, each in METRICS.items()}

    def intervals(self) -> dict[str, Interval]:
        """Return all metrics with their intervals over queries."""
        return {
            name: interval(each, self.statistics(name), seed=self.seed)
            for name, each in METRICS.items()
        }

    def lexical_values(self) -> dict[str, float]:
        """Return all metrics of BM25."""
        return {name: point(each, self.lexical_statistics(name)) for name, each in METRICS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAs:
    """How the documents' vectors are kept."""

    form: Form = "float32"
    dimensions: int | None = None  # the first so many, normed again; None: all


def judge_retrieval(
    model: Model,
    retrieval: Retrieval,
    *,
    documents: Model | None = None,
    stored: StoredAs | None = None,
    seed: int = 0,
) -> FoundDocuments:
    """Search for all queries.

    Args:
        model: makes the queries' vectors.
        retrieval: documents, queries and which of them belong together.
        documents: the model that makes the documents' vectors; None: the same.
        stored: how these are kept; None: as they are.
        seed: of the resampled intervals.

    Raises:
        ModelError: the two models' vectors have different widths.
    """
    found = (documents or model).embed(retrieval.documents)
    asked = model.embed(retrieval.queries)
    if found.shape[1] != asked.shape[1]:
        raise ModelError(
            f"its vectors have {asked.shape[1]} dimensions, the documents' {found.shape[1]}",
            where=str(model.folder.path),
            allowed="a student that was aligned to the model of the index",
        )
    return search_all(retrieval, asked, found, stored or StoredAs(), seed=seed)


def search_all(
    retrieval: Retrieval,
    queries_QD: Floats,
    documents_KD: Floats,
    stored: StoredAs,
    *,
    seed: int = 0,
) -> FoundDocuments:
    """Search vectors that are at hand by their cosine, the documents' kept as asked.

    A student is aligned by cosines, so the lengths of its vectors say nothing.
    """
    width = queries_QD.shape[1]
    dimensions = width if stored.dimensions is None else stored.dimensions
    queries_QD, documents_KD = cut(queries_QD, dimensions), cut(documents_KD, dimensions)
    kept_KD = as_stored(documents_KD, stored.form)
    numbers, _ = nearest(queries_QD, kept_KD, top=_DEPTH)
    return FoundDocuments(
        retrieval=retrieval,
        ranked=[row.tolist() for row in numbers],
        lexical=bm25_ranking(retrieval.documents, retrieval.queries, top=_DEPTH),
        seed=seed,
    )


def _statistics(metric: Metric, ranked: list[list[int]], retrieval: Retrieval) -> Floats:
    given: Any = ranked
    true: Any = retrieval.relevant
    return metric.statistics(given, true)
