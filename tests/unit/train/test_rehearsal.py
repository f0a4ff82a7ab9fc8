"""What a whole run will take, from a few of its steps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from potstill.train.rehearsal import Rehearsal
from tests.training import RECIPE

MEASURED = Rehearsal(
    steps=5,
    tokens=5_000,
    seconds=5.0,
    score_seconds=7.0,
    save_seconds=10.0,
    save_bytes=1,
    peak_bytes=1,
    total_steps=1_000,
    total_tokens=1_000_000,
    scores=2,
)


@pytest.mark.parametrize(
    ("every_s", "saves"),
    [(0.0, 1_000), (60.0, 2), (1_000.0, 1)],  # each step; a fiftieth of the time; as asked
)
def test_a_run_takes_its_steps_its_scores_and_its_checkpoints(every_s: float, saves: int) -> None:
    recipe = replace(RECIPE, checkpoint_every_s=every_s)
    assert MEASURED.run_seconds(recipe) == pytest.approx(1_000 + 2 * 7 + saves * 10)
