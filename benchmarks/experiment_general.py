"""The presets of general distillation, compared on a CPU: see `general_comparison`.

all-MiniLM-L6-v2 on the shared corpus: a masked-LM head, then 6 -> 3 layers with each preset on
5 M tokens, then trec and mrpc with 6 seeds, cola and conll2003 with 2. Some hours on two cores, in
several sittings if need be: it goes on where it stopped. What was judged is stored each time, so
that only models that are still needed are made again where WORK is gone.

    python benchmarks/experiment_general.py WORK
    python benchmarks/experiment_general.py WORK --condition teacher --task mrpc    # a share of it
"""

from __future__ import annotations

import argparse
import json
import lzma
from pathlib import Path
from typing import Any

from facts import RESULTS, SHARED_DATA, store
from general_comparison import TASKS, Comparison, Plan, between_presets, conditions, summary

from potstill.workflows.demo import packaged_model
from potstill.workflows.general_recipe import PRESETS

TOKENS = 5_000_000
HEAD_TOKENS = 3_000_000  # about 15 minutes on two cores
NAME = "general"
RESULT, CELLS = RESULTS / f"{NAME}.json", RESULTS / f"{NAME}-cells.jsonl.xz"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--condition", choices=conditions(), action="append", help="default: all")
    parser.add_argument("--task", choices=[task.name for task in TASKS], action="append")
    parser.add_argument("--students-only", action="store_true", help="train on text, tune nothing")
    asked = parser.parse_args()
    comparison = Comparison(plan_of(asked.threads), asked.work)
    lay_out(comparison.cells_file)
    if asked.students_only:
        for preset in PRESETS:
            if asked.condition is None or preset in asked.condition:
                comparison.student(preset)
    else:
        for _ in comparison.cells(asked.condition, asked.task):
            store_all(comparison)
    store_all(comparison)


def plan_of(threads: int | None) -> Plan:
    corpus = sorted((SHARED_DATA / "corpus").glob("*.txt.xz"))
    return Plan(
        pretrained=packaged_model(),
        data=SHARED_DATA,
        corpus=corpus,
        tokens=TOKENS,
        head_tokens=HEAD_TOKENS,
        threads=threads,
    )


def store_all(comparison: Comparison) -> None:
    """Store what each student cost and learned on text, and what tuning made of it."""
    plan, cells = comparison.plan, comparison.stored()
    texts = {preset: told(comparison.work / f"general-{preset}.json") for preset in PRESETS}
    before = json.loads(RESULT.read_text())["students"] if RESULT.is_file() else {}
    if cells:
        CELLS.write_bytes(lzma.compress(comparison.cells_file.read_bytes()))
    store(
        NAME,
        {
            "tokens": plan.tokens,
            "head_tokens": plan.head_tokens,
            "students": before | {preset: found for preset, found in texts.items() if found},
            "rows": summary(cells),
            "between_presets": between_presets(cells),
            "cells": len(cells),
        },
    )


def lay_out(cells_file: Path) -> None:
    """Put what was judged in earlier sittings where the comparison looks for it."""
    if CELLS.is_file() and not cells_file.is_file():
        cells_file.write_bytes(lzma.decompress(CELLS.read_bytes()))


def told(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    report = json.loads(file.read_text())
    names = ("start", "held_out", "metrics", "seconds", "steps", "train_tokens", "precision")
    return {name: report[name] for name in names}


if __name__ == "__main__":
    main()
