"""The gate of a student: judged by its retention, undecided where there is none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from potstill.metrics.bootstrap import Drawn
from potstill.workflows.proven import gate_of, measurements
from potstill.workflows.report_page.page import render_page
from tests.unit.workflows.comparisons import a_comparison, unsolved


@pytest.mark.parametrize(
    ("floor", "outcome"), [(0.9, "holds"), (0.98, "undecided"), (1.1, "fails")]
)
def test_retention_decides(floor: float, outcome: str) -> None:
    comparison = a_comparison()
    gate = gate_of(comparison, comparison.others[0], floor)
    assert gate is not None
    assert (gate.outcome, gate.rows, gate.rows_of) == (outcome, 500, "test")


@pytest.mark.parametrize("accept", [None, "point"])
def test_beside_a_teacher_that_solves_nothing_no_floor_is_met(accept: str | None) -> None:
    comparison = unsolved(a_comparison())
    student = comparison.others[0]
    gate = gate_of(comparison, student, 0.5)
    assert gate is not None
    assert (gate.outcome, gate.value) == ("undecided", None)
    assert not gate.is_met(accept)
    told = measurements(comparison, student, gate)["gate"]
    assert told.endswith("no retention can be told on 500 test rows")


@pytest.mark.parametrize("comparison", [a_comparison(), unsolved(a_comparison())])
def test_without_a_floor_there_is_no_gate(comparison) -> None:
    assert gate_of(comparison, comparison.others[0], None) is None


def test_a_ranking_is_judged_by_its_queries() -> None:
    comparison = a_comparison()
    assert comparison.test is not None
    of_queries = replace(comparison, test=replace(comparison.test, drawn=Drawn(20, "queries")))
    student = of_queries.others[0]
    gate, of_rows = (gate_of(each, student, 0.98) for each in (of_queries, comparison))
    assert gate is not None
    assert of_rows is not None
    assert "on 20 test queries; about" in gate.describe()
    assert gate.rows_needed == pytest.approx(of_rows.rows_needed / 25, abs=1)
    told = measurements(of_queries, student, gate)
    assert (told["test_rows"], told["test_queries"]) == (500, 20)
    assert of_queries.to_json()["test"]["queries"] == 20
    assert "500 rows of 20 queries of test.jsonl" in render_page(of_queries)
