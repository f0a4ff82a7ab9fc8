"""What int8 and int4 leave of the suites' students: each beside itself in fp32, on the test rows.

Teacher and student of each task are trained as `recipes/classification.toml` and
`recipes/shared_data.toml` say, seed 0, without a control; the student is quantized, int8 and int4
fitted to rows that it learned from, and answers the test rows in fp32, int8 and int4; ONNX
Runtime's int8 does too. In fp32 it answers by each engine, and what is told is how many answers
differ from OpenVINO's. Some hours; it goes on where it stopped, and what is judged stays in the
stored result.

    python benchmarks/experiment_quantized.py WORK
    python benchmarks/experiment_quantized.py WORK --task trec --threads 1    # a share of it
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from facts import RESULTS, SHARED_DATA, store

import potstill
from potstill.compress.quantizers import gains_by_texts
from potstill.metrics.bootstrap import Interval
from potstill.metrics.metric import Metric, point
from potstill.metrics.retention import difference, is_above, retention
from potstill.runtime.processors import processor_here
from potstill.tasks import reading
from potstill.workflows.suite import SuiteOptions, run_suite
from potstill.workflows.suite_file import SuiteTask, read_suite
from potstill.workflows.suite_test import columns_of

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
SUITES = ("classification", "shared_data")
# Name of a copy, its engine and precision.
COPIES = {
    "int8": ("openvino", "int8"),
    "int4": ("openvino", "int4"),
    "onnx int8": ("onnx", "int8"),
}
ENGINES = ("onnx", "torch")  # beside openvino
WAYS = {"int8": "smoothed by 0.8", "int4": "gptq, groups of 32"}
NAME = "quantized"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--task", action="append", help="default: all that have rows to answer")
    asked = parser.parse_args()
    found = [
        (task, file)
        for file in (alone(suite, asked.work) for suite in SUITES)
        for task in read_suite(file).tasks
        if (SHARED_DATA / task.test).is_file()
    ]
    names = [task.name for task, _ in found]
    if unknown := set(asked.task or ()) - set(names):
        parser.error(f"no such task: {', '.join(unknown)}; allowed: {', '.join(names)}")
    for task, file in found:
        if asked.task is None or task.name in asked.task:
            keep(judged(task, file, asked.work, asked.threads))


def alone(suite: str, work: Path) -> Path:
    """Write a suite with its first seed alone and no controls, and return the file."""
    text = (RECIPES / f"{suite}.toml").read_text()
    text = re.sub(r"^seeds = .*$", "seeds = [0]", text, flags=re.MULTILINE)
    text = re.sub(r"^control = .*$", 'control = "none"', text, flags=re.MULTILINE)
    work.mkdir(parents=True, exist_ok=True)
    file = work / f"{suite}.toml"
    file.write_text(text)
    return file


def judged(task: SuiteTask, suite: Path, work: Path, threads: int | None) -> dict[str, Any]:
    """Return what is told of a task's student."""
    options = SuiteOptions(out=work, data=SHARED_DATA, only=(task.name,), threads=threads)
    _, student = run_suite(suite, options)
    source = work / "bundles" / student.report["bundle"]
    copies = {}
    for name, (engine, precision) in COPIES.items():
        copies[name] = work / "quantized" / f"{task.name}-{name.replace(' ', '-')}"
        if not copies[name].is_dir():
            copies[name].parent.mkdir(exist_ok=True)
            potstill.quantize(
                source,
                copies[name],
                engine=engine,
                precision=precision,
                tune=False,
                calibration=SHARED_DATA / (task.train or task.unlabelled[0])
                if gains_by_texts(engine, precision)
                else None,
                text_column=task.text_column,
                text_pair_column=task.text_pair_column,
                label_column=task.label_column,
                threads=threads,
            )
    return table_row(task, source, copies, threads)


def table_row(
    task: SuiteTask, source: Path, copies: Mapping[str, Path], threads: int | None
) -> dict[str, Any]:
    """Ask the student in each engine and precision, and hold each against fp32 by OpenVINO."""
    alone = potstill.load(source, engine="openvino", precision="fp32", threads=threads)
    posed = alone.answered_task
    labelled = reading.labelled(task.task, SHARED_DATA / task.test, columns_of(task))
    gold = posed.gold(labelled)
    metric: Metric = posed.metric(task.primary or posed.primary(has_gold=True))

    def asked(folder: Path, engine: str, precision: str) -> Any:
        model = potstill.load(folder, engine=engine, precision=precision, threads=threads)
        return model.answer(labelled).answers

    answers = alone.answer(labelled).answers
    by_engine = {engine: asked(source, engine, "fp32") for engine in ENGINES}
    own = posed.statistics(metric, answers, gold)
    sides = {
        name: posed.statistics(metric, asked(folder, *COPIES[name]), gold)
        for name, folder in copies.items()
    }
    trivial = posed.statistics(metric, posed.trivial(gold)[0], gold)
    sizes = {"fp32": source, **copies}
    return {
        "task": task.name,
        "made_for": processor_here(),  # what int8 depends on
        "ways": WAYS,
        "metric": metric.name,
        "rows": len(labelled),
        "is_solved": is_above(metric, [own], [trivial]),
        "fp32": float(point(metric, own)),
        "other_answers": {
            engine: int((~posed.same(answers, found)).sum()) for engine, found in by_engine.items()
        },
        "bytes": {name: potstill.info(folder)["size_bytes"] for name, folder in sizes.items()},
        "quantized": {
            name: {
                "value": float(point(metric, found)),
                "retention": told(retention(metric, [found], [own])),
                "difference": told(difference(metric, [found], [own])),
            }
            for name, found in sides.items()
        },
    }


def told(interval: Interval) -> dict[str, float]:
    return {name: float(np.round(value, 5)) for name, value in asdict(interval).items()}


def keep(row: dict[str, Any]) -> None:
    """Store a task's row beside those that are there."""
    print(json.dumps(row), flush=True)
    file = RESULTS / f"{NAME}.json"
    rows = json.loads(file.read_text())["rows"] if file.is_file() else []
    rows = [*(each for each in rows if each["task"] != row["task"]), row]
    store(NAME, {"seed": 0, "rows": sorted(rows, key=lambda each: str(each["task"]))})


if __name__ == "__main__":
    main()
