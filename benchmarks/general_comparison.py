"""Are students of all text worth their training? Presets, a truncated control, task distillation.

Everything begins at one pre-trained model. It gets a masked-LM head; out of it a student is
distilled with each preset at an equal budget of tokens, and the same layers are cut out without any
training (the control). All of them are then tuned on tasks, beside students that learn the task
alone from a tuned teacher, and beside those that do both steps.

Each bundle and each cell is kept under WORK, so that the comparison goes on where it stopped.
Nothing here needs orjson, so that it runs where only torch and its friends are installed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

import potstill
from potstill.architectures.heads import HeadSpec
from potstill.bundle.manifest import Manifest
from potstill.bundle.opening import open_model
from potstill.bundle.write import BundleContent, write_bundle
from potstill.data.readers import read_rows
from potstill.data.rows import Rows
from potstill.distillation.layers import choose_layers
from potstill.distillation.student import cut_student, student_config
from potstill.metrics.metric import point
from potstill.metrics.retention import difference
from potstill.models.loading import load_task_model, tensors_of
from potstill.tasks.kinds import task_of_model
from potstill.workflows.general_recipe import PRESETS
from potstill.workflows.suite_test import TestSet, judge_model

CUT, TASK_ALONE, TEACHER = "cut", "task distillation", "teacher"
THEN = ", then the task"  # both steps


@dataclass(frozen=True, kw_only=True)
class TaskPlan:
    """One task: its rows, and how long it is tuned."""

    name: str
    kind: str = "classification"
    train: str = "train.jsonl"
    test: str = "test.jsonl"
    rows: int | None = None
    primary: str = "accuracy"
    seeds: int = 6
    epochs: float = 4.0


TASKS = (
    TaskPlan(name="trec"),
    TaskPlan(name="mrpc"),
    TaskPlan(name="cola", test="dev.jsonl", rows=6_000, primary="matthews", seeds=2),
    TaskPlan(
        name="conll2003",
        kind="token-classification",
        rows=3_000,
        primary="entity_f1",
        seeds=2,
        epochs=5.0,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is trained, and how long."""

    pretrained: Path
    data: Path
    corpus: Sequence[Path]
    tokens: int  # of each student's training on text
    head_tokens: int  # of the training that gives the pre-trained model a masked-LM head
    layers: int = 3
    tasks: Sequence[TaskPlan] = TASKS
    device: str = "auto"
    threads: int | None = None
    corpus_settings: Mapping[str, Any] = field(default_factory=dict)  # of every training on text
    task_settings: Mapping[str, Any] = field(default_factory=dict)  # of every tuning

    @property
    def how(self) -> dict[str, Any]:
        """Return where trainings run."""
        return {"device": self.device, "threads": self.threads}


