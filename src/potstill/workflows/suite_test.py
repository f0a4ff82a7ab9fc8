"""The proof of a suite: a model's answers to the test set of a task, as statistics of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from potstill.data.columns import Columns
from potstill.data.retrieval import Retrieval, read_retrieval
from potstill.data.rows import Rows
from potstill.errors import RecipeError
from potstill.hub_names import is_hub
from potstill.metrics.mean_of import of_parts
from potstill.metrics.metric import CountMetric
from potstill.recipe import require_choice
from potstill.runtime.model import load
from potstill.tasks import reading
from potstill.tasks.kinds import task_from_rows
from potstill.workflows.retrieval import METRICS, USUAL_METRIC, judge_retrieval
from potstill.workflows.suite_file import SuiteTask


@dataclass(frozen=True, slots=True, kw_only=True)
class TestSet:
    """Rows with labels, or a retrieval set."""

    __test__ = False  # pytest collects what is named so

    rows: Rows | None = None
    second_part: int | None = None  # row at which a second set begins; None: there is one set
    retrieval: Retrieval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedModel:
    """What a model's answers are worth."""

    primary: str
    labels: list[str]
    statistics: list[list[float]]
    trivial: list[list[float]]
    trivial_word: str
    rows: int
    notes: Mapping[str, Any] = field(default_factory=dict)


def columns_of(task: SuiteTask) -> Columns:
    """Return the names of a task's columns."""
    return Columns(text=task.text_column, text_pair=task.text_pair_column, label=task.label_column)


def read_test(task: SuiteTask, test: str | None, also: str | None) -> TestSet:
    """Read a task's test set: a file, two of them, or the folder of a retrieval set.

    Raises:
        DataError: with file, line and field.
    """
    assert test is not None, "every task has a test set"
    if not is_hub(test) and Path(test).is_dir():
        found = read_retrieval(Path(test))
        return TestSet(retrieval=found.binary() if task.grades == "binary" else found)
    rows = reading.labelled(task.task, test, columns_of(task))
    if also is None:
        return TestSet(rows=rows)
    second = reading.labelled(task.task, also, columns_of(task))
    both = {name: [*rows.column(name), *second.column(name)] for name in rows.columns}
    return TestSet(rows=Rows(both, f"{rows.source} and {second.source}"), second_part=len(rows))


def require_metric(task: SuiteTask, test: TestSet, train: Rows | None) -> None:
    """Check a task's metric before hours of work.

    Args:
        task: of the suite.
        test: its test set.
        train: its labelled rows, of which the task is made; None where it has none.

    Raises:
        RecipeError: no such metric, or one of a label that is not there.
    """
    if test.retrieval is not None:
        require_choice("primary", task.primary or USUAL_METRIC, METRICS)
        return
    if train is None:
        return
    posed = task_from_rows(task.task, train)
    metric = posed.metric(task.primary or posed.primary(has_gold=True))
    if test.second_part is not None and isinstance(metric, CountMetric):
        raise RecipeError(
            f"{metric.name} cannot be averaged over two test sets",
            where=f"task {task.name}, also_test",
            allowed="a metric that is a sum over rows, such as accuracy",
        )


def judge_model(
    bundle: str | Path,
    test: TestSet,
    *,
    primary: str | None,
    index: str | Path | None,
    device: str,
    threads: int | None,
) -> JudgedModel:
    """Ask a model and hold its answers against the truth.

    Args:
        bundle: the model.
        test: the rows.
        primary: the metric; None: the task's own.
        index: of retrieval: the model that makes the documents' vectors; None: the same.
        device: auto, cpu, cuda, mps.
        threads: of the processor.
    """
    model = load(bundle, device=device, threads=threads)
    if test.retrieval is not None:
        other = load(index, device=device, threads=threads) if index is not None else None
        found = judge_retrieval(model, test.retrieval, documents=other)
        name = primary or USUAL_METRIC
        return JudgedModel(
            primary=name,
            labels=[],
            statistics=found.statistics(name).tolist(),
            trivial=found.lexical_statistics(name).tolist(),
            trivial_word="BM25",
            rows=len(test.retrieval.queries),
            notes={"metrics": found.values()},
        )
    assert test.rows is not None, "a test set has rows or is one of retrieval"
    task = model.answered_task
    gold = task.gold(test.rows)
    metric = task.metric(primary or task.primary(has_gold=True))
    trivial, word = task.trivial(gold)
    sides = [
        task.statistics(metric, answers, gold)
        for answers in (model.answer(test.rows).answers, trivial)
    ]
    if test.second_part is not None:
        sides = [of_parts(side, np.arange(len(side)) < test.second_part) for side in sides]
    return JudgedModel(
        primary=metric.name,
        labels=list(task.labels),
        statistics=sides[0].tolist(),
        trivial=sides[1].tolist(),
        trivial_word=word,
        rows=len(test.rows),
    )
