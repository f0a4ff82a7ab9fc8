"""A suite's metric is checked before hours of work: by the task that its training rows pose."""

from __future__ import annotations

import pytest

from potstill.data.rows import Rows
from potstill.errors import RecipeError
from potstill.workflows.suite_file import SuiteTask
from potstill.workflows.suite_test import TestSet, require_metric


def rows_of(labels: list[str]) -> Rows:
    return Rows({"text": [str(n) for n in range(len(labels))], "label": labels}, "list")


TRAIN = rows_of([f"intent {n % 77}" for n in range(770)])


def task_of(primary: str) -> SuiteTask:
    return SuiteTask(name="intents", train="train.jsonl", test="test.jsonl", primary=primary)


@pytest.mark.parametrize("primary", ["", "macro_f1", "f1:intent 76"])
@pytest.mark.parametrize("classes", [1, 60])
def test_a_small_test_set_needs_not_pose_the_task_itself(classes: int, primary: str) -> None:
    test = TestSet(rows=rows_of([f"intent {n}" for n in range(classes)]))
    require_metric(task_of(primary), test, TRAIN)


def test_a_class_that_no_training_row_has_is_refused() -> None:
    test = TestSet(rows=rows_of(["intent 1", "intent 78"]))
    with pytest.raises(RecipeError, match="there is no label 'intent 78'"):
        require_metric(task_of("f1:intent 78"), test, TRAIN)
