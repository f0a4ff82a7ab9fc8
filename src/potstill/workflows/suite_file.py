"""What a suite is asked: a TOML file of tasks, seeds and the settings of teacher and student."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill.errors import RecipeError

_TABLES = ("teacher", "student")
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "index": ("own", "teacher"),
    "grades": ("graded", "binary"),
    "control": ("pretrained", "tuned", "cut", "none"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteTask:
    """One task: its files, under the data folder, and what is its own."""

    name: str
    test: str
    train: str | None = None  # labelled rows; embeddings have none
    task: str = "classification"  # the kind; embedding: the pre-trained model itself is the teacher
    also_test: str | None = None  # a second test set; the metric is the mean over both
    index: str = "own"  # of retrieval: whose vectors the documents have, own or teacher
    grades: str = "graded"  # of retrieval: as they are, or binary: above 0 is 1
    dev: str | None = None  # None: carved from train with the seed
    train_rows: int | None = None  # so many at random, the same for all seeds; None: all
    unlabelled: tuple[str, ...] = ()  # one file or several
    unlabelled_rows: int | None = None  # the first so many of each; None: all
    primary: str = ""  # metric; empty: the task's own
    seeds: tuple[int, ...] = ()  # empty: the suite's
    text_column: str = "text"
    text_pair_column: str = "text_pair"
    label_column: str = "label"
    teacher: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # over the suite's
    student: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Tasks x seeds x {teacher, control, student}."""

    name: str
    pretrained: str  # a folder, "hub:NAME", or "packaged": the demo's all-MiniLM-L6-v2
    tasks: tuple[SuiteTask, ...]
    seeds: tuple[int, ...] = (0,)
    control: str = "pretrained"  # pretrained, tuned, none; of embeddings always the untaught cut
    teacher: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # fields of its recipe
    student: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def seeds_of(self, task: SuiteTask) -> tuple[int, ...]:
        """Return the seeds that a task is run with."""
        return task.seeds or self.seeds


def read_suite(path: Path) -> Suite:
    """Read a suite file.

    Raises:
        RecipeError: missing, not TOML, an unknown or missing name, or a value of another type.
    """
    content = _toml(path)
    tasks = content.pop("task", [])
    if not isinstance(tasks, list) or not tasks:
        raise RecipeError("there is no task", where=str(path), cure="add a table [[task]]")
    named = [
        _made(SuiteTask, task, where=f"{path}, task {number}")
        for number, task in enumerate(tasks, start=1)
    ]
    names = [task.name for task in named]
    for name in names:
        if "/" in name or not name.strip():
            raise RecipeError(
                f"a task is named {name!r}",
                where=str(path),
                allowed="a name without a slash, since files are named by it",
            )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RecipeError(f"two tasks are named {twice[0]!r}", where=str(path))
    suite: Suite = _made(Suite, {**content, "tasks": tuple(named)}, where=str(path))
    return suite


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"cannot read: {error.strerror}", where=str(path)) from error
    except ValueError as error:
        raise RecipeError(f"not TOML: {error}", where=str(path)) from error


def _made(kind: Any, content: Any, *, where: str) -> Any:
    """Return the frozen object of a table, its names and types checked."""
    if not isinstance(content, dict):
        raise RecipeError("this is no table", where=where)
    known = {field.name: field for field in dataclasses.fields(kind)}
    for name in content:
        if name not in known:
            raise RecipeError(f"there is no {name!r}", where=where, allowed=", ".join(known))
    for name, field in known.items():
        is_needed = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if is_needed and name not in content:
            raise RecipeError(f"{name} is missing", where=where)
    return kind(**{name: _value(name, value, where) for name, value in content.items()})


def _value(name: str, value: Any, where: str) -> Any:
    if name == "seeds":
        are_seeds = isinstance(value, list) and all(
            type(seed) is int and seed >= 0 for seed in value
        )
        if not are_seeds or not value or len(set(value)) < len(value):
            raise RecipeError(
                f"seeds is {value!r}",
                where=where,
                allowed="a list of different whole numbers from 0",
            )
        return tuple(value)
    if name == "tasks":
        return value
    if name == "unlabelled":
        files = [value] if isinstance(value, str) else value
        if not isinstance(files, list) or not all(isinstance(each, str) for each in files):
            raise RecipeError(f"unlabelled is {value!r}", where=where, allowed="a file, or a list")
        return tuple(files)
    kind: type = dict if name in _TABLES else int if name.endswith("_rows") else str
    if type(value) is not kind:
        word = {dict: "a table", int: "a whole number", str: "a string"}[kind]
        raise RecipeError(f"{name} is {value!r}", where=where, allowed=word)
    _require_in_range(name, value, where)
    return value


def _require_in_range(name: str, value: Any, where: str) -> None:
    """Refuse what would be read as something else, or be told after hours of work only."""
    if name in _CHOICES and value not in _CHOICES[name]:
        raise RecipeError(f"{name} is {value!r}", where=where, allowed=", ".join(_CHOICES[name]))
    if name.endswith("_rows") and value < 1:
        raise RecipeError(f"{name} is {value}", where=where, allowed="1 or more")
