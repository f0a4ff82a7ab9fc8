"""Store what a suite has found so far as the result of which docs/results is made.

potstill suite recipes/classification.toml --data ../shared/data --out runs    # some hours
python benchmarks/store_suite.py recipes/classification.toml runs classification

A suite may take several sittings: the cells are kept beside the result with what each test row is
worth, and are laid into an empty `runs` first, so that nothing is trained twice:

python benchmarks/store_suite.py recipes/classification.toml runs classification --lay-out
"""

from __future__ import annotations

import argparse
import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np
from facts import RESULTS, SHARED_DATA, store

from potstill.metrics.metric import point
from potstill.workflows.suite import Cell, SuiteOptions, asked_cells, stored_cells
from potstill.workflows.suite_table import metric_of, suite_table

LAST = {True: "control", False: "student"}  # what of a seed is judged last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("name")
    parser.add_argument("--data", type=Path, default=SHARED_DATA)
    parser.add_argument("--lay-out", action="store_true", help="lay kept cells into RUNS, no more")
    asked = parser.parse_args()
    lay_out(asked.name, asked.runs)
    if not asked.lay_out:
        store_cells(asked.recipe, asked.runs, asked.name, asked.data)


def store_cells(recipe: Path, runs: Path, name: str, data: Path) -> None:
    """Store table and cells; rows of another sitting whose cells are not at hand stay."""
    options = SuiteOptions(out=runs, data=data)
    cells, _ = stored_cells(recipe, options)
    table = suite_table(recipe, options).to_json()
    earlier = rows_of_earlier(name, recipe, options, at_hand={cell.task for cell in cells})
    told_cells = [*[told(cell) for cell in cells], *earlier["cells"]]
    rows = sorted(
        [*table["rows"], *earlier["rows"]],
        key=lambda row: (not row["is_solved"], row["retention"]["value"]),
    )
    solved = [row["retention"]["value"] for row in rows if row["is_solved"]]
    table |= {"rows": rows, "cells": len(told_cells)}
    table |= {
        "mean_retention": float(np.mean(solved)),
        "median_retention": float(np.median(solved)),
    }
    pack(name, whole_seeds(cells))
    store(name, {"table": table, "cells": told_cells})


def rows_of_earlier(
    name: str, recipe: Path, options: SuiteOptions, *, at_hand: set[str]
) -> dict[str, list[dict[str, Any]]]:
    """Return rows and cells of the stored result that this recipe still asks for."""
    file = RESULTS / f"{name}.json"
    if not file.is_file():
        return {"rows": [], "cells": []}
    before = json.loads(file.read_text())
    asked = asked_cells(recipe, options)
    cells = [
        cell
        for cell in before["cells"]
        if cell["task"] not in at_hand
        and asked.get((cell["task"], cell["kind"], cell["seed"])) == cell["key"]
    ]
    whole = {cell["task"] for cell in cells}
    rows = [row for row in before["table"]["rows"] if row["task"] in whole]
    return {"rows": rows, "cells": cells}


def whole_seeds(cells: list[Cell]) -> list[Cell]:
    """Return the cells of seeds that are done: a next sitting has no bundles to go on from."""
    has_control = any(cell.kind == "control" for cell in cells)
    last = {(cell.task, cell.seed) for cell in cells if cell.kind == LAST[has_control]}
    return [cell for cell in cells if (cell.task, cell.seed) in last]


def pack(name: str, cells: list[Cell]) -> None:
    """Keep the cells, numbers of rows as short as they are exact enough."""
    lines = [json.dumps(cell.to_json() | {"statistics": rounded(cell)}) for cell in cells]
    packed_file(name).write_bytes(lzma.compress("\n".join(lines).encode()))


def rounded(cell: Cell) -> list[list[float]]:
    return [[float(f"{value:.7g}") for value in row] for row in cell.statistics]


def lay_out(name: str, runs: Path) -> None:
    """Write the kept cells that are not in `runs`."""
    if not packed_file(name).is_file():
        return
    folder = runs / "cells"
    folder.mkdir(parents=True, exist_ok=True)
    for line in lzma.decompress(packed_file(name).read_bytes()).decode().splitlines():
        cell = json.loads(line)
        file = folder / "{task}-{seed}-{kind}-{key}.json".format(**cell)
        if not file.exists():
            file.write_text(line)


def packed_file(name: str) -> Path:
    return RESULTS / f"{name}-cells.jsonl.xz"


def told(cell: Cell) -> dict[str, Any]:
    """Return how a cell was trained and what its answers are worth; texts stay where they are."""
    report = cell.report
    found = point(metric_of(cell), np.asarray(cell.statistics))
    return {
        "task": cell.task,
        "kind": cell.kind,
        "seed": cell.seed,
        "key": cell.key,
        "metric": cell.primary,
        "value": round(found, 5),
        "dev": {name: each["value"] for name, each in report.get("metrics", {}).items()},
        "steps": report.get("steps"),
        "train_tokens": report.get("train_tokens"),
        "learning_rates": report.get("learning_rates"),
        "layers_kept": report.get("layers_kept"),
        "vectors": report.get("vectors"),
        "seconds": report.get("seconds"),
        "notes": dict(cell.notes),
    }


if __name__ == "__main__":
    main()
