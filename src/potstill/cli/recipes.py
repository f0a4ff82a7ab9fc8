"""From flags to a recipe: --recipe first, then the flags of its fields, then --set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from potstill.recipe import (
    Recipe,
    require_no_clash,
    settings_from_toml,
    settings_from_words,
    with_settings,
)

Named = Callable[[str], Mapping[str, Any]]
Check = Callable[[list[str], Any], None]


def asked_recipe(
    usual: Recipe,
    recipe: str | None,
    flagged: Mapping[str, Any],
    words: list[str] | None,
    *,
    named: Named,
    check: Check | None = None,
) -> Recipe:
    """Return the recipe that a command line asks for.

    Args:
        usual: the defaults.
        recipe: what --recipe holds: a TOML file, or a name.
        flagged: flags of single fields; those that are None were not given.
        words: name=value of each --set.
        named: finds the settings of a recipe's name.
        check: refuses names of settings, of a file, flags and --set, that mean nothing in what
            comes out.

    Raises:
        RecipeError: an unknown name, a value out of range, or a setting asked for twice.
    """
    asked = usual
    in_file: list[str] = []
    if recipe is not None:
        is_file = recipe.endswith(".toml") or Path(recipe).is_file()
        found = settings_from_toml(Path(recipe)) if is_file else named(recipe)
        in_file = list(found) if is_file else []  # a preset of ours names all there are
        asked = with_settings(asked, found, where=recipe if is_file else "--recipe")
    given, extra = _given(flagged), settings_from_words(words or [])
    require_no_clash(given, extra)
    asked = with_settings(asked, given, where="the flags")
    asked = with_settings(asked, extra)
    if check is not None:
        check([*in_file, *given, *extra], asked)
    return asked


def asked_settings(flagged: Mapping[str, Any], words: list[str] | None) -> dict[str, Any]:
    """Return the settings of flags and --set together.

    Raises:
        RecipeError: a setting that is asked for twice.
    """
    given, extra = _given(flagged), settings_from_words(words or [])
    require_no_clash(given, extra)
    return {**given, **extra}


def _given(flagged: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flagged.items() if value is not None}
