"""Recipes: read from words and TOML, held to their ranges, known by a hash."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import RecipeError
from potstill.recipe import (
    TrainingRecipe,
    recipe_hash,
    require_choice,
    require_no_clash,
    require_range,
    settings_from_toml,
    settings_from_words,
    with_settings,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WiderRecipe(TrainingRecipe):
    """A recipe with the kinds of settings that the plainest has not."""

    keeps_case: bool = False
    most_rows: int | None = None
    note: str = ""


FINITE = {"allow_nan": False, "allow_infinity": False}
ABOVE_0 = st.floats(min_value=0.0, exclude_min=True, **FINITE)
AT_LEAST_0 = st.floats(min_value=0.0, **FINITE)
SHARE = st.floats(min_value=0.0, max_value=1.0, exclude_max=True)
COUNT = st.integers(min_value=1, max_value=10**12)
RANGES: dict[str, st.SearchStrategy[Any]] = {
    "epochs": ABOVE_0,
    "rows_per_step": COUNT,
    "batch_tokens": COUNT,
    "learning_rate": ABOVE_0,
    "warmup_share": SHARE,
    "weight_decay": AT_LEAST_0,
    "adam_beta1": SHARE,
    "adam_beta2": SHARE,
    "adam_epsilon": ABOVE_0,
    "clip_norm": ABOVE_0 | st.just(math.inf),
    "length_pools": st.integers(min_value=0, max_value=10**6),
    "scores_per_epoch": COUNT,
    "seed": st.integers(min_value=0, max_value=2**63 - 1),
    "precision": st.sampled_from(["auto", "fp32", "bf16"]),
    "checkpoint_every_s": AT_LEAST_0 | st.just(math.inf),
}
SETTINGS = st.fixed_dictionaries({}, optional=RANGES)

OUTSIDE = {
    "epochs": [-1.0, math.nan, math.inf],
    "rows_per_step": [0, -(10**400)],
    "batch_tokens": [0],
    "learning_rate": [-1e-5, math.nan, math.inf],
    "warmup_share": [-0.1, 1.0, math.nan],
    "weight_decay": [-0.1, math.nan, math.inf],
    "adam_beta1": [-0.1, 1.0],
    "adam_beta2": [-0.1, 1.0, math.nan],
    "adam_epsilon": [0.0, math.inf],
    "clip_norm": [0.0, math.nan],
    "length_pools": [-1],
    "scores_per_epoch": [0],
    "seed": [-1, 2**63, 10**400],
    "precision": ["fp16", "", "BF16"],
    "checkpoint_every_s": [-1.0, math.nan],
}
OTHER = {
    "epochs": 4.0,
    "rows_per_step": 16,
    "batch_tokens": 512,
    "learning_rate": 1e-4,
    "warmup_share": 0.1,
    "weight_decay": 0.1,
    "adam_beta1": 0.8,
    "adam_beta2": 0.99,
    "adam_epsilon": 1e-6,
    "clip_norm": 2.0,
    "length_pools": 4,
    "scores_per_epoch": 2,
    "seed": 1,
    "precision": "fp32",
    "checkpoint_every_s": 0.0,
}
NAMES = [field.name for field in fields(TrainingRecipe)]


def test_the_tables_here_know_every_setting() -> None:
    assert list(RANGES) == list(OUTSIDE) == list(OTHER) == NAMES


@settings(deadline=None)
@given(SETTINGS)
def test_settings_come_back_as_they_were_given(settings: dict[str, Any]) -> None:
    recipe = with_settings(TrainingRecipe(), settings)
    assert recipe == TrainingRecipe(**settings)
    assert with_settings(TrainingRecipe(), dataclasses.asdict(recipe)) == recipe


@settings(deadline=None)
@given(SETTINGS)
def test_words_say_the_same_as_values(settings: dict[str, Any]) -> None:
    words = [f"{name}={value}" for name, value in settings.items()]
    recipe = with_settings(TrainingRecipe(), settings_from_words(words))
    assert recipe == TrainingRecipe(**settings)


@settings(deadline=None)
@given(SETTINGS)
def test_a_file_says_the_same_as_values(
    tmp_path_factory: pytest.TempPathFactory, settings: dict[str, Any]
) -> None:
    file = tmp_path_factory.getbasetemp() / "recipe.toml"
    lines = [f"{name} = {_as_toml(value)}" for name, value in settings.items()]
    file.write_text("\n".join(lines), encoding="utf-8")
    assert with_settings(TrainingRecipe(), settings_from_toml(file)) == TrainingRecipe(**settings)


def _as_toml(value: float | str) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


@pytest.mark.parametrize("name", NAMES)
def test_a_value_outside_its_range_is_told_by_name(name: str) -> None:
    for value in OUTSIDE[name]:
        with pytest.raises(RecipeError) as caught:
            TrainingRecipe(**{name: value})
        assert str(caught.value).startswith(f"{name} is ")
        assert caught.value.allowed
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"epochs": "abc"}, "epochs is 'abc'; allowed: a number"),
        ({"epochs": [3]}, r"epochs is \[3\]; allowed: a number"),
        ({"epochs": True}, "epochs is True; allowed: a number"),
        ({"seed": 1.5}, "seed is 1.5; allowed: a whole number"),
        ({"seed": "1.0"}, "seed is '1.0'; allowed: a whole number"),
        ({"seed": math.inf}, "seed is inf; allowed: a whole number"),
        ({"seed": math.nan}, "seed is nan; allowed: a whole number"),
        ({"seed": None}, "seed is None; allowed: a whole number"),
        ({"seed": "9" * 5000}, "seed is '9{59}…; allowed: a whole number"),
        ({"precision": 16}, "precision is 16; allowed: a word"),
        ({"keeps_case": "maybe"}, "keeps_case is 'maybe'; allowed: true or false"),
        ({"keeps_case": 1}, "keeps_case is 1; allowed: true or false"),
        ({"most_rows": "many"}, "most_rows is 'many'; allowed: a whole number"),
    ],
)
def test_a_value_of_another_kind_is_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(RecipeError, match=f"^here: {told}$"):
        with_settings(WiderRecipe(), settings, where="here")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"seed": 3.0}, WiderRecipe(seed=3)),
        ({"seed": np.int64(3)}, WiderRecipe(seed=3)),
        ({"seed": 2**53 + 1}, WiderRecipe(seed=2**53 + 1)),
        ({"epochs": 2}, WiderRecipe(epochs=2.0)),
        ({"keeps_case": "True"}, WiderRecipe(keeps_case=True)),
        ({"keeps_case": True}, WiderRecipe(keeps_case=True)),
        ({"most_rows": "7"}, WiderRecipe(most_rows=7)),
        ({"most_rows": "none"}, WiderRecipe(most_rows=None)),
        ({"note": "a = b"}, WiderRecipe(note="a = b")),
    ],
)
def test_a_value_that_fits_without_loss_is_taken(
    settings: dict[str, object], expected: WiderRecipe
) -> None:
    found = with_settings(WiderRecipe(), settings)
    assert found == expected
    kinds = [type(value) for value in dataclasses.astuple(found)]
    assert kinds == [type(value) for value in dataclasses.astuple(expected)]


def test_an_unknown_name_is_told_with_the_nearest_known_one() -> None:
    with pytest.raises(RecipeError) as caught:
        with_settings(TrainingRecipe(), {"learnin_rate": 1})
    assert caught.value.cure == "did you mean learning_rate?"
    assert caught.value.allowed == ", ".join(NAMES)
    with pytest.raises(RecipeError) as caught:
        with_settings(TrainingRecipe(), {"zzz": 1})
    assert caught.value.cure is None


def test_words_are_name_and_value() -> None:
    assert settings_from_words([]) == {}
    assert settings_from_words([" epochs = 5 ", "note=a=b"]) == {"epochs": "5", "note": "a=b"}
    for word in ("epochs", "=5", ""):
        with pytest.raises(RecipeError, match="is not name=value; to mend it: --set epochs=5"):
            settings_from_words([word])
    with pytest.raises(RecipeError, match="epochs is set twice"):
        settings_from_words(["epochs=1", "epochs =1"])


def test_what_flag_and_word_both_ask_for_is_refused() -> None:
    require_no_clash({"epochs": 1}, {"seed": "1"})
    with pytest.raises(RecipeError, match="max_length is asked for twice, by --max-length and"):
        require_no_clash({"max_length": 1, "seed": 1}, {"max_length": "1"})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"epochs = = 3", r"not TOML: .*line 1"),
        (b"epochs = 1\nepochs = 2", "not TOML"),
        (b"note = '\xff'", "not TOML"),
        (b"seed = " + b"9" * 5000, "not TOML"),
        (b"seed = " + b"[" * 5000, "not TOML"),
    ],
)
def test_a_file_that_is_not_toml_is_told_with_its_name(
    tmp_path: Path, content: bytes, told: str
) -> None:
    file = tmp_path / "recipe.toml"
    file.write_bytes(content)
    with pytest.raises(RecipeError, match=f"recipe.toml: {told}") as caught:
        settings_from_toml(file)
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_cannot_be_read_is_told_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.toml: no such recipe file"):
        settings_from_toml(tmp_path / "none.toml")
    with pytest.raises(RecipeError, match=f"{tmp_path}: cannot read: Is a directory"):
        settings_from_toml(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_the_hash_changes_with_each_setting(name: str) -> None:
    recipe = TrainingRecipe()
    assert getattr(recipe, name) != OTHER[name]
    changed = dataclasses.replace(recipe, **{name: OTHER[name]})
    assert recipe_hash(changed) != recipe_hash(recipe)
    assert recipe_hash(dataclasses.replace(changed, **{name: getattr(recipe, name)})) == (
        recipe_hash(recipe)
    )


def test_the_hash_changes_with_the_inputs_and_the_kind_of_recipe() -> None:
    hashes = {
        recipe_hash(TrainingRecipe()),
        recipe_hash(WiderRecipe()),
        recipe_hash(TrainingRecipe(), model="a"),
        recipe_hash(TrainingRecipe(), model="b"),
        recipe_hash(TrainingRecipe(), rows="a"),
    }
    assert len(hashes) == 5
    assert recipe_hash(TrainingRecipe(), rows="r", model="m") == recipe_hash(
        TrainingRecipe(), model="m", rows="r"
    )


@settings(deadline=None)
@given(st.integers() | st.floats(**FINITE), st.integers(-100, 100))
def test_a_range_means_what_it_says(value: float, bound: int) -> None:
    def holds(**bounds: float) -> bool:
        try:
            require_range("x", value, **bounds)
        except RecipeError:
            return False
        return True

    assert holds(at_least=bound) == (value >= bound)
    assert holds(above=bound) == (value > bound)
    assert holds(below=bound) == (value < bound)
    assert holds(above=bound, below=bound + 10) == (bound < value < bound + 10)


def test_a_choice_is_one_of_the_words() -> None:
    require_choice("x", "a", ("a", "b"))
    with pytest.raises(RecipeError, match="x is 'c'; allowed: a, b"):
        require_choice("x", "c", ("a", "b"))


@pytest.mark.parametrize("name", ["epochs", "learning_rate"])
def test_nobody_can_ask_for_the_zero_that_means_not_said(name: str) -> None:
    assert dataclasses.replace(TrainingRecipe(), **{name: 0.0}) != TrainingRecipe()
    with pytest.raises(RecipeError, match=f"{name} is 0; allowed: above 0"):
        with_settings(TrainingRecipe(), {name: "0"})
