"""Which head suits a mean-pooled teacher: [CLS] and BERT's pooler, or the mean of all positions?

all-MiniLM-L6-v2 fine-tuned with either head on three tasks, three seeds each, the same recipe for
both. The checkpoint is chosen on dev; test is read once, after that. Each run is one process with
one thread, two at a time, and its result is kept, so that the experiment goes on where it stopped.

    python benchmarks/experiment_heads.py            # about half an hour on 2 cores
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from facts import RESULTS, SHARED_DATA, store

NAME = "heads"
EPOCHS = {"sst2": 3, "trec": 8, "tweeteval_emotion": 8}
POOLINGS = ("first", "mean")
SEEDS = (0, 1, 2)
LEARNING_RATE = 1e-4
WORKERS = 2
CELLS = RESULTS / f"{NAME}-cells.jsonl"


def main() -> None:
    if len(sys.argv) > 1:
        run_cell(*sys.argv[1:])
        return
    done = {cell["key"] for cell in stored_cells()}
    keys = [f"{task}/{pooling}/{seed}" for seed, task, pooling in product(SEEDS, EPOCHS, POOLINGS)]
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(run_in_process, [key for key in keys if key not in done]))
    store(NAME, summary(stored_cells()))


def run_in_process(key: str) -> None:
    subprocess.run([sys.executable, __file__, *key.split("/")], check=True)


def run_cell(task: str, pooling: str, seed: str) -> None:
    import potstill
    from potstill.data import Columns, read_rows, select_columns
    from potstill.workflows.demo import packaged_model

    folder = SHARED_DATA / task
    dev = folder / "dev.jsonl"
    with tempfile.TemporaryDirectory() as place:
        report = potstill.finetune(
            packaged_model(),
            folder / "train.jsonl",
            Path(place) / "model",
            dev=dev if dev.is_file() else None,
            threads=1,
            pooling=pooling,
            seed=int(seed),
            epochs=EPOCHS[task],
            learning_rate=LEARNING_RATE,
        )
        rows = select_columns(read_rows(folder / "test.jsonl"), Columns(), optional=())
        answers = report.load(threads=1).predict(rows.column("text"))
    is_right = [
        answer["label"] == label
        for answer, label in zip(answers, rows.column("label"), strict=True)
    ]
    cell = {
        "key": f"{task}/{pooling}/{seed}",
        "dev_accuracy": report.metrics["accuracy"].value,
        "test_accuracy": float(np.mean(is_right)),
        "seconds": report.seconds,
        "steps": report.steps,
    }
    with CELLS.open("a") as stream:
        stream.write(json.dumps(cell) + "\n")
    print(json.dumps(cell), flush=True)


def stored_cells() -> list[dict[str, Any]]:
    if not CELLS.is_file():
        return []
    return [json.loads(line) for line in CELLS.read_text().splitlines()]


def summary(cells: list[dict[str, Any]]) -> dict[str, Any]:
    by_key = {cell["key"]: cell for cell in cells}
    tasks = {}
    for task in EPOCHS:
        scores = {
            pooling: [by_key[f"{task}/{pooling}/{seed}"]["test_accuracy"] for seed in SEEDS]
            for pooling in POOLINGS
        }
        gains = np.subtract(scores["mean"], scores["first"])
        tasks[task] = {
            **scores,
            "mean_minus_first": {
                "per_seed": gains.round(4).tolist(),
                "average": round(float(gains.mean()), 4),
            },
        }
    recipe = {"epochs": EPOCHS, "learning_rate": LEARNING_RATE, "seeds": SEEDS}
    return {"recipe": recipe, "test_accuracy": tasks, "cells": cells}


if __name__ == "__main__":
    main()
