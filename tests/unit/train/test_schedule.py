"""The schedule: every row once an epoch, a rate that rises and falls, a score after the end."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.recipe import TrainingRecipe
from potstill.train.schedule import Schedule
from potstill.workflows.corpus_recipe import CorpusRecipe

RECIPES = st.builds(
    TrainingRecipe,
    epochs=st.floats(0.1, 5.0),
    rows_per_step=st.integers(1, 20),
    batch_tokens=st.integers(1, 200),
    warmup_share=st.floats(0.0, 0.99),
    length_pools=st.integers(0, 3),
    scores_per_epoch=st.integers(1, 7),
    seed=st.integers(0, 5),
)
LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=60)


def schedule(rows: int, **settings: Any) -> Schedule:
    return Schedule(TrainingRecipe(**settings), np.full(rows, 4))


def rows_of(plan: Schedule, steps: range) -> list[int]:
    parts = [part for step in steps for part in plan.micro_batches(step)]
    return np.concatenate(parts).tolist()


@settings(deadline=None)
@given(RECIPES, LENGTHS)
def test_every_row_comes_once_an_epoch(recipe: TrainingRecipe, lengths: list[int]) -> None:
    plan = Schedule(recipe, np.array(lengths))
    for epoch in range(3):
        first = epoch * plan.steps_per_epoch
        rows = rows_of(plan, range(first, first + plan.steps_per_epoch))
        assert sorted(rows) == list(range(len(lengths)))


@settings(deadline=None)
@given(RECIPES, LENGTHS)
def test_a_step_is_the_same_from_wherever_one_comes(
    recipe: TrainingRecipe, lengths: list[int]
) -> None:
    plan = Schedule(recipe, np.array(lengths))
    forward = [rows_of(plan, range(step, step + 1)) for step in range(2 * plan.steps_per_epoch)]
    for step in reversed(range(len(forward))):
        assert rows_of(Schedule(recipe, np.array(lengths)), range(step, step + 1)) == forward[step]
        assert rows_of(plan, range(step, step + 1)) == forward[step]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    plan, other = schedule(50, seed=1), schedule(50, seed=2)
    steps = range(plan.steps_per_epoch)
    assert rows_of(plan, steps) != rows_of(plan, range(steps.stop, 2 * steps.stop))
    assert rows_of(plan, steps) != rows_of(other, steps)


@pytest.mark.parametrize(
    ("rows", "settings", "steps"),
    [
        (64, {"epochs": 2.0, "rows_per_step": 32}, 4),
        (65, {"epochs": 2.0, "rows_per_step": 32}, 6),
        (10, {"epochs": 0.5, "rows_per_step": 2}, 2),
        (10, {"epochs": 1.5, "rows_per_step": 2}, 8),
        (10, {"epochs": 0.001}, 1),
    ],
)
def test_steps_are_counted_in_whole_epochs_and_parts(
    rows: int, settings: dict[str, Any], steps: int
) -> None:
    assert schedule(rows, **settings).total_steps == steps


def test_the_rate_rises_and_falls_in_a_line() -> None:
    plan = schedule(10, epochs=1.0, rows_per_step=1, learning_rate=6.0, warmup_share=0.2)
    rates = [plan.learning_rate(step) for step in range(plan.total_steps)]
    np.testing.assert_allclose(rates, [2, 4, 6, 5.25, 4.5, 3.75, 3, 2.25, 1.5, 0.75])


def test_without_warmup_the_rate_begins_at_its_peak() -> None:
    plan = schedule(4, epochs=1.0, rows_per_step=1, learning_rate=1.0, warmup_share=0.0)
    assert [plan.learning_rate(step) for step in range(4)] == [1.0, 0.75, 0.5, 0.25]


@settings(deadline=None)
@given(RECIPES, LENGTHS)
def test_the_rate_is_above_zero_and_never_above_its_peak(
    recipe: TrainingRecipe, lengths: list[int]
) -> None:
    plan = Schedule(recipe, np.array(lengths))
    rates = [plan.learning_rate(step) for step in range(plan.total_steps)]
    assert all(0.0 < rate <= recipe.learning_rate for rate in rates)
    peak = int(np.argmax(rates))
    assert all(one < other for one, other in itertools.pairwise(rates[: peak + 1]))
    assert all(one > other for one, other in itertools.pairwise(rates[peak:]))


@settings(deadline=None)
@given(RECIPES, LENGTHS)
def test_a_score_is_taken_after_the_last_step_and_each_epoch(
    recipe: TrainingRecipe, lengths: list[int]
) -> None:
    plan = Schedule(recipe, np.array(lengths))
    assert plan.is_scored(plan.total_steps)
    for epoch in range(1, math.floor(plan.total_steps / plan.steps_per_epoch) + 1):
        assert plan.is_scored(epoch * plan.steps_per_epoch)


@settings(deadline=None)
@given(epochs=st.floats(0.1, 80.0), rows=st.integers(1, 40), scores=st.integers(1, 12))
def test_scores_of_a_run_on_a_corpus_are_counted_over_all_its_epochs(
    epochs: float, rows: int, scores: int
) -> None:
    recipe = CorpusRecipe(
        epochs=epochs, scores=scores, max_length=16, step_tokens=16, batch_tokens=16
    )
    plan = Schedule(recipe, np.full(rows, 16))
    scored = [step for step in range(1, plan.total_steps + 1) if plan.is_scored(step)]
    assert len(scored) == plan.scores == min(scores, plan.total_steps)
    pauses = np.diff([0, *scored])
    assert pauses.max() - pauses.min() <= 1
    assert scored[-1] == plan.total_steps


def test_scores_are_spread_over_the_epoch() -> None:
    plan = schedule(10, epochs=2.0, rows_per_step=1, scores_per_epoch=4)
    scored = [done for done in range(1, 21) if plan.is_scored(done)]
    assert scored == [2, 5, 8, 10, 12, 15, 18, 20]
    often = schedule(3, epochs=1.0, rows_per_step=1, scores_per_epoch=100)
    assert all(often.is_scored(done) for done in (1, 2, 3))
