"""Rankings: by hand, by scikit-learn, and what moving a document may do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score

from potstill.metrics.metric import Metric, point
from potstill.metrics.ranking import (
    NDCG,
    AveragePrecision,
    Recall,
    ReciprocalRank,
    ranked_by_score,
)

DOCUMENTS = 8
METRICS = (
    NDCG(3),
    NDCG(10),
    Recall(3),
    ReciprocalRank(3),
    AveragePrecision(),
    AveragePrecision(depth=3),
)
ORDERS = st.permutations(range(DOCUMENTS))
GRADES = st.lists(st.integers(0, 3), min_size=DOCUMENTS, max_size=DOCUMENTS).filter(any)
each_metric = pytest.mark.parametrize("metric", METRICS, ids=repr)


def value(metric: Metric, ranked: list[int], grades: list[int]) -> float:
    return point(metric, metric.statistics([ranked], [dict(enumerate(grades))]))


def test_values_are_those_worked_out_by_hand() -> None:
    ranked, grades = [4, 0, 2, 9], {0: 2.0, 2: 1.0, 7: 3.0, 9: 0.0}
    gain = 2 / math.log2(3) + 1 / math.log2(4)
    best = 3 / math.log2(2) + 2 / math.log2(3) + 1 / math.log2(4)
    cases = [
        (NDCG(10), gain / best),
        (NDCG(2), (2 / math.log2(3)) / (3 + 2 / math.log2(3))),
        (Recall(2), 1 / 3),
        (Recall(100), 2 / 3),
        (ReciprocalRank(10), 1 / 2),
        (ReciprocalRank(1), 0.0),
        (AveragePrecision(), (1 / 2 + 2 / 3) / 3),
        (AveragePrecision(depth=2), (1 / 2) / 3),
    ]
    for metric, expected in cases:
        found = metric.statistics([ranked], [grades])
        np.testing.assert_allclose(found, [[expected, 1.0]], err_msg=repr(metric))


def test_names_tell_the_depth() -> None:
    metrics = (NDCG(), Recall(), ReciprocalRank(), AveragePrecision(), NDCG(5))
    assert [each.name for each in metrics] == ["ndcg@10", "recall@100", "mrr@10", "map", "ndcg@5"]


@settings(deadline=None)
@given(ORDERS, GRADES, st.integers(1, DOCUMENTS))
def test_gain_and_precision_are_scikit_learns(
    ranked: list[int], grades: list[int], depth: int
) -> None:
    scores = -np.argsort(ranked)[None, :].astype(float)  # the first in order scores highest
    expected = ndcg_score([grades], scores, k=depth, ignore_ties=True)
    assert value(NDCG(depth), ranked, grades) == pytest.approx(expected)
    is_relevant = np.array([grades]) > 0
    expected = label_ranking_average_precision_score(is_relevant, scores)
    assert value(AveragePrecision(), ranked, grades) == pytest.approx(expected)


@each_metric
@settings(deadline=None)
@given(ORDERS, GRADES, st.integers(0, DOCUMENTS - 2))
def test_a_better_document_moved_up_never_lowers_a_value(
    metric: Metric, ranked: list[int], grades: list[int], place: int
) -> None:
    upper, lower = ranked[place : place + 2]
    better, worse = (lower, upper) if grades[lower] > grades[upper] else (upper, lower)
    swapped = [*ranked[:place], better, worse, *ranked[place + 2 :]]
    found = value(metric, swapped, grades)
    assert found >= value(metric, ranked, grades) - 1e-12
    assert -1e-12 <= found <= 1 + 1e-12


@each_metric
@given(GRADES)
def test_the_best_order_is_never_beaten(metric: Metric, grades: list[int]) -> None:
    best = sorted(range(DOCUMENTS), key=lambda document: -grades[document])
    relevant = sum(grade > 0 for grade in grades)
    within = min(relevant, getattr(metric, "depth", None) or DOCUMENTS)
    reachable = within / relevant if isinstance(metric, Recall | AveragePrecision) else 1.0
    assert value(metric, best, grades) == pytest.approx(reachable)


@each_metric
def test_a_query_without_relevant_documents_is_left_out(metric: Metric) -> None:
    statistics = metric.statistics([[0, 1], [0, 1], [0, 1]], [{0: 1.0}, {}, {1: 0.0}])
    np.testing.assert_allclose(statistics, [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    assert point(metric, statistics) == 1.0
    assert math.isnan(point(metric, statistics[1:]))


@each_metric
def test_a_query_that_finds_nothing_counts_as_0(metric: Metric) -> None:
    np.testing.assert_array_equal(metric.statistics([[], [5]], [{0: 1.0}] * 2), [[0, 1], [0, 1]])


def test_rows_are_ranked_inside_their_group() -> None:
    scores = np.array([0.1, 5.0, 0.9, 4.0, 0.5])
    assert ranked_by_score(scores, ["x", "y", "x", "y", "x"]) == [[1, 2, 0], [0, 1]]


def test_of_equal_scores_the_later_row_comes_first() -> None:
    assert ranked_by_score(np.array([1.0, 1.0, 2.0, 1.0]), [7, 7, 7, 7]) == [[2, 3, 1, 0]]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30))
def test_every_row_is_ranked_once_and_scores_fall(rows: list[tuple[int, int]]) -> None:
    scores, groups = ([row[side] for row in rows] for side in (0, 1))
    found = ranked_by_score(np.array(scores, dtype=np.float64), groups)
    for group, places in zip(dict.fromkeys(groups), found, strict=True):
        own = [score for score, each in rows if each == group]
        assert sorted(places) == list(range(len(own)))
        assert [own[place] for place in places] == sorted(own, reverse=True)
