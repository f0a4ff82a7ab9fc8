"""A comparison that takes several sittings: what was judged once is not made again."""

from __future__ import annotations

import json
import lzma
import sys
from pathlib import Path

from tests.conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "benchmarks"))


def test_what_stands_is_told_and_only_the_chosen_is_made(tmp_path: Path, monkeypatch) -> None:
    from general_comparison import CUT, TEACHER, Comparison, Plan, TaskPlan

    stood = {"task": "trec", "condition": TEACHER, "seed": 0, "statistics": [[1.0]]}
    (tmp_path / "cells.jsonl").write_text(json.dumps(stood) + "\n")
    plan = Plan(
        pretrained=tmp_path,
        data=tmp_path,
        corpus=[],
        tokens=1,
        head_tokens=1,
        tasks=[TaskPlan(name="trec", seeds=2), TaskPlan(name="mrpc")],
    )
    comparison = Comparison(plan, tmp_path)
    made: list[tuple[str, int]] = []

    def cell(task: TaskPlan, condition: str, seed: int) -> dict[str, object]:
        made.append((condition, seed))
        return {"task": task.name, "condition": condition, "seed": seed}

    monkeypatch.setattr(comparison, "_cell", cell)
    found = list(comparison.cells([TEACHER, CUT], ["trec"]))
    assert found[0] == stood
    assert made == [(CUT, 0), (TEACHER, 1), (CUT, 1)]


def test_packed_cells_are_laid_out_where_there_are_none(tmp_path: Path, monkeypatch) -> None:
    import experiment_general

    packed = tmp_path / "packed.xz"
    packed.write_bytes(lzma.compress(b"one\n"))
    monkeypatch.setattr(experiment_general, "CELLS", packed)
    experiment_general.lay_out(tmp_path / "cells.jsonl")
    assert (tmp_path / "cells.jsonl").read_bytes() == b"one\n"
    (tmp_path / "cells.jsonl").write_bytes(b"more\n")
    experiment_general.lay_out(tmp_path / "cells.jsonl")
    assert (tmp_path / "cells.jsonl").read_bytes() == b"more\n"


def test_presets_are_held_against_each_other_over_the_seeds_that_both_have() -> None:
    from general_comparison import THEN, between_presets

    def cell(condition: str, seed: int, right: list[int]) -> dict[str, object]:
        statistics = [[float(each), 1.0] for each in right]
        names = {"task": "trec", "kind": "classification", "primary": "accuracy"}
        return {**names, "condition": condition, "seed": seed, "labels": ["a", "b"]} | {
            "statistics": statistics
        }

    cells = [
        cell("relations", 0, [0, 0, 0, 0]),
        cell("relations", 1, [1, 1, 1, 1]),
        cell("distilbert", 1, [1, 0, 1, 0]),
        cell(f"potstill{THEN}", 0, [1, 1, 1, 1]),
    ]
    (pair,) = between_presets(cells)
    assert (pair["preset"], pair["less"], pair["seeds"]) == ("distilbert", "relations", 1)
    assert pair["apart"][0] == -0.5
