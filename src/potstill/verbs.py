"""The verbs as library calls: keyword arguments in, the same reports as the command line out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.errors import RecipeError
from potstill.recipe import with_settings
from potstill.report import Report
from potstill.workflows.requirements import require_torch

if TYPE_CHECKING:
    from potstill.workflows.comparison import Comparison

_COLUMNS = {"text_column": "text", "label_column": "label"}


def info(model: str | Path, *, allow_pickle: bool = False) -> dict[str, Any]:
    """Describe a model folder or hub name: the object that `potstill info --json` prints.

    Raises:
        ModelError: the folder cannot be used.
    """
    from potstill.workflows.info import describe

    return describe(model, allow_pickle=allow_pickle)


def compare(
    models: Sequence[str | Path],
    *,
    baseline: str | Path | None = None,
    test: Any = None,
    html: str | Path | None = None,
    flips: str | Path | None = None,
    **options: Any,
) -> Comparison:
    """Measure models side by side: size, memory, speed and, with test rows, what quality is kept.

    Args:
        models: model folders or hub names.
        baseline: one of them, by path or shown name; None: the first.
        test: a file, list of dicts, `datasets.Dataset` or pandas frame; None: no quality.
        html: the page to write.
        flips: the CSV of differing answers to write.
        **options: other fields of `CompareOptions` (primary, rounds, threads, precision, …).

    Raises:
        PotstillError: in one line, see `potstill.errors`.
    """
    from potstill.workflows.compare import CompareOptions
    from potstill.workflows.compare import compare as run_compare

    known = {field.name for field in fields(CompareOptions)}
    for name in options.keys() - known:
        raise RecipeError(f"there is no option {name!r}", allowed=", ".join(sorted(known)))
    asked = CompareOptions(
        baseline=None if baseline is None else str(baseline),
        test=test,
        html=None if html is None else Path(html),
        flips=None if flips is None else Path(flips),
        **options,
    )
    return run_compare(models, asked)


def finetune(  # noqa: PLR0913 - the choices of one run, all by name
    model: str | Path,
    train: Any,
    out: str | Path,
    *,
    dev: Any = None,
    device: str = "auto",
    threads: int | None = None,
    allow_pickle: bool = False,
    **settings: Any,
) -> Report:
    """Fine-tune a pre-trained model and write it as a bundle.

    Args:
        model: a model folder or "hub:NAME".
        train: a file, list of dicts, `datasets.Dataset` or pandas frame.
        out: the folder to write; must be absent or empty.
        dev: rows for choosing the best weights; None: carved from `train`.
        device: auto, cpu, cuda, mps.
        threads: of the processor; None: what affinity and quota allow.
        allow_pickle: convert a model of pickles once, in a child process.
        **settings: fields of `FinetuneRecipe` (epochs, learning_rate, seed, …), and
            `text_column`, `label_column`.

    Raises:
        PotstillError: in one line, see `potstill.errors`.
    """
    require_torch("fine-tuning")
    from potstill.data.columns import Columns
    from potstill.workflows.finetune import FinetuneRecipe, Inputs
    from potstill.workflows.finetune import finetune as run_finetune

    columns = {ours: settings.pop(name) for name, ours in _COLUMNS.items() if name in settings}
    recipe = with_settings(FinetuneRecipe(), settings, where="potstill.finetune")
    inputs = Inputs(
        model=model, train=train, dev=dev, allow_pickle=allow_pickle, columns=Columns(**columns)
    )
    return run_finetune(inputs, recipe, out=Path(out), device=device, threads=threads)
