"""Rows of a training: what is carved out of them can be asked of the model that they make."""

from __future__ import annotations

from typing import Any

import pytest

from potstill.data import Columns
from potstill.errors import DataError
from potstill.tasks.classification import Classification
from potstill.tasks.kinds import task_from_rows
from potstill.workflows.task_rows import train_and_dev, warn_of_rows


def class_rows() -> list[dict[str, Any]]:
    often = [{"text": f"text {number}", "label": "ab"[number % 2]} for number in range(97)]
    return often + [{"text": f"lone {number}", "label": f"r{number}"} for number in range(30)]


def label_rows() -> list[dict[str, Any]]:
    return [
        {"text": f"text {number}", "label": ["often", f"rare {number}"][: 1 + (number % 2)]}
        for number in range(100)
    ]


def tag_rows() -> list[dict[str, Any]]:
    types = ["PER", *(f"T{number}" for number in range(1, 100))]
    return [
        {"tokens": ["saw", str(number)], "tags": ["O", f"B-{types[number * (number % 2)]}"]}
        for number in range(100)
    ]


ROWS = {
    "classification": class_rows(),
    "multi-label": label_rows(),
    "token-classification": tag_rows(),
}


def split(task: str, dev: object | None = None, seed: int = 0) -> tuple[Any, Any]:
    return train_and_dev(task, ROWS[task], dev, Columns(), dev_share=0.1, seed=seed, warnings=[])


@pytest.mark.parametrize("task", ROWS)
@pytest.mark.parametrize("seed", range(3))
def test_a_rare_label_is_not_left_to_carved_rows_alone(task: str, seed: int) -> None:
    rest, dev = split(task, seed=seed)
    posed = task_from_rows(task, rest)
    assert len(posed.gold(dev)) == len(dev) == pytest.approx(len(ROWS[task]) / 10, abs=3)
    assert len(rest) + len(dev) == len(ROWS[task])


def test_few_rows_a_class_are_told() -> None:
    def told(classes: int, rows: int) -> str:
        found = [{"text": f"text {n}", "label": str(n % classes)} for n in range(rows)]
        warnings: list[str] = []
        train, dev = train_and_dev(
            "classification", found, found[:1], Columns(), dev_share=0.1, seed=0, warnings=warnings
        )
        warn_of_rows(Classification.from_rows(train), train, dev, warnings)
        return " ".join(warnings)

    assert "77 classes in 150 training rows of list: fewer than two rows a class" in told(77, 150)
    assert "classes in" not in told(75, 150)
    assert "classes in" not in told(50, 50)


@pytest.mark.parametrize(("classes", "dev_rows"), [(77, 73), (20, 20), (2, 15)])
def test_many_more_dev_rows_than_asked_for_are_told(classes: int, dev_rows: int) -> None:
    rows = [{"text": f"text {n}", "label": str(n % classes)} for n in range(150)]
    warnings: list[str] = []
    _, dev = train_and_dev(
        "classification", rows, None, Columns(), dev_share=0.1, seed=0, warnings=warnings
    )
    assert len(dev) == dev_rows
    told = "73 of 150 rows of list are held out as dev rows, though dev_share is 0.1"
    assert [told in each for each in warnings] == [True] * (classes == 77)


@pytest.mark.parametrize("task", ROWS)
def test_a_label_that_only_a_dev_file_has_is_refused(task: str) -> None:
    other = dict(ROWS[task][0])
    for name in ("label", "tags"):
        if name in other:
            other[name] = {"classification": "z", "multi-label": ["z"]}.get(task, ["O", "B-Z"])
    rest, dev = split(task, [ROWS[task][0], other])
    with pytest.raises(DataError, match=r"^list, row 2, field '(label|tags)'.*is none of"):
        task_from_rows(task, rest).gold(dev)
