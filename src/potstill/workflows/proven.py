"""What a comparison proves of one student: the figures for its manifest and card, and its gate."""

from __future__ import annotations

from typing import Any

from potstill.metrics.bootstrap import Interval
from potstill.metrics.gate import Gate, judge_gate, undecided_gate
from potstill.workflows.comparison import ComparedModel, Comparison


def gate_of(comparison: Comparison, model: ComparedModel, floor: float | None) -> Gate | None:
    """Judge a model's retention on the test rows; None without a floor.

    Beside a teacher that is no better than the trivial answer nothing can be kept: undecided.
    """
    if floor is None:
        return None
    assert comparison.test is not None, "there are test rows"
    kept = model.quality.retention if model.quality else None
    drawn = comparison.test.drawn
    if kept is None:
        return undecided_gate(floor=floor, drawn=drawn, rows_of="test")
    return judge_gate(kept, floor=floor, drawn=drawn, rows_of="test")


def measurements(
    comparison: Comparison, student: ComparedModel, gate: Gate | None
) -> dict[str, Any]:
    """Return the figures of a student for manifest and card."""
    teacher = comparison.baseline
    assert student.quality is not None, "there are test rows"
    assert teacher.quality is not None, "there are test rows"
    assert comparison.test is not None, "there are test rows"
    primary = comparison.test.primary
    found: dict[str, Any] = {
        "test_rows": comparison.test.rows,
        **comparison.test.queries("test_queries"),
        f"test_{primary}": _told(student.quality.metrics[primary]),
        f"test_{primary}_of_teacher": _told(teacher.quality.metrics[primary]),
        "speedup": round(student.speedup, 2),
    }
    for name, count in comparison.test.seen.items():
        if count:
            found[f"test_rows_in_{name}_rows"] = count
    if student.quality.retention is not None:
        found["retention"] = _told(student.quality.retention)
    if student.quality.gain_retained is not None:
        found["gain_retained"] = _told(student.quality.gain_retained)
    if gate is not None:
        found["gate"] = gate.describe()
    return found


def _told(found: Interval) -> str:
    return f"{found.value:.4f} ({found.low:.4f} to {found.high:.4f})"