class Comparison:
    """The trainings of one plan, each done once."""

    def __init__(self, plan: Plan, work: Path) -> None:
        self.plan, self.work = plan, work
        work.mkdir(parents=True, exist_ok=True)
        self.cells_file = work / "cells.jsonl"

    def language_model(self) -> Path:
        """Give the pre-trained model a masked-LM head; documents of the test sets are left out."""
        out = self.work / "lm"
        if not out.exists():
            tests = [self.rows(task, task.test) for task in self.plan.tasks]
            potstill.finetune(
                *(self.plan.pretrained, list(self.plan.corpus), out),
                task="masked-lm",
                evaluation=[texts_of(rows) for rows in tests],
                corpus_folder=self.work / "corpus",
                tokens=self.plan.head_tokens,
                **self.plan.how,
                **self.plan.corpus_settings,
            )
        return out

    def student(self, preset: str) -> Path:
        """Distil a student of all text; its report stays beside it."""
        out = self.work / f"general-{preset}"
        if not out.exists():
            tests = [self.rows(task, task.test) for task in self.plan.tasks]
            settings = {**asdict(PRESETS[preset]()), "tokens": self.plan.tokens}
            report = potstill.distill(
                *(self.language_model(), out),
                corpus=self.work / "corpus",
                evaluation=[texts_of(rows) for rows in tests],
                **self.plan.how,
                **{**settings, "layers": self.plan.layers, **self.plan.corpus_settings},
            )
            (self.work / f"{out.name}.json").write_text(json.dumps(report.to_json(), default=str))
        return out

    def cut(self) -> Path:
        """Take the students' layers out of the masked-LM model, and train nothing."""
        out = self.work / CUT
        if out.exists():
            return out
        folder = open_model(self.language_model())
        depth = folder.config.layers
        kept = choose_layers(depth, self.plan.layers, choice="distilbert")
        config = student_config(folder.config, len(kept))
        model = cut_student(load_task_model(folder), config, kept)
        content = BundleContent(
            config=model.config,
            head=model.spec,
            tensors=tensors_of(model),
            tokenizer=folder.tokenizer(),
            manifest=Manifest(task="masked-lm", max_length=config.max_length),
        )
        write_bundle(out, content)
        return out

    def cells(
        self, chosen: Sequence[str] | None = None, tasks: Sequence[str] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Tune everything on every task with every seed; what stands is not done again.

        Args:
            chosen: conditions of this sitting; None: all. What stands of the others is told too.
            tasks: names of this sitting's tasks; None: all, others are passed over.
        """
        for task in self.plan.tasks:
            if tasks is not None and task.name not in tasks:
                continue
            for seed in range(task.seeds):
                for condition in conditions():
                    # Read each time: another process may be at work on the rest.
                    done = {_key(cell): cell for cell in self.stored()}
                    key = (task.name, condition, seed)
                    if key in done:
                        yield done[key]
                    elif chosen is None or condition in chosen:
                        yield self._cell(task, condition, seed)

    def stored(self) -> list[dict[str, Any]]:
        """Return the cells that stand."""
        if not self.cells_file.is_file():
            return []
        return [json.loads(line) for line in self.cells_file.read_text().splitlines()]

    def rows(self, task: TaskPlan, file: str, limit: int | None = None) -> Rows:
        """Read rows of a task with the standard library's JSON."""
        lines = (self.plan.data / task.name / file).read_text(encoding="utf-8").split("\n")
        return read_rows([json.loads(line) for line in lines if line], limit=limit)

    def _cell(self, task: TaskPlan, condition: str, seed: int) -> dict[str, Any]:
        judged = judge_model(
            self._tuned(task, condition, seed),
            TestSet(rows=self.rows(task, task.test)),
            primary=task.primary,
            index=None,
            device=self.plan.device,
            threads=self.plan.threads,
        )
        cell = {
            "task": task.name,
            "kind": task.kind,
            "condition": condition,
            "seed": seed,
            "primary": judged.primary,
            "labels": judged.labels,
            "statistics": judged.statistics,
            "trivial": judged.trivial,
        }
        with self.cells_file.open("a") as stream:
            stream.write(json.dumps(cell) + "\n")
        return cell

    def _tuned(self, task: TaskPlan, condition: str, seed: int) -> Path:
        out = self.work / "tuned" / f"{task.name}-{seed}-{condition.replace(' ', '-')}"
        if not out.exists():
            out.parent.mkdir(exist_ok=True)
            self._tune(task, condition, seed, out)
        return out

    def _tune(self, task: TaskPlan, condition: str, seed: int, out: Path) -> None:
        rows = self.rows(task, task.train, task.rows)
        how = {**self.plan.how, "seed": seed, "epochs": task.epochs, "primary": task.primary}
        how |= self.plan.task_settings
        if condition == TEACHER:
            potstill.finetune(self.plan.pretrained, rows, out, task=task.kind, **how)
            return
        rate = {"learning_rate": 2e-4}  # of every model of the student's depth
        if condition == TASK_ALONE:
            teacher = self._tuned(task, TEACHER, seed)
            kept = open_model(self.cut()).config.layers
            settings = {"layers": kept, "choose": "distilbert"}
            potstill.distill(teacher, out, train=rows, **settings, **how, **rate)
            return
        name, has_both, _ = condition.partition(THEN)
        start = self.cut() if name == CUT else self.student(name)
        if has_both:
            teacher = self._tuned(task, TEACHER, seed)
            potstill.distill(teacher, out, student=start, train=rows, **how, **rate)
        else:
            potstill.finetune(start, rows, out, task=task.kind, **how, **rate)


def conditions() -> list[str]:
    """Return what is tuned; the teacher comes first, since others learn from it."""
    return [TEACHER, CUT, TASK_ALONE, *PRESETS, *(f"{preset}{THEN}" for preset in PRESETS)]


def summary(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return for each task and condition the mean over seeds, and differences with intervals.

    Intervals are of other test rows for these trainings, see `joint_interval`.
    """
    rows = []
    for task in dict.fromkeys(cell["task"] for cell in cells):
        own = [cell for cell in cells if cell["task"] == task]
        sides = {name: _side(own, name) for name in conditions() if _side(own, name)}
        metric = _metric(own[0])
        for name, side in sides.items():
            values = [point(metric, each) for each in side.values()]
            rows.append(
                {
                    "task": task,
                    "metric": own[0]["primary"],
                    "condition": name,
                    "values": [round(value, 4) for value in values],
                    "mean": round(float(np.mean(values)), 4),
                    "above_cut": _difference(metric, side, sides.get(CUT, {})),
                    "above_task_distillation": _difference(metric, side, sides.get(TASK_ALONE, {})),
                    "trivial": round(point(metric, np.asarray(own[0]["trivial"])), 4),
                }
            )
    return rows


def between_presets(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return how far presets lie apart on each task, of students tuned in the same way.

    Differences are of the seeds that both have; intervals as in `summary`.
    """
    found = []
    for task in dict.fromkeys(cell["task"] for cell in cells):
        own = [cell for cell in cells if cell["task"] == task]
        for way in ("", THEN):
            for one, other in combinations(PRESETS, 2):
                side, less = _side(own, f"{one}{way}"), _side(own, f"{other}{way}")
                apart = _difference(_metric(own[0]), side, less)
                if apart is not None:
                    names = {
                        "task": task,
                        "preset": one,
                        "less": other,
                        "is_both_steps": way == THEN,
                    }
                    found.append({**names, "seeds": len(side.keys() & less.keys()), "apart": apart})
    return found


def texts_of(rows: Rows) -> list[dict[str, str]]:
    """Return the texts of test rows, of pairs both, to be looked for in the corpus."""
    if "tokens" in rows.columns:
        return [{"text": " ".join(tokens)} for tokens in rows.column("tokens")]
    names = [name for name in ("text", "text_pair") if name in rows.columns]
    return [{"text": text} for name in names for text in rows.column(name)]


def _side(cells: Sequence[Mapping[str, Any]], condition: str) -> dict[int, Any]:
    """Return a condition's statistics by seed."""
    found = {cell["seed"]: cell for cell in cells if cell["condition"] == condition}
    return {seed: np.asarray(found[seed]["statistics"]) for seed in sorted(found)}


def _metric(cell: Mapping[str, Any]) -> Any:
    head = HeadSpec(labels=tuple(cell["labels"]))
    return task_of_model(cell["kind"], head, {}, {}).metric(cell["primary"])


def _difference(
    metric: Any, side: Mapping[int, Any], other: Mapping[int, Any]
) -> list[float] | None:
    """Return value, low and high over the seeds that both have; None: there are none."""
    seeds = [seed for seed in side if seed in other]
    if not seeds:
        return None
    found = difference(metric, [side[seed] for seed in seeds], [other[seed] for seed in seeds])
    return [round(value, 4) for value in (found.value, found.low, found.high)]


def _key(cell: Mapping[str, Any]) -> tuple[str, str, int]:
    return cell["task"], cell["condition"], cell["seed"]
