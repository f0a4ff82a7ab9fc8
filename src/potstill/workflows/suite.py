"""`suite`: tasks x seeds x {teacher, control, student}, each cell run once and stored.

A cell is known by the hash of all that decides it: recipe, data, models. What is stored is not run
again; what was killed goes on; a changed recipe gives a new cell beside the old one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from potstill.bundle.manifest import fingerprint
from potstill.bundle.opening import open_model
from potstill.data.columns import Columns
from potstill.data.overlap import find_overlap
from potstill.data.readers import read_rows
from potstill.data.retrieval import files_of
from potstill.data.rows import Rows, joined
from potstill.errors import RecipeError
from potstill.files import sha256_of_file, told_in_one_line, write_atomically
from potstill.hub_names import is_hub
from potstill.locks import locked
from potstill.recipe import recipe_hash, with_settings
from potstill.report import Report
from potstill.tasks import reading
from potstill.tasks.embedding import NAME as EMBEDDING
from potstill.train.progress import Listener, named, notice
from potstill.workflows.control import CUT_ALONE
from potstill.workflows.demo import packaged_model
from potstill.workflows.distill import DistillInputs, control_folder, distill
from potstill.workflows.distill_recipe import DistillRecipe
from potstill.workflows.finetune import FinetuneRecipe, Inputs, finetune
from potstill.workflows.suite_file import Suite, SuiteTask, read_suite
from potstill.workflows.suite_test import (
    TestSet,
    columns_of,
    judge_model,
    read_test,
    require_metric,
)

PACKAGED = "packaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteOptions:
    """How a suite is run."""

    out: Path  # where cells and bundles are kept
    data: Path | None = None  # what the tasks' files are relative to; None: the suite file's folder
    only: tuple[str, ...] = ()  # names of tasks; empty: all
    device: str = "auto"
    threads: int | None = None
    listeners: tuple[Listener, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One trained model and what its answers to the test rows are worth."""

    task: str
    task_kind: str
    kind: str  # teacher, student, control
    seed: int
    key: str
    report: Mapping[str, Any]  # of the verb that trained it
    primary: str
    labels: list[str]
    statistics: list[list[float]]  # of the metric, of each test row (query, for rankings)
    trivial: list[list[float]]  # the same of who learned nothing
    trivial_word: str  # what that one answers
    has_two_sets: bool  # statistics of two test sets stand side by side
    test_rows: int
    train_rows: int
    notes: Mapping[str, Any]  # overlap of unlabelled and training rows with the test rows
    judged_on: str = ""  # hash of the test set and of how it is read; "": not told

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {name: getattr(self, name) for name in Cell.__dataclass_fields__}


def run_suite(path: Path, options: SuiteOptions) -> list[Cell]:
    """Run what is not stored yet and return all cells, in the suite's order.

    Raises:
        InputError: the suite file, its data or its models cannot be used.
        RunError: a training failed; what was done is stored.
        Stopped: by a signal; resumable.
    """
    suite = read_suite(path)
    tasks = _chosen(suite, options.only)
    runner = _Runner(suite, options, options.data or path.parent)
    runner.require_readable(tasks)
    return [cell for task in tasks for cell in runner.cells_of(task)]


def stored_cells(path: Path, options: SuiteOptions) -> tuple[list[Cell], int]:
    """Return the cells that are stored, without running anything, and how many there should be."""
    suite = read_suite(path)
    runner = _Runner(suite, options, options.data or path.parent)
    tasks = _chosen(suite, options.only)
    cells = [cell for task in tasks for cell in runner.stored_of(task)]
    kinds = 2 if suite.control == "none" else 3
    return cells, sum(kinds * len(suite.seeds_of(task)) for task in tasks)


def asked_cells(path: Path, options: SuiteOptions) -> dict[tuple[str, str, int], str]:
    """Return the key of each cell that is asked for by task, kind and seed.

    Later seeds of a task are known only where its first student is stored: it chose their rates.
    """
    suite = read_suite(path)
    runner = _Runner(suite, options, options.data or path.parent)
    return {
        (task.name, kind, seed): key
        for task in _chosen(suite, options.only)
        for seed, keys in runner.keys_of(task)
        for kind, key in keys.items()
    }


