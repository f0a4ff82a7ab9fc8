"""A perplexity is e to the power of a loss, and inf where no float holds it."""

from __future__ import annotations

import math

import pytest

from potstill.report import Measured
from potstill.workflows.corpus_run import perplexity_of


def test_value_and_ends_are_powers_of_e() -> None:
    found = perplexity_of(Measured(value=2.0, low=1.0, high=3.0, greater_is_better=False))
    assert (found.value, found.low, found.high) == pytest.approx((math.e**2, math.e, math.e**3))
    assert not found.greater_is_better


def test_of_a_loss_beyond_all_floats_it_is_infinite() -> None:
    found = perplexity_of(Measured(value=900.0, low=700.0, high=1100.0))
    assert found.value == found.high == math.inf
    assert found.low is not None
    assert math.isfinite(found.low)
