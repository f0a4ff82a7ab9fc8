"""Test rows that a student has seen are counted by where they stand."""

from __future__ import annotations

from pathlib import Path

from potstill.workflows.proven import measurements
from potstill.workflows.seen_rows import with_seen_rows
from potstill.workflows.shrink_recipe import ShrinkInputs
from tests.command_line import write_jsonl
from tests.unit.workflows.comparisons import a_comparison


def rows_of(texts: str, label: str = "x") -> list[dict[str, str]]:
    return [{"text": text, "label": label} for text in texts]


def test_each_kind_of_rows_is_counted_and_told() -> None:
    inputs = ShrinkInputs(
        teacher="teacher",
        train=rows_of("abcd"),
        dev=rows_of("ef"),
        unlabelled=[{"text": text} for text in "aghi"],
        test=[*rows_of("axB", "y"), *rows_of("f")],
    )
    before = a_comparison()
    found = with_seen_rows(before, inputs, "classification")
    assert found.test is not None
    assert found.test.seen == {"training": 2, "dev": 1, "unlabelled": 1}
    of_train, of_dev, of_free = found.warnings[len(before.warnings) :]
    assert of_train.startswith("2 of 4 test rows (50.0%) stand in the training rows, 2 of them")
    assert of_dev.startswith("1 of 4 test rows (25.0%) stand in the dev rows, 0 of them")
    assert of_free.startswith("1 of 4 test rows (25.0%) stand in the unlabelled rows; the first")
    assert found.to_json()["test"]["seen_in"] == found.test.seen
    told = measurements(found, found.others[0], None)
    assert told["test_rows_in_training_rows"] == 2
    assert told["test_rows_in_unlabelled_rows"] == 1
    assert found.models == before.models


def test_where_nothing_was_seen_nothing_is_said() -> None:
    inputs = ShrinkInputs(teacher="teacher", train=rows_of("ab"), test=rows_of("cd"))
    before = a_comparison()
    found = with_seen_rows(before, inputs, "classification")
    assert found.warnings == before.warnings
    assert found.to_json()["test"]["seen_in"] == {"training": 0}
    assert not [name for name in measurements(found, found.others[0], None) if "_in_" in name]


def test_no_place_of_a_disk_is_told(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", *rows_of("a"))
    inputs = ShrinkInputs(teacher="teacher", train=str(file), test=file)
    *_, told = with_seen_rows(a_comparison(), inputs, "classification").warnings
    assert told.endswith("; the first: rows.jsonl, line 1, seen at rows.jsonl, line 1")
