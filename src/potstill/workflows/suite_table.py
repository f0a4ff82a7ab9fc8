"""The table of a suite, from stored cells alone: the worst task first, partial tables say so."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.architectures.heads import HeadSpec
from potstill.files import write_output
from potstill.metrics.bootstrap import Interval, interval
from potstill.metrics.mean_of import MeanOf
from potstill.metrics.metric import Metric, point
from potstill.metrics.retention import difference, gain_retained, is_above, retention
from potstill.tasks.kinds import task_of_model
from potstill.workflows.retrieval import METRICS as RETRIEVAL_METRICS
from potstill.workflows.suite import Cell, SuiteOptions, stored_cells

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """One task: the mean over its seeds, intervals by resampling test rows."""

    task: str
    metric: str
    train_rows: int
    test_rows: int
    seeds: list[int]
    trivial_word: str  # what a model answers that learned nothing
    majority: float  # and what that is worth
    teacher: float
    student: float
    control: float | None  # None: the suite has no controls
    teacher_interval: Interval  # of the first seed's
    half_width: float  # of that interval, as a share of the value
    is_solved: bool  # the teacher is significantly above the majority answer
    retention: Interval
    gain_retained: Interval
    over_control: Interval | None  # student minus control
    spread: float  # standard deviation of the students over seeds, nan for one seed
    steps: int  # of the student, and of its control
    learning_rates: Mapping[str, float]  # of student and control
    notes: Mapping[str, Any]

    @property
    def can_show_95(self) -> bool:
        """Tell whether this test set can show a lower bound of 95 % at all.

        A student as good as its teacher is known no better than the teacher itself is.
        """
        return self.half_width < _WIDEST


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteTable:
    """All rows, the worst retention first."""

    rows: list[TaskRow]
    cells: int  # stored
    of_cells: int  # asked for

    @property
    def is_partial(self) -> bool:
        """Tell whether cells are missing."""
        return self.cells < self.of_cells

    @property
    def mean_retention(self) -> float:
        """Return the mean over the tasks that the teacher solves; nan where there is none."""
        return float(np.mean(self._solved)) if self._solved else float("nan")

    @property
    def median_retention(self) -> float:
        """Return the median over the same tasks: one noisy task moves the mean."""
        return float(np.median(self._solved)) if self._solved else float("nan")

    @property
    def _solved(self) -> list[float]:
        return [row.retention.value for row in self.rows if row.is_solved]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "cells": self.cells,
            "of_cells": self.of_cells,
            "mean_retention": self.mean_retention,
            "median_retention": self.median_retention,
            "rows": [asdict(row) for row in self.rows],
        }


_WIDEST = 0.04  # half-width of a perfect student's retention

HEADER = (
    "task",
    "metric",
    "train rows",
    "test rows",
    "seeds",
    "trivial",
    "teacher",
    "student",
    "spread over seeds",
    "control",
    "retention (95 %)",
    "gain retained (95 %)",
    "student - control (95 %)",
)


def suite_table(path: Path, options: SuiteOptions) -> SuiteTable:
    """Return the table of what is stored; nothing is run."""
    cells, of_cells = stored_cells(path, options)
    tasks = dict.fromkeys(cell.task for cell in cells)
    rows = [row_of([cell for cell in cells if cell.task == task]) for task in tasks]
    found = [row for row in rows if row is not None]
    found.sort(key=lambda row: (not row.is_solved, row.retention.value))
    return SuiteTable(rows=found, cells=len(cells), of_cells=of_cells)


def row_of(cells: Sequence[Cell]) -> TaskRow | None:
    """Return the row of one task's cells; None where no seed has teacher and student."""
    by_kind = {
        kind: {cell.seed: cell for cell in cells if cell.kind == kind}
        for kind in ("teacher", "student", "control")
    }
    has_control = bool(by_kind["control"])
    complete = set(by_kind["teacher"]) & set(by_kind["student"])
    if has_control:
        complete &= set(by_kind["control"])
    if not complete:
        return None
    seeds = sorted(complete)
    first = by_kind["student"][seeds[0]]
    metric = metric_of(first)
    sides = {
        kind: [_statistics(found[seed]) for seed in seeds]
        for kind, found in by_kind.items()
        if found
    }
    majority = np.asarray(first.trivial)
    means = {kind: [_value(metric, each) for each in side] for kind, side in sides.items()}
    control = sides.get("control")
    teacher = interval(metric, sides["teacher"][0])
    return TaskRow(
        task=first.task,
        metric=first.primary,
        train_rows=first.train_rows,
        test_rows=first.test_rows,
        trivial_word=first.trivial_word,
        seeds=seeds,
        majority=_value(metric, majority),
        teacher=float(np.mean(means["teacher"])),
        student=float(np.mean(means["student"])),
        control=float(np.mean(means["control"])) if control else None,
        teacher_interval=teacher,
        half_width=(teacher.high - teacher.low) / 2 / max(abs(teacher.value), 1e-12),
        is_solved=is_above(metric, sides["teacher"], [majority]),
        retention=retention(metric, sides["student"], sides["teacher"]),
        gain_retained=gain_retained(metric, sides["student"], sides["teacher"], majority),
        over_control=difference(metric, sides["student"], control) if control else None,
        spread=float(np.std(means["student"], ddof=1)) if len(seeds) > 1 else float("nan"),
        steps=int(first.report["steps"]),
        learning_rates={
            kind: float(found[seeds[0]].report["learning_rate"])
            for kind, found in by_kind.items()
            if found and "learning_rate" in found[seeds[0]].report and kind != "teacher"
        },
        notes=first.notes,
    )


