"""Write docs/settings.md: every setting with its default and what it means, from the source.

    python docs/make_settings.py

The comment beside a field is the only place where it is explained, so the page cannot grow old; a
test holds the page to what this renders.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from potstill.workflows import distill_recipe, finetune, general_recipe, masked_lm

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCES = REPOSITORY / "src" / "potstill"
PAGE = REPOSITORY / "docs" / "settings.md"

INTRODUCTION = """\
# Settings

Made from the source by `python docs/make_settings.py`.

Each of these is `--set name=value` on the command line (of `shrink`, the teacher's is
`--set teacher.name=value`), a keyword of the library call, or a line of a TOML file given as
`--recipe FILE`. `--recipe NAME` takes a recipe of ours; what it leaves out is the default. A name
that is not there, or a value out of its range, is refused with what is allowed.
"""

SUITES = """\
## Files of `potstill suite`

TOML: what is true of all tasks stands on top, each task is a table `[[task]]`, and files are named
from the folder that `--data` gives ([recipes/shared_data.toml](../recipes/shared_data.toml) has
every kind). Settings of the tables `teacher` and `student` are those of `finetune` and `distill`
above.

```toml
name = "two tasks"
pretrained = "hub:sentence-transformers/all-MiniLM-L6-v2"
seeds = [0, 1, 2]
student = { layers = 3 }

[[task]]
name = "tickets"
train = "tickets/train.jsonl"
test = "tickets/test.jsonl"

[[task]]
name = "names"
task = "token-classification"
train = "names/train.conll"
test = "names/test.conll"
teacher = { epochs = 5 }
```
"""

SECTIONS = (
    ("Every training", "recipe.py", "TrainingRecipe", None),
    ("`finetune`", "workflows/finetune.py", "FinetuneRecipe", finetune.RECIPES),
    ("`distill`, `shrink`: a task", "workflows/distill_recipe.py", "DistillRecipe",
     distill_recipe.RECIPES),
    ("Every training on a corpus", "workflows/corpus_recipe.py", "CorpusRecipe", None),
    ("`finetune --task masked-lm`", "workflows/masked_lm.py", "MaskedLMRecipe",
     masked_lm.RECIPES),
    ("`distill --corpus`", "workflows/general_recipe.py", "GeneralRecipe",
     {name: asdict(make()) for name, make in general_recipe.PRESETS.items()}),
)  # fmt: skip


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """Return the page as it should stand."""
    parts = [INTRODUCTION]
    for title, file, name, recipes in SECTIONS:
        parts.append(f"## {title}\n\n{fields_table(file, name)}")
        if recipes is not None:
            parts.append(recipes_list(recipes, general_recipe.GeneralRecipe()))
    parts += [SUITES, fields_table("workflows/suite_file.py", "Suite", without="tasks")]
    parts += ["Of a task:\n", fields_table("workflows/suite_file.py", "SuiteTask")]
    return "\n".join(parts)


def fields_table(file: str, name: str, *, without: str = "") -> str:
    """Return a class's fields with their defaults and comments."""
    rows = ["| setting | default | meaning |", "| --- | --- | --- |"]
    for field, default, told in fields(file, name):
        if field != without:
            rows.append(f"| `{field}` | {default} | {told} |")
    return "\n".join(rows) + "\n"


def fields(file: str, name: str) -> Iterator[tuple[str, str, str]]:
    """Yield a class's fields: name, default and the comment beside it."""
    source = (SOURCES / file).read_text(encoding="utf-8")
    lines = source.splitlines()
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            for part in node.body:
                if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                    own = lines[part.lineno - 1 : part.end_lineno]
                    yield part.target.id, _default(part.value), _comment(own)


def recipes_list(recipes: Mapping[str, Mapping[str, Any]], usual: Any) -> str:
    """Return what each named recipe sets; of presets only what differs from the default."""
    told = []
    for name, settings in recipes.items():
        is_whole = settings.keys() == asdict(usual).keys()
        changed = {
            field: value
            for field, value in settings.items()
            if not is_whole or value != getattr(usual, field)
        }
        words = ", ".join(f"`{field} = {_toml(value)}`" for field, value in changed.items())
        told.append(f"- `--recipe {name}`: {words or 'the defaults'}")
    return "\n".join(told) + "\n"


def _default(value: ast.expr | None) -> str:
    if value is None:
        return "needed"
    if isinstance(value, ast.Call):
        return "empty"
    found = ast.unparse(value)
    return {"''": "empty", "()": "empty", "None": "none", "EVEN": "`'even'`"}.get(
        found, f"`{_named_constant(found)}`"
    )


def _named_constant(found: str) -> str:
    """Return a constant's value where a default names one."""
    from potstill.workflows import corpus_recipe

    return str(getattr(corpus_recipe, found, found))


def _comment(lines: list[str]) -> str:
    told = [line.partition("# ")[2].strip() for line in lines if "# " in line]
    return " ".join(told).replace("|", "\\|")


def _toml(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


if __name__ == "__main__":
    main()
