"""What `shrink` is asked: models, rows, recipes, and the steps behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from potstill.data.columns import Columns
from potstill.errors import RecipeError
from potstill.recipe import require_choice, require_range, with_settings
from potstill.train.progress import Listener
from potstill.workflows.distill_recipe import SEARCH, DistillRecipe
from potstill.workflows.finetune import FinetuneRecipe

Tell = Callable[[str], None]


# Least retention of a quantized student beside itself in fp32, by what it is quantized to.
FLOORS: Mapping[str, float] = {"int8": 0.99, "int8-weights": 0.99, "int4": 0.98, "bf16": 0.99}
NOT_QUANTIZED = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantizing:
    """A quantized copy of the student, and what it must keep."""

    precision: str  # one of FLOORS
    floor: float | None = None  # None: that of FLOORS

    def __post_init__(self) -> None:
        """Refuse what cannot be made.

        Raises:
            RecipeError: with the setting's name.
        """
        require_choice("quantize", self.precision, tuple(FLOORS))
        if self.floor is not None:
            require_range("quantize_floor", self.floor, above=0.0, at_most=1.0)

    @property
    def least(self) -> float:
        """Return the floor."""
        return FLOORS[self.precision] if self.floor is None else self.floor


@dataclass(frozen=True, slots=True, kw_only=True)
class ShrinkInputs:
    """What is shrunk, on what."""

    teacher: str | Path  # a tuned model, or a pre-trained one that is tuned first
    train: object
    test: object  # read once, after the last choice
    dev: object | None = None  # None: carved from the training rows with the seed
    unlabelled: object | None = None
    control: bool = False  # train the control too and show it beside the student
    pretrained: str | Path | None = None  # for the control of a teacher that was tuned elsewhere
    task: str | None = None  # None: the teacher's; of a bare encoder classification
    floor: float | None = None  # least retention; None: no gate
    accept: str | None = None  # "point": an undecided gate passes if the value does
    quantize: Quantizing | None = None
    tune: bool = False  # measure the engines and store the choice, in student and copy
    allow_pickle: bool = False
    columns: Columns = field(default_factory=Columns)

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing.

        Raises:
            RecipeError: with the setting's name.
        """
        require_choice("accept", self.accept or "point", ("point",))


@dataclass(frozen=True, slots=True, kw_only=True)
class ShrinkRecipe:
    """How teacher and student are trained."""

    teacher: FinetuneRecipe = field(default_factory=FinetuneRecipe)
    student: DistillRecipe = field(default_factory=lambda: DistillRecipe(choose=SEARCH))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will be done, told before anything is."""

    steps: tuple[str, ...]
    is_tuned_first: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How the work is run and who is told."""

    device: str = "auto"
    threads: int | None = None
    listeners: tuple[Listener, ...] = ()
    tell: Tell | None = None  # takes the plan and a line at each stage


def quantizing(precision: str | None, floor: float | None) -> Quantizing | None:
    """Return what is asked for in words; nothing, or "none", is no copy.

    Raises:
        RecipeError: an unknown precision, or a floor of nothing.
    """
    if precision is not None and precision != NOT_QUANTIZED:
        return Quantizing(precision=precision, floor=floor)
    if floor is not None:
        raise RecipeError(
            "quantize_floor is a floor of a quantized student, and none is asked for",
            cure=f"add --quantize {next(iter(FLOORS))}, or leave it out",
        )
    return None


def shrink_recipe(settings: Mapping[str, Any], *, where: str = "--set") -> ShrinkRecipe:
    """Return a recipe: plain names are the student's settings, "teacher.NAME" the teacher's.

    `primary`, `seed`, `max_length`, `long_texts`, `overlap` and `dev_share` are common to both.

    Raises:
        RecipeError: an unknown name, or a value of another type or outside its range.
    """
    common = {"primary", "seed", "max_length", "long_texts", "overlap", "dev_share"}
    teacher = {name: value for name, value in settings.items() if name in common}
    student: dict[str, Any] = {"choose": SEARCH}
    for name, value in settings.items():
        if name.startswith("teacher."):
            teacher[name.removeprefix("teacher.")] = value
        else:
            student[name] = value
    return ShrinkRecipe(
        teacher=with_settings(FinetuneRecipe(), teacher, where=where),
        student=with_settings(DistillRecipe(), student, where=where),
    )