class _Runner:
    """The cells of one suite."""

    def __init__(self, suite: Suite, options: SuiteOptions, data: Path) -> None:
        self.suite, self.options, self.data = suite, options, data
        self.pretrained = (
            packaged_model() if suite.pretrained == PACKAGED else Path(suite.pretrained)
        )

    def require_readable(self, tasks: list[SuiteTask]) -> None:
        """Check files and recipes before hours of work."""
        open_model(self._start)
        for task in tasks:
            self._teacher_recipe(task, 0)
            self._student_recipe(task, 0)
            _require_rows_to_learn_from(task)
            for name in (task.train, task.dev, *task.unlabelled, task.test, task.also_test):
                self._file(name)
            test = read_test(task, self._file(task.test), self._file(task.also_test))
            require_metric(task, test, self._labelled(task))

    def cells_of(self, task: SuiteTask) -> Iterator[Cell]:
        """Run the cells of a task, its first seed first: it chooses the learning rates."""
        first: Cell | None = None
        for seed in self.suite.seeds_of(task):
            teacher = self._cell(task, "teacher", seed, self._teacher_key(task, seed), self._tune)
            yield teacher
            key = self._student_key(task, seed, first)
            student = self._cell(task, "student", seed, key, partial(self._cut, first=first))
            yield student
            if self.suite.control != "none":
                yield self._cell(task, "control", seed, key, self._controlled)
            first = first or student

    def stored_of(self, task: SuiteTask) -> Iterator[Cell]:
        """Return the cells of a task that are there."""
        for seed, keys in self.keys_of(task):
            for kind, key in keys.items():
                cell = self._read(task, kind, seed, key)
                if cell is None:
                    return
                yield cell

    def keys_of(self, task: SuiteTask) -> Iterator[tuple[int, dict[str, str]]]:
        """Return each seed with the keys of its cells, as far as they are known."""
        first: Cell | None = None
        for seed in self.suite.seeds_of(task):
            key = self._student_key(task, seed, first)
            keys = {"teacher": self._teacher_key(task, seed), "student": key}
            yield seed, keys if self.suite.control == "none" else {**keys, "control": key}
            first = first or self._read(task, "student", seed, key)
            if first is None:
                return

    def _cell(
        self,
        task: SuiteTask,
        kind: str,
        seed: int,
        key: str,
        work: Callable[[SuiteTask, int, str], tuple[Path, Mapping[str, Any]]],
    ) -> Cell:
        stored = self._read(task, kind, seed, key)
        if stored is not None:
            return stored
        bundle, told = work(task, seed, key)
        test = read_test(task, self._file(task.test), self._file(task.also_test))
        index = self._start if task.index == "teacher" else None
        judged = judge_model(
            bundle,
            test,
            primary=self._primary(task),
            index=index,
            device=self.options.device,
            threads=self.options.threads,
        )
        cell = Cell(
            task=task.name,
            task_kind=task.task,
            kind=kind,
            seed=seed,
            key=key,
            report=dict(told),
            primary=judged.primary,
            labels=judged.labels,
            statistics=judged.statistics,
            trivial=judged.trivial,
            trivial_word=judged.trivial_word,
            has_two_sets=test.second_part is not None,
            test_rows=judged.rows,
            train_rows=self._row_count(task),
            notes={**self._notes(task, test), **judged.notes},
            judged_on=self._judged_on(task),
        )
        file = self._stored(task, kind, seed, key)
        with told_in_one_line(file):
            file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(cell.to_json()).encode())
        return cell

    def _tune(self, task: SuiteTask, seed: int, key: str) -> tuple[Path, Mapping[str, Any]]:
        if task.task == EMBEDDING:  # the pre-trained model is the teacher
            return open_model(self._start).path, {"bundle": self.suite.pretrained}
        out = self._bundle(task, "teacher", seed, key)
        inputs = Inputs(
            model=self._start,
            train=self._train(task),
            dev=self._file(task.dev),
            columns=columns_of(task),
        )
        recipe = self._teacher_recipe(task, seed)
        return out, self._done_or(
            out, lambda: finetune(inputs, recipe, out=out, **self._how(task, seed))
        )

    def _cut(
        self, task: SuiteTask, seed: int, key: str, *, first: Cell | None
    ) -> tuple[Path, Mapping[str, Any]]:
        out = self._bundle(task, "student", seed, key)
        is_embedding = task.task == EMBEDDING
        control = CUT_ALONE if is_embedding else self.suite.control
        teacher = self._bundle(task, "teacher", seed, self._teacher_key(task, seed))
        inputs = DistillInputs(
            teachers=[self._start if is_embedding else teacher],
            train=None if is_embedding else self._train(task),
            dev=self._file(task.dev),
            unlabelled=self._unlabelled(task),
            control=None if self.suite.control == "none" else control,
            pretrained=self._start if control == "pretrained" else None,
            columns=columns_of(task),
        )
        recipe = _with_rates(self._student_recipe(task, seed), first)
        return out, self._done_or(
            out, lambda: distill(inputs, recipe, out=out, **self._how(task, seed))
        )

    def _controlled(self, task: SuiteTask, seed: int, key: str) -> tuple[Path, Mapping[str, Any]]:
        """Return the control that was trained together with the student."""
        student = self._read(task, "student", seed, key)
        assert student is not None, "a control is trained with its student"
        folder = control_folder(self._bundle(task, "student", seed, key))
        return folder, student.report["control"]

    def _done_or(self, out: Path, work: Callable[[], Report]) -> Mapping[str, Any]:
        """Return the stored report of a bundle that was finished before the cell was, or work."""
        file = out.with_name(out.name + ".json")
        if not file.is_file():
            # A teacher serves several suites, which may be run at the same time: who comes second
            # waits for it.
            with locked(out.with_name(out.name + ".suite"), waiting=partial(self._waits, out)):
                if not file.is_file():
                    # Killed between bundle and report: the run's state is gone, so begin anew.
                    for leftover in (out, control_folder(out)):
                        shutil.rmtree(leftover, ignore_errors=True)
                    write_atomically(file, json.dumps(work().to_json()).encode())
        told: Mapping[str, Any] = json.loads(file.read_bytes())
        return {**told, "bundle": out.name}

    def _waits(self, out: Path, process: str) -> None:
        words = f"waiting for {out.name}, which process {process} is making"
        notice(self.options.listeners, words)

    def _teacher_recipe(self, task: SuiteTask, seed: int) -> FinetuneRecipe:
        if task.task == EMBEDDING:  # it is not tuned, whatever it is judged by
            return FinetuneRecipe()
        settings = {**self.suite.teacher, **task.teacher, "primary": task.primary, "seed": seed}
        settings["task"] = task.task
        return with_settings(FinetuneRecipe(), settings, where=f"task {task.name}, teacher")

    def _student_recipe(self, task: SuiteTask, seed: int) -> DistillRecipe:
        primary = "" if task.task == EMBEDDING else task.primary
        settings = {**self.suite.student, **task.student, "primary": primary, "seed": seed}
        return with_settings(DistillRecipe(), settings, where=f"task {task.name}, student")

    def _teacher_key(self, task: SuiteTask, seed: int) -> str:
        return recipe_hash(
            self._teacher_recipe(task, seed),
            model=fingerprint(open_model(self._start).path),
            rows=str(task.train_rows),
            **self._hashes(task.train, task.dev),
            **_columns_learned_from(task),
        )

    def _student_key(self, task: SuiteTask, seed: int, first: Cell | None) -> str:
        return recipe_hash(
            self._student_recipe(task, seed),
            teacher=self._teacher_key(task, seed),
            control=self.suite.control,
            rates_of=first.key if first else "",
            limit=str(task.unlabelled_rows),
            **self._hashes(*task.unlabelled),
        )

    def _hashes(self, *names: str | None) -> dict[str, str]:
        """Return what of the files decides a result: hashes, of the hub's sets their names."""
        return {
            f"file{number}": name if is_hub(name) else sha256_of_file(Path(self._file(name) or ""))
            for number, name in enumerate(names)
            if name is not None
        }

    def _train(self, task: SuiteTask) -> Rows:
        """Return the training rows, at random as many as the suite says, the same for all seeds."""
        rows = read_rows(self._file(task.train))
        if task.train_rows is None or len(rows) <= task.train_rows:
            return rows
        chosen = np.random.default_rng(0).permutation(len(rows))[: task.train_rows]
        return rows.take(sorted(chosen.tolist()))

    def _labelled(self, task: SuiteTask) -> Rows | None:
        """Return the training rows with their labels; vectors are learned without."""
        if task.task == EMBEDDING:
            return None
        return reading.labelled(task.task, self._train(task), columns_of(task))

    def _primary(self, task: SuiteTask) -> str | None:
        return task.primary or None

    def _notes(self, task: SuiteTask, test: TestSet) -> dict[str, Any]:
        """Count test rows whose text was trained on; nothing is chosen by it."""
        if test.rows is None:
            return {}
        notes = {}
        train = self._labelled(task)
        if train is not None:
            notes["test_rows_in_train"] = find_overlap(train, test.rows).count
        free = self._unlabelled(task)
        if free is not None:
            texts = reading.unlabelled(task.task, free, columns_of(task))
            notes["test_rows_in_unlabelled"] = find_overlap(texts, test.rows).count
        return notes

    def _unlabelled(self, task: SuiteTask) -> Rows | None:
        if not task.unlabelled:
            return None
        parts = [
            read_rows(self._file(name), limit=task.unlabelled_rows) for name in task.unlabelled
        ]
        if len(parts) == 1:
            return parts[0]
        return joined(parts, without=task.label_column)

    def _row_count(self, task: SuiteTask) -> int:
        """Return the rows that a student learned from: labelled ones, of embeddings texts."""
        rows = self._unlabelled(task) if task.task == EMBEDDING else self._train(task)
        return len(rows or [])

    def _how(self, task: SuiteTask, seed: int) -> dict[str, Any]:
        told = f"{task.name}, seed {seed}"
        return {
            "device": self.options.device,
            "threads": self.options.threads,
            "listeners": tuple(named(listener, told) for listener in self.options.listeners),
        }

    @property
    def _start(self) -> str | Path:
        return self.suite.pretrained if is_hub(self.suite.pretrained) else self.pretrained

    def _file(self, name: str | None) -> str | None:
        if name is None or is_hub(name):
            return name
        path = self.data / name
        if not path.exists():
            raise RecipeError(
                "no such file of rows", where=str(path), cure="name the data's folder with --data"
            )
        return str(path)

    def _bundle(self, task: SuiteTask, kind: str, seed: int, key: str) -> Path:
        # One embedding student serves all the sets that it is judged on, and one teacher all tasks
        # and suites that ask for the same.
        name = EMBEDDING if task.task == EMBEDDING else task.name
        if kind == "teacher":
            name = task.task
        return self.options.out / "bundles" / f"{name}-{seed}-{kind}-{key}"

    def _stored(self, task: SuiteTask, kind: str, seed: int, key: str) -> Path:
        return self.options.out / "cells" / f"{task.name}-{seed}-{kind}-{key}.json"

    def _read(self, task: SuiteTask, kind: str, seed: int, key: str) -> Cell | None:
        file = self._stored(task, kind, seed, key)
        if not file.is_file():
            return None
        cell = Cell(**json.loads(file.read_bytes()))
        is_stale = cell.judged_on and cell.judged_on != self._judged_on(task)
        return None if is_stale else cell  # it is judged again, and nothing is trained

    def _judged_on(self, task: SuiteTask) -> str:
        """Return a hash of the test set and of how it is read; the key tells the training alone."""
        columns = columns_of(task).renamed()
        content = [task.primary, task.index, task.grades, *map("=".join, columns.items())]
        for name in (task.test, task.also_test):
            if name is None or is_hub(name):
                content.append(str(name))
                continue
            path = Path(self._file(name) or "")
            files = files_of(path) if path.is_dir() else [path]
            content += [sha256_of_file(file) for file in files]
        return hashlib.sha256("\n".join(content).encode()).hexdigest()[:16]


