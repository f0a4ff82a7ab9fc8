"""Test rows that stand in what a student was made of: told beside its figures, decides nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from potstill.data.overlap import find_overlap
from potstill.data.rows import Rows
from potstill.tasks import reading
from potstill.workflows.comparison import Comparison
from potstill.workflows.shown_places import shown_path
from potstill.workflows.shrink_recipe import ShrinkInputs


def with_seen_rows(comparison: Comparison, inputs: ShrinkInputs, task: str) -> Comparison:
    """Return a comparison that tells how many test rows stand in training, dev, unlabelled rows.

    It is asked when all choices are made, so that test rows change nothing.
    """
    assert comparison.test is not None, "there are test rows"
    test = _shown(reading.labelled(task, inputs.test, inputs.columns))
    found = {name: find_overlap(_shown(rows), test) for name, rows in _sources(inputs, task)}
    told = [each.describe(beside=name) for name, each in found.items() if each.count]
    return replace(
        comparison,
        test=replace(comparison.test, seen={name: each.count for name, each in found.items()}),
        warnings=(*comparison.warnings, *told),
    )


def _shown(rows: Rows) -> Rows:
    """Return rows that do not tell in which place of somebody's disk they lie."""
    return replace(rows, source=shown_path(rows.source))


def _sources(inputs: ShrinkInputs, task: str) -> Iterator[tuple[str, Rows]]:
    yield "training", reading.labelled(task, inputs.train, inputs.columns)
    if inputs.dev is not None:
        yield "dev", reading.labelled(task, inputs.dev, inputs.columns)
    if inputs.unlabelled is not None:
        yield "unlabelled", reading.unlabelled(task, inputs.unlabelled, inputs.columns)
