"""What a run is asked: frozen settings, checked once, read from TOML or flags, known by a hash."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from numbers import Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from potstill.errors import RecipeError

Recipe = TypeVar("Recipe", bound="TrainingRecipe")

_SEEDS = 2**63  # torch takes no greater one
_LONGEST_SHOWN = 60  # characters of a wrong value
_OPEN_AT_0 = ("epochs", "learning_rate")  # 0 means "not said", so nobody can say it
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecipe:
    """How the one training loop runs; every kind of training has these settings.

    Raises:
        RecipeError: a setting outside its range.
    """

    epochs: float = 3.0  # passes over the training rows; 0: by their number, where a verb knows how
    rows_per_step: int = 32  # texts of one optimizer step, over all processes
    batch_tokens: int = 4_096  # most real tokens that a process computes at once; bounds memory
    learning_rate: float = 5e-5  # at its peak; 0: by the model's width, where a verb knows how
    warmup_share: float = 0.06  # share of the steps until the peak; then linear to 0
    weight_decay: float = 0.01  # not on biases and norms
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    clip_norm: float = 1.0  # largest length of the gradient; above 0, inf: never cut
    length_pools: int = 0  # sort by length inside pools of so many steps; 0: not at all
    scores_per_epoch: int = 1  # how often the dev score is taken
    seed: int = 0
    precision: str = "auto"  # auto, fp32, bf16
    checkpoint_every_s: float = 60.0  # stretched to 50 times the last one's cost; 0: every step

    @property
    def step_tokens(self) -> int:
        """Return the real tokens of an optimizer step; 0: a step is counted in rows."""
        return 0

    @property
    def scores(self) -> int:
        """Return how often the dev score is taken in a run; 0: so often an epoch."""
        return 0

    def __post_init__(self) -> None:
        """Refuse what cannot be run, with the setting's name."""
        for name in ("epochs", "learning_rate"):
            require_range(name, getattr(self, name), at_least=0.0, below=math.inf)
        require_range("adam_epsilon", self.adam_epsilon, above=0.0, below=math.inf)
        require_range("clip_norm", self.clip_norm, above=0.0)
        require_range("weight_decay", self.weight_decay, at_least=0.0, below=math.inf)
        for name in ("rows_per_step", "batch_tokens", "scores_per_epoch"):
            require_range(name, getattr(self, name), at_least=1)
        for name in ("length_pools", "checkpoint_every_s"):
            require_range(name, getattr(self, name), at_least=0)
        require_range("seed", self.seed, at_least=0, below=_SEEDS)
        require_range("warmup_share", self.warmup_share, at_least=0.0, below=1.0)
        for name in ("adam_beta1", "adam_beta2"):
            require_range(name, getattr(self, name), at_least=0.0, below=1.0)
        require_choice("precision", self.precision, ("auto", "fp32", "bf16"))


def require_range(
    name: str,
    value: float,
    *,
    at_least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> None:
    """Check one number; nan is in no range.

    Raises:
        RecipeError: naming the setting, the value and the range.
    """
    fits = (
        (at_least is None or value >= at_least)
        and (above is None or value > above)
        and (below is None or value < below)
        and (at_most is None or value <= at_most)
    )
    if not fits:
        bounds = {"at least": at_least, "above": above, "below": below, "at most": at_most}
        told = " and ".join(
            f"{word} {_shown(bound)}" for word, bound in bounds.items() if bound is not None
        )
        raise RecipeError(f"{name} is {_shown(value)}", allowed=told)


def require_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Check one word.

    Raises:
        RecipeError: naming the setting, the word and the choices.
    """
    choices = tuple(choices)
    if value not in choices:
        raise RecipeError(f"{name} is {value!r}", allowed=", ".join(choices))


def recipe_hash(recipe: Any, **more: str) -> str:
    """Return a hash of all settings and of what else decides a run's result (hashes of inputs)."""
    content = {"kind": type(recipe).__name__, **dataclasses.asdict(recipe), **more}
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def with_settings(recipe: Recipe, settings: Mapping[str, Any], *, where: str = "--set") -> Recipe:
    """Return the recipe with some settings replaced; strings are read as the field's type.

    Raises:
        RecipeError: an unknown name, or a value of another type or outside its range.
    """
    kinds = get_type_hints(type(recipe))
    names = [field.name for field in fields(recipe)]
    values: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in names:
            close = get_close_matches(name, names, n=1)
            raise RecipeError(
                f"there is no setting {name!r}",
                where=where,
                allowed=", ".join(names),
                cure=f"did you mean {close[0]}?" if close else None,
            )
        values[name] = _as_type(name, value, kinds[name], where)
        if name in _OPEN_AT_0:
            require_range(name, values[name], above=0.0)
    return dataclasses.replace(recipe, **values)


def settings_from_words(words: Iterable[str]) -> dict[str, str]:
    """Read `name=value` words as --set takes them.

    Raises:
        RecipeError: a word without "=", or a name that stands twice.
    """
    settings: dict[str, str] = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or not name:
            raise RecipeError(f"{word!r} is not name=value", where="--set", cure="--set epochs=5")
        name = name.strip()
        if name in settings:
            raise RecipeError(f"{name} is set twice", where="--set", cure="leave one of them out")
        settings[name] = value.strip()
    return settings


def require_no_clash(flagged: Iterable[str], named: Iterable[str]) -> None:
    """Check that no setting is asked for by a flag of its own and by --set as well.

    Raises:
        RecipeError: naming the setting.
    """
    for name in sorted(set(flagged) & set(named)):
        raise RecipeError(
            f"{name} is asked for twice, by --{name.replace('_', '-')} and by --set",
            cure="leave one of them out",
        )


def settings_named(name: str, recipes: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the settings of a recipe that --recipe names.

    Raises:
        RecipeError: no such name.
    """
    if name not in recipes:
        raise RecipeError(
            f"there is no recipe {name!r}", where="--recipe", allowed=f"{', '.join(recipes)}, FILE"
        )
    return recipes[name]


def settings_from_toml(path: Path) -> dict[str, Any]:
    """Read a recipe file: TOML with one `name = value` a line.

    Raises:
        RecipeError: missing or not TOML, with the line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecipeError("no such recipe file", where=str(path)) from error
    except OSError as error:
        raise RecipeError(f"cannot read: {error.strerror}", where=str(path)) from error
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, a number without end
        raise RecipeError(f"not TOML: {error}", where=str(path)) from error


def _as_type(name: str, value: Any, kind: Any, where: str) -> Any:
    """Read a string from a flag as the field's type; check a value that has a type already."""
    if get_origin(kind) is UnionType:
        if value is None or value == "none":
            return None
        (kind,) = [choice for choice in get_args(kind) if choice is not NoneType]
    try:
        return _exact(kind, value)
    except (KeyError, OverflowError, TypeError, ValueError):
        raise RecipeError(f"{name} is {_shown(value)}", where=where, allowed=_KINDS[kind]) from None


def _exact(kind: type, value: Any) -> Any:
    if isinstance(value, str):
        return {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
    if isinstance(value, bool) != (kind is bool) or kind is str or not isinstance(value, Real):
        raise TypeError
    converted = kind(value)
    if kind is int and converted != value:
        raise ValueError
    return converted


def _shown(value: Any) -> str:
    """Return a value for a message, cut where it is endless."""
    told = f"{value:g}" if isinstance(value, float) else repr(value)
    return told if len(told) <= _LONGEST_SHOWN else f"{told[:_LONGEST_SHOWN]}…"
