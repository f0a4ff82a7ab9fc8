"""Gates: three outcomes, and how many rows an undecided one would need."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.metrics.bootstrap import Drawn, Interval
from potstill.metrics.classification import Accuracy
from potstill.metrics.gate import Gate, judge_gate, undecided_gate
from potstill.metrics.retention import retention

ENDS = st.tuples(*[st.floats(0.5, 1.2)] * 3).map(sorted)


@pytest.mark.parametrize(
    ("low", "value", "high", "outcome"),
    [
        (0.97, 0.98, 0.99, "holds"),
        (0.95, 0.98, 1.01, "undecided"),
        (0.93, 0.95, 0.98, "undecided"),
        (0.91, 0.94, 0.969, "fails"),
    ],
)
def test_the_whole_interval_decides(low: float, value: float, high: float, outcome: str) -> None:
    assert judge_gate(Interval(value, low, high), floor=0.97, drawn=Drawn(100)).outcome == outcome


@given(ENDS, st.floats(0.5, 1.2), st.integers(1, 10_000))
def test_only_an_undecided_gate_above_its_floor_asks_for_rows(
    ends: list[float], floor: float, rows: int
) -> None:
    low, value, high = ends
    gate = judge_gate(Interval(value, low, high), floor=floor, drawn=Drawn(rows))
    asks = gate.outcome == "undecided" and value > floor
    assert (gate.rows_needed is not None) == asks
    if gate.rows_needed is not None:
        assert gate.rows_needed >= rows
        assert f"{gate.rows_needed:,}" in gate.describe()


def test_the_line_names_the_rows() -> None:
    kept = Interval(0.99, 0.98, 1.0)
    assert (
        "on 400 dev rows"
        in judge_gate(kept, floor=0.97, drawn=Drawn(400), rows_of="dev").describe()
    )
    assert "on 400 rows" in judge_gate(kept, floor=0.97, drawn=Drawn(400)).describe()


@pytest.mark.parametrize(("floor", "told"), [(0.97, "97.0%"), (0.9999, "99.99%"), (1.0, "100.0%")])
def test_the_line_tells_the_floor_that_was_given(floor: float, told: str) -> None:
    gate = judge_gate(Interval(0.5, 0.4, 0.6), floor=floor, drawn=Drawn(9))
    assert f"floor {told}: " in gate.describe()


def test_the_line_counts_what_was_drawn() -> None:
    gate = judge_gate(Interval(0.98, 0.95, 1.0), floor=0.97, drawn=Drawn(2, "queries"))
    assert "on 2 queries; about 18 queries would decide it" in gate.describe()
    assert Gate(**gate.to_json()) == gate
    assert undecided_gate(floor=0.97, drawn=Drawn(1, "queries"), rows_of="test").describe() == (
        "the gate is undecided, floor 97.0%: no retention can be told on 1 test query"
    )


@pytest.mark.parametrize("accept", [None, "point"])
def test_a_gate_of_which_nothing_can_be_told_is_not_met(accept: str | None) -> None:
    gate = undecided_gate(floor=0.97, drawn=Drawn(5), rows_of="test")
    assert not gate.is_met(accept)
    assert gate.describe().endswith("no retention can be told on 5 test rows")


def test_about_as_many_rows_as_told_decide_it() -> None:
    rng = np.random.default_rng(0)
    metric = Accuracy()

    def found(rows: int) -> Interval:
        targets = np.zeros(rows, dtype=np.int64)
        teacher = (rng.random(rows) < 0.10).astype(np.int64)
        student = np.where(rng.random(rows) < 0.02, 1 - teacher, teacher)
        return retention(
            metric, [metric.statistics(student, targets)], [metric.statistics(teacher, targets)]
        )

    first = judge_gate(found(400), floor=0.97, drawn=Drawn(400))
    assert first.outcome == "undecided"
    assert first.rows_needed is not None
    assert judge_gate(found(4 * first.rows_needed), floor=0.97, drawn=Drawn(1)).outcome == "holds"


@pytest.mark.parametrize("rows", [30, 367, 368, 2_000])
def test_no_flip_in_few_rows_is_no_proof(rows: int) -> None:
    metric = Accuracy()
    own = [metric.statistics(np.arange(rows) % 2, np.ones(rows))]
    gate = judge_gate(retention(metric, own, own), floor=0.99, drawn=Drawn(rows))
    assert gate.outcome == ("holds" if rows >= 368 else "undecided")
    if gate.rows_needed is not None:
        assert gate.rows_needed == 368
