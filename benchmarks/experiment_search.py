"""Does the layer search, which trains nothing, rank sets of layers as training would?

On three tasks 10 sets of 3 of a tuned all-MiniLM-L6-v2 teacher's 6 layers are distilled on the
same 1,000 rows with the same recipe, and the dev score after training is correlated with the
search's ranking (Spearman). Each cell is kept, so that the experiment goes on where it stopped.

    python benchmarks/experiment_search.py trec=TEACHER sst2=TEACHER tweeteval_emotion=TEACHER
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from facts import RESULTS, SHARED_DATA, store
from scipy.stats import spearmanr

from potstill.bundle.opening import open_model
from potstill.data.readers import read_rows
from potstill.data.rows import Rows
from potstill.distillation.layers import CHOICES, choose_layers
from potstill.distillation.search import candidate_sets, rank_candidates
from potstill.models.loading import load_task_model
from potstill.workflows.distill import DistillInputs, distill
from potstill.workflows.distill_recipe import DistillRecipe

NAME = "search"
LAYERS = 3
SETS = 10
ROWS = 1_000
DEV_ROWS = 872  # as many as sst2 has
EPOCHS = 4.0
LEARNING_RATE = 2e-4
PRIMARY = {"tweeteval_emotion": "macro_f1"}
CELLS = RESULTS / f"{NAME}-cells.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("teacher", nargs="+", metavar="TASK=TEACHER")
    words = [word.partition("=") for word in parser.parse_args().teacher]
    if not all(teacher for _, _, teacher in words):
        parser.error("each is TASK=TEACHER: a folder of the data and a model tuned on it")
    teachers = {task: teacher for task, _, teacher in words}
    for task, teacher in teachers.items():
        done = {cell["key"] for cell in stored_cells()}
        for kept in candidate_sets(6, LAYERS, at_most=SETS):
            key = f"{task}/{' '.join(map(str, kept))}"
            if key not in done:
                run_cell(key, task, teacher, kept)
    rankings = {task: searched(task, teacher) for task, teacher in teachers.items()}
    store(NAME, summary(rankings))


def run_cell(key: str, task: str, teacher: str, kept: tuple[int, ...]) -> None:
    recipe = DistillRecipe(
        keep=",".join(map(str, kept)),
        epochs=EPOCHS,
        learning_rate=LEARNING_RATE,
        primary=PRIMARY.get(task, "accuracy"),
    )
    with tempfile.TemporaryDirectory() as place:
        inputs = DistillInputs(
            teachers=[teacher],
            train=read_rows(SHARED_DATA / task / "train.jsonl", limit=ROWS),
            dev=dev_rows(task),
        )
        report = distill(inputs, recipe, out=Path(place) / "student", threads=1)
    cell = {"key": key, "dev": report.metrics[recipe.primary].value, "steps": report.steps}
    with CELLS.open("a") as stream:
        stream.write(json.dumps(cell) + "\n")
    print(json.dumps(cell), flush=True)


def dev_rows(task: str) -> Rows:
    """Return the dev file's rows; where there is none, the last training rows."""
    dev = SHARED_DATA / task / "dev.jsonl"
    if dev.is_file():
        return read_rows(dev)
    rows = read_rows(SHARED_DATA / task / "train.jsonl")
    return rows.take(range(len(rows) - DEV_ROWS, len(rows)))


def searched(task: str, teacher: str) -> list[dict[str, Any]]:
    folder = open_model(teacher)
    rows = read_rows(SHARED_DATA / task / "train.jsonl", limit=ROWS)
    texts = folder.tokenizer().encode(rows.column("text"), max_length=folder.max_length).batch
    ranking = rank_candidates(
        load_task_model(folder),
        texts,
        candidate_sets(6, LAYERS, at_most=SETS),
        precision="bf16",
        tell=lambda done, total: print(f"{done}/{total}", file=sys.stderr),
    )
    return [candidate.to_json() for candidate in ranking]


def stored_cells() -> list[dict[str, Any]]:
    if not CELLS.is_file():
        return []
    return [json.loads(line) for line in CELLS.read_text().splitlines()]


def summary(rankings: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    dev = {cell["key"]: cell["dev"] for cell in stored_cells()}
    tasks = {}
    for task, ranking in rankings.items():
        for candidate in ranking:
            candidate["dev"] = dev[f"{task}/{' '.join(map(str, candidate['layers']))}"]
        by_layers = {tuple(candidate["layers"]): candidate["dev"] for candidate in ranking}
        scores = [candidate["dev"] for candidate in ranking]
        tasks[task] = {
            "metric": PRIMARY.get(task, "accuracy"),
            "spearman_of_divergence": correlation(ranking, "divergence", -1.0),
            "spearman_of_agreement": correlation(ranking, "agreement", 1.0),
            "dev_of_first_ranked": scores[0],
            "dev_of_choices": {
                choice: by_layers[choose_layers(6, LAYERS, choice=choice)] for choice in CHOICES
            },
            "best_dev": max(scores),
            "mean_dev": float(np.mean(scores)),
            "ranking": ranking,
        }
    recipe = {"rows": ROWS, "epochs": EPOCHS, "learning_rate": LEARNING_RATE, "layers": LAYERS}
    return {"recipe": recipe, "tasks": tasks}


def correlation(ranking: list[dict[str, Any]], name: str, sign: float) -> float:
    found = spearmanr(
        [sign * candidate[name] for candidate in ranking],
        [candidate["dev"] for candidate in ranking],
    )
    return round(float(found.statistic), 3)


if __name__ == "__main__":
    main()
