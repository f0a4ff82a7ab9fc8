"""Store what a suite has found so far as the result of which docs/results is made.

potstill suite recipes/classification.toml --data ../shared/data --out runs    # some hours
python benchmarks/store_suite.py recipes/classification.toml runs classification
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from facts import SHARED_DATA, store

from potstill.metrics.metric import point
from potstill.workflows.suite import Cell, SuiteOptions, stored_cells
from potstill.workflows.suite_table import metric_of, suite_table


def main() -> None:
    recipe, runs, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    options = SuiteOptions(out=runs, data=SHARED_DATA)
    cells, _ = stored_cells(recipe, options)
    table = suite_table(recipe, options).to_json()
    store(name, {"table": table, "cells": [told(cell) for cell in cells]})


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