def _columns_learned_from(task: SuiteTask) -> dict[str, str]:
    """Return the columns that are not called as usual; of embeddings no label is learned."""
    columns = columns_of(task)
    return (
        replace(columns, label=Columns().label) if task.task == EMBEDDING else columns
    ).renamed()


def _require_rows_to_learn_from(task: SuiteTask) -> None:
    if task.task == EMBEDDING and not task.unlabelled:
        raise RecipeError("unlabelled is missing", where=f"task {task.name}")
    if task.task != EMBEDDING and task.train is None:
        raise RecipeError("train is missing", where=f"task {task.name}")


def _with_rates(recipe: DistillRecipe, first: Cell | None) -> DistillRecipe:
    """Return the recipe with the learning rates that the first seed chose on its dev rows."""
    if first is None:
        return recipe
    control = first.report.get("control", {}).get("learning_rate", "")
    return with_settings(
        recipe,
        {
            "learning_rates": f"{first.report['learning_rate']:g}",
            "control_learning_rates": f"{control:g}" if control else "",
        },
    )


def _chosen(suite: Suite, only: tuple[str, ...]) -> list[SuiteTask]:
    names = [task.name for task in suite.tasks]
    for name in only:
        if name not in names:
            raise RecipeError(
                f"there is no task {name!r}", where="--only", allowed=", ".join(names)
            )
    return [task for task in suite.tasks if not only or task.name in only]
