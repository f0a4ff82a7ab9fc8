"""A run has diverged only where many steps in a row cost far more than the first."""

from __future__ import annotations

import numpy as np
import pytest

from potstill.train.divergence import PATIENCE, LossWatch, weighted

ONE = {"loss": 1.0}


def watch_of(losses: list[float], weights: dict[str, float] = ONE) -> LossWatch:
    watch = LossWatch()
    for loss in losses:
        watch = watch.after(loss, weights)
    return watch


@pytest.mark.parametrize(
    ("first", "high"),
    [(3.64, 60.0), (0.0, 3.1), (10.3, 24.0)],
    ids=["trained further", "a copy of its teacher", "from scratch"],
)
def test_it_takes_so_many_steps_in_a_row(first: float, high: float) -> None:
    assert watch_of([first, *[high] * PATIENCE]).has_diverged
    assert not watch_of([first, *[high] * (PATIENCE - 1)]).has_diverged
    broken = [*[high] * (PATIENCE - 1), first] * 5
    assert not watch_of([first, *broken]).has_diverged


def test_losses_that_rise_as_healthy_ones_do_are_left_alone() -> None:
    rng = np.random.default_rng(0)
    for start, rise in ((0.0, 1.0), (0.7, 2.0), (3.6, 3.0), (10.4, 2.0)):
        noisy = start + rise + rng.exponential(0.3, 1_000)
        assert not watch_of([start, *noisy.tolist()]).has_diverged


def test_a_first_step_that_was_costly_is_the_measure_of_what_follows() -> None:
    assert not watch_of([40.0] * 100).has_diverged


def test_the_bound_grows_with_the_weights_of_the_terms() -> None:
    weights = {"soft_targets": 5.0, "masked_lm": 2.0, "hidden_cosine": 1.0}
    first = weighted({"soft_targets": 1.0, "masked_lm": 3.0, "hidden_cosine": 0.5}, weights)
    assert first == 11.5
    assert LossWatch(first).bound(weights) == 2 * 11.5 + 3 * 8


def test_a_loss_below_zero_lowers_no_bound() -> None:
    assert LossWatch(-2.0).bound(ONE) == LossWatch(0.0).bound(ONE) == 3.0
