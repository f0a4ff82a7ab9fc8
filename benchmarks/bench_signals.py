"""Stored signals against a live teacher: seconds a step, and are the trained weights equal?

The first 1,024 rows of sst2, all-MiniLM-L6-v2 tuned a little as the teacher, 3 of 6 layers, the
same recipe and seed on both sides, fp32 and bf16, with soft targets alone and with hidden states.

    python benchmarks/bench_signals.py [TEACHER]
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from facts import SHARED_DATA, store

from potstill.bundle.opening import open_model
from potstill.bundle.weights import read_tensors
from potstill.data.readers import read_rows
from potstill.hardware import usable_threads
from potstill.workflows.demo import packaged_model
from potstill.workflows.distill import DistillInputs, distill
from potstill.workflows.distill_recipe import DistillRecipe
from potstill.workflows.finetune import FinetuneRecipe, Inputs, finetune

ROWS = 1_024
RECIPE = DistillRecipe(layers=3, epochs=4, learning_rate=2e-4)
CASES: dict[str, dict[str, Any]] = {
    "soft targets, fp32": {"precision": "fp32"},
    "soft targets, bf16": {"precision": "bf16"},
    "soft targets and hidden states, fp32": {"precision": "fp32", "hidden_cosine": 0.5},
    "soft targets and hidden states, bf16": {"precision": "bf16", "hidden_cosine": 0.5},
}


def main() -> None:
    rows = read_rows(SHARED_DATA / "sst2" / "train.jsonl", limit=ROWS)
    dev = read_rows(SHARED_DATA / "sst2" / "dev.jsonl", limit=100)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        teacher = Path(sys.argv[1]) if len(sys.argv) > 1 else folder / "teacher"
        if not teacher.exists():
            inputs = Inputs(model=packaged_model(), train=rows, dev=dev)
            finetune(inputs, FinetuneRecipe(epochs=1.0), out=teacher)
        cases = {}
        for name, settings in CASES.items():
            sides = {
                signals: run(folder / f"{name} {signals}", teacher, rows, dev, settings, signals)
                for signals in ("live", "stored")
            }
            cases[name] = told(sides)
    store("signals", {"rows": ROWS, "threads": usable_threads(), "cases": cases})


def run(
    out: Path, teacher: Path, rows: Any, dev: Any, settings: dict[str, Any], signals: str
) -> dict[str, Any]:
    recipe = replace(RECIPE, signals=signals, **settings)
    inputs = DistillInputs(teachers=[teacher], train=rows, dev=dev)
    report = distill(inputs, recipe, out=out)
    weights = dict(read_tensors(open_model(out).weights, None))
    return {"seconds": report.seconds, "steps": report.steps, "weights": weights}


def told(sides: dict[str, dict[str, Any]]) -> dict[str, Any]:
    live, stored = sides["live"], sides["stored"]
    difference = max(
        float(np.abs(live["weights"][name] - stored["weights"][name]).max())
        for name in live["weights"]
    )
    return {
        "steps": live["steps"],
        "live_ms_a_step": round(1e3 * live["seconds"] / live["steps"], 2),
        "stored_ms_a_step": round(1e3 * stored["seconds"] / stored["steps"], 2),
        "stored_is_times_faster": round(live["seconds"] / stored["seconds"], 2),
        "largest_difference_of_weights": difference,
        "weights_equal_bit_for_bit": difference == 0.0,
    }


if __name__ == "__main__":
    main()
