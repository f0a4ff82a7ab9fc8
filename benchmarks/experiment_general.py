"""The presets of general distillation, compared on a CPU: see `general_comparison`.

all-MiniLM-L6-v2 on the shared corpus: a masked-LM head, then 6 -> 3 layers with each preset on
5 M tokens, then trec and mrpc with 6 seeds, cola and conll2003 with 2. Some hours on two cores; it
goes on where it stopped, and what is there is stored each time.

    python benchmarks/experiment_general.py WORK
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from facts import SHARED_DATA, store
from general_comparison import Comparison, Plan, summary

from potstill.workflows.demo import packaged_model
from potstill.workflows.general_recipe import PRESETS

TOKENS = 5_000_000
HEAD_TOKENS = 3_000_000  # about 15 minutes on two cores
NAME = "general"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--students-only", action="store_true", help="train on text, tune nothing")
    asked = parser.parse_args()
    comparison = Comparison(plan_of(asked.threads), asked.work)
    comparison.cut()
    for preset in PRESETS:
        comparison.student(preset)
    cells: list[dict[str, Any]] = []
    if not asked.students_only:
        for cell in comparison.cells():
            cells.append(cell)
            store_all(comparison, cells)
    store_all(comparison, cells)


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


def store_all(comparison: Comparison, cells: list[dict[str, Any]]) -> None:
    """Store what each student cost and learned on text, and what tuning made of it."""
    plan = comparison.plan
    texts = {preset: told(comparison.work / f"general-{preset}.json") for preset in PRESETS}
    store(
        NAME,
        {
            "tokens": plan.tokens,
            "head_tokens": plan.head_tokens,
            "students": {preset: found for preset, found in texts.items() if found},
            "rows": summary(cells),
            "cells": len(cells),
        },
    )


def told(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    report = json.loads(file.read_text())
    names = ("start", "held_out", "metrics", "seconds", "steps", "train_tokens", "precision")
    return {name: report[name] for name in names}


if __name__ == "__main__":
    main()
