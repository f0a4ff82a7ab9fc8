"""The page of settings is what the source says."""

from __future__ import annotations

import sys

from potstill.workflows.finetune import FinetuneRecipe
from tests.conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "docs"))
import make_settings


def test_the_page_of_settings_is_made_from_the_source() -> None:
    told = make_settings.PAGE.read_text(encoding="utf-8")
    assert told == make_settings.page(), "run: python docs/make_settings.py"


def test_every_field_of_a_recipe_stands_on_the_page_with_its_default() -> None:
    page = make_settings.page()
    for name, default in (("class_weights", "'none'"), ("dev_share", "0.1")):
        assert getattr(FinetuneRecipe(), name) == eval_default(default)
        assert f"| `{name}` | `{default}` |" in page
    for name in FinetuneRecipe.__dataclass_fields__:
        assert f"| `{name}` |" in page, f"{name} is missing"


def eval_default(told: str) -> object:
    """Return the value of a default as it is written."""
    import ast

    return ast.literal_eval(told)
