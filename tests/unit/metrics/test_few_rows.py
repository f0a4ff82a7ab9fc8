"""Counting rows where resamples say too much."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from potstill.metrics.bootstrap import interval
from potstill.metrics.classification import ClassF1
from potstill.metrics.few_rows import differing, rows_to_hold, seen_share, telling
from potstill.metrics.retention import retention


@given(st.integers(1, 5_000))
def test_the_share_is_the_exact_bound_of_none_in_so_many(rows: int) -> None:
    exact = binomtest(0, rows).proportion_ci(confidence_level=0.95, method="exact")
    assert 1 - seen_share(rows) == pytest.approx(exact.high)


@given(st.floats(0.01, 0.9999))
def test_the_least_rows_that_hold_a_floor_are_the_first_that_do(floor: float) -> None:
    least = rows_to_hold(floor)
    assert seen_share(least) >= floor - 1e-12
    assert least == 1 or seen_share(least - 1) < floor


@given(st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=30))
def test_a_row_differs_where_any_model_answers_otherwise(rows: list[tuple[int, ...]]) -> None:
    sides = [np.asarray(column)[:, None] for column in zip(*rows, strict=True)]
    assert differing(sides) == sum(len(set(row)) > 1 for row in rows)
    assert differing(sides[:1]) == 0


def test_rows_that_a_score_is_not_made_of_make_nothing_sure() -> None:
    metric = ClassF1(positive=1)
    spam = (np.arange(500) < 60).astype(np.int64)
    statistics = metric.statistics(spam, spam)
    assert telling([statistics]) == 60
    assert retention(metric, [statistics], [statistics]).low == pytest.approx(seen_share(60))
    assert interval(metric, statistics).low == pytest.approx(seen_share(60))
    assert telling([np.zeros((5, 3))]) == 1
