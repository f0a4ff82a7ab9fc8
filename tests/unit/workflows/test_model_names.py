"""Names of models: as short as they can be told apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import InputError
from potstill.workflows.model_names import find_model, shown_names

PARTS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("models", "names"),
    [
        (["runs/teacher", "runs/student/"], ["teacher", "student"]),
        (["one/best", "two/best", "two/other"], ["one/best", "two/best", "other"]),
        (["hub:org/bert", "bert"], ["org/bert", None]),
        (["hub:org/bert", "hub:org/distilbert"], ["bert", "distilbert"]),
        (["hub:bert"], ["bert"]),
    ],
)
def test_names_are_as_short_as_they_can_be(models: list[str], names: list[str | None]):
    for found, expected in zip(shown_names(models), names, strict=True):
        assert expected is None or found == expected


@given(st.lists(PARTS, min_size=1, max_size=6, unique_by=tuple))
def test_names_are_never_the_same(paths: list[list[str]]):
    models = ["/".join(parts) for parts in paths]
    names = shown_names(models)
    assert len(set(names)) == len(models)
    for place, name in enumerate(names):
        assert find_model(name, models, names) == place
        assert find_model(models[place], models, names) in {place, *_named_as(models[place], names)}


def _named_as(path: str, names: list[str]) -> list[int]:
    """Return the models whose shown name is this path: a name goes before a path."""
    return [place for place, name in enumerate(names) if name == path]


def test_a_folder_is_found_by_any_of_its_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    models = ["x/teacher", "x/student"]
    names = shown_names(models)
    for asked in ("student", "x/student", "./x/student/", str(tmp_path / "x" / "student")):
        assert find_model(asked, models, names) == 1


def test_a_model_twice_is_refused_however_it_is_written(tmp_path: Path):
    with pytest.raises(InputError, match="named twice"):
        shown_names(["x/teacher", str(Path("x/teacher").resolve())])


def test_a_stranger_is_refused_with_the_names_that_are_there():
    models = ["a/x", "b/y"]
    with pytest.raises(InputError, match=r"'z' is not among the models; allowed: x, y"):
        find_model("z", models, shown_names(models))