def table_cells(table: SuiteTable) -> list[list[str]]:
    """Return the rows under `HEADER`, in words."""
    return [
        [
            row.task,
            row.metric,
            f"{row.train_rows:,}",
            f"{row.test_rows:,}",
            str(len(row.seeds)),
            f"{row.majority:.3f}",
            f"{row.teacher:.4f}",
            f"{row.student:.4f}",
            "-" if math.isnan(row.spread) else f"{row.spread:.4f}",
            "-" if row.control is None else f"{row.control:.4f}",
            _share(row.retention) if row.is_solved else "teacher does not solve this task",
            _share(row.gain_retained) if row.is_solved else "-",
            _signed(row.over_control) if row.over_control else "-",
        ]
        for row in table.rows
    ]


def summary_lines(table: SuiteTable) -> list[str]:
    """Return what stands under the table."""
    solved = sum(row.is_solved for row in table.rows)
    lines = [
        f"retention over {solved} solved tasks: mean {table.mean_retention:.1%}, median "
        f"{table.median_retention:.1%}"
        if solved
        else "no teacher solves its task, so there is no retention to tell"
    ]
    if not table.rows:
        lines = ["no task has a teacher and its student yet"]
    too_small = [f"{row.task} (±{row.half_width:.1%})" for row in table.rows if not row.can_show_95]
    if too_small:
        lines.append(
            "test sets too small to show a lower bound of 95 % (a perfect student's half-width is "
            f"{_WIDEST:.0%} or more): {', '.join(too_small)}"
        )
    if table.is_partial:
        lines.append(f"partial: {table.cells} of {table.of_cells} cells are stored")
    return lines


def write_markdown(table: SuiteTable, path: Path) -> None:
    """Write the table as Markdown, whole or not at all."""
    lines = [
        "| " + " | ".join(HEADER) + " |",
        "|" + " --- |" * len(HEADER),
        *["| " + " | ".join(row) + " |" for row in table_cells(table)],
        "",
        *summary_lines(table),
    ]
    write_output(path, ("\n".join(lines) + "\n").encode())


def metric_of(cell: Cell) -> Metric:
    """Return the metric of a cell's statistics."""
    if cell.primary in RETRIEVAL_METRICS and cell.task_kind == "embedding":
        return RETRIEVAL_METRICS[cell.primary]
    head = HeadSpec(labels=tuple(cell.labels))
    metric = task_of_model(cell.task_kind, head, {}, {}).metric(cell.primary)
    if not cell.has_two_sets:
        return metric
    width = len(cell.statistics[0]) // 2
    return MeanOf((metric, metric), (width, width))


def _statistics(cell: Cell) -> Floats:
    return np.asarray(cell.statistics)


def _value(metric: Metric, statistics_BS: Floats) -> float:
    return point(metric, statistics_BS)


def _share(found: Interval) -> str:
    return f"{found.value:.1%} ({found.low:.1%} to {found.high:.1%})"


def _signed(found: Interval) -> str:
    return f"{found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
