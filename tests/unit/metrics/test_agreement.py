"""Agreement: the share of rows on which two models answer the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from potstill.metrics.agreement import share_of

ANSWERS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


@given(ANSWERS)
def test_it_is_the_share_of_equal_rows(pairs: list[tuple[int, int]]):
    one, other = (np.asarray(side) for side in zip(*pairs, strict=True))
    found = share_of(one == other)
    assert found.value == np.mean(one == other)
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize("same", [0, 1, 800, 999, 1000])
def test_the_interval_is_that_of_a_share(same: int):
    found = share_of(np.arange(1000) < same)
    expected = stats.binomtest(same, 1000).proportion_ci(method="wilson")
    np.testing.assert_allclose([found.low, found.high], expected, atol=1e-6)
