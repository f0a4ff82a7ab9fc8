"""`potstill forecast`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from potstill.cli import flags
from potstill.cli.corpus_inputs import corpus_sources, general_inputs
from potstill.cli.unfit import require_none
from potstill.errors import InputError

if TYPE_CHECKING:
    from potstill.workflows.forecast import Forecast
    from potstill.workflows.passages import CorpusSources


def forecast(  # noqa: PLR0913 - a verb's flags are its parameters
    corpus: Annotated[
        list[str],
        typer.Option(help="Texts, or a folder built of them; may be repeated."),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder that the run will write; its corpus is built beside it.")
    ],
    *,
    teacher: Annotated[
        str | None, typer.Option(help="Model with a masked-LM head: the run is distill --corpus.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Model that is trained: the run is finetune --task masked-lm."),
    ] = None,
    layers: flags.Layers = None,
    choose: flags.Choose = None,
    keep: flags.Keep = None,
    architecture: flags.Architecture = None,
    temperature: flags.Temperature = None,
    evaluation: flags.Evaluation = None,
    probes: flags.Probes = None,
    corpus_folder: flags.CorpusFolder = None,
    epochs: flags.Epochs = None,
    learning_rate: flags.LearningRate = None,
    max_length: flags.TrainedLength = None,
    batch_tokens: flags.BatchTokens = None,
    text_column: flags.TextColumn = "text",
    recipe: flags.ForecastRecipeName = None,
    settings: flags.Settings = None,
    seconds: Annotated[float, typer.Option(help="Of steps to be measured.")] = 30.0,
    price_per_hour: Annotated[
        float | None, typer.Option(help="Of this machine, in any currency.")
    ] = None,
    seed: flags.Seed = None,
    threads: flags.Threads = None,
    device: flags.Device = "auto",
    allow_pickle: flags.AllowPickle = False,
    json: flags.Json = False,
) -> None:
    """Measure a few steps of a run and say what all of it will take.

    Flags are those of the run; what has no flag here is --set name=value.
    """
    from potstill.workflows.requirements import require_torch

    require_torch("a forecast")
    from potstill.cli.progress import is_main_process, listeners
    from potstill.cli.recipes import asked_recipe
    from potstill.cli.render import print_json
    from potstill.workflows.forecast import ForecastOptions
    from potstill.workflows.forecast import forecast as measure

    options = ForecastOptions(seconds=seconds, price_per_hour=price_per_hour)
    flagged: dict[str, Any] = {"epochs": epochs, "max_length": max_length, "seed": seed}
    flagged |= {"batch_tokens": batch_tokens, "learning_rate": learning_rate}
    student: dict[str, Any] = {"layers": layers, "choose": choose, "keep": keep}
    student |= {"architecture": architecture, "temperature": temperature}
    texts: dict[str, Any] = {"evaluation": evaluation, "probe": probes}
    texts |= {"corpus_folder": corpus_folder, "text_column": text_column}
    sources = corpus_sources(corpus, **texts)
    asked = partial(asked_recipe, recipe=recipe, words=settings)
    _require_one_run(teacher, model)
    if teacher is not None:
        asked = partial(asked, flagged={**flagged, **student})
        inputs, chosen = _of_teacher(teacher, sources, asked, allow_pickle)
    else:
        require_none(student, "the task masked-lm")
        asked = partial(asked, flagged=flagged)
        inputs, chosen = _of_model(str(model), sources, asked, allow_pickle)
    how: dict[str, Any] = {"device": device, "threads": threads, "listeners": listeners(None)}
    found = measure(inputs, chosen, options, out=out, **how)
    if not is_main_process():
        return
    if json:
        print_json(found.to_json())
    else:
        print_forecast(found)


def _require_one_run(teacher: str | None, model: str | None) -> None:
    if (teacher is None) == (model is None):
        raise InputError(
            "a forecast is of one run",
            where="--teacher, --model",
            allowed="one of the two",
            cure="--teacher for distill --corpus, --model for finetune --task masked-lm",
        )


def _of_teacher(
    teacher: str,
    sources: CorpusSources,
    asked: Callable[..., Any],
    allow_pickle: bool,  # noqa: FBT001 - handed on
) -> tuple[Any, Any]:
    from potstill.workflows.corpus_recipe import require_meant
    from potstill.workflows.general_recipe import GeneralRecipe, named_recipe

    inputs = general_inputs([teacher], sources, allow_pickle=allow_pickle)
    return inputs, asked(GeneralRecipe(), named=named_recipe, check=require_meant)


def _of_model(
    model: str,
    sources: CorpusSources,
    asked: Callable[..., Any],
    allow_pickle: bool,  # noqa: FBT001 - handed on
) -> tuple[Any, Any]:
    from potstill.workflows.corpus_recipe import require_meant
    from potstill.workflows.masked_lm import MaskedLMInputs, MaskedLMRecipe, named_recipe

    inputs = MaskedLMInputs(model=model, corpus=sources, allow_pickle=allow_pickle)
    return inputs, asked(MaskedLMRecipe(), named=named_recipe, check=require_meant)


def print_forecast(found: Forecast) -> None:
    """Print time, memory, disk and price."""
    from potstill.cli.render import print_facts, print_line
    from potstill.train.progress import clock

    facts = {
        "training": f"{clock(found.seconds)} ({found.hours:.2f} h)",
        "steps": f"{found.steps:,}",
        "tokens": f"{found.tokens:,}",
        "tokens/s": f"{found.tokens_per_second:,.0f}",
        "memory at its peak": f"{found.peak_bytes / 2**30:.2f} GiB"
        + (f" in each of {found.processes} processes" if found.processes > 1 else ""),
        "disk for checkpoints": f"{found.disk_bytes / 2**30:.2f} GiB",
        "corpus": found.corpus,
    }
    if found.measured["storing_seconds"]:
        facts["of it the teacher"] = clock(found.measured["storing_seconds"])
    if found.price is not None:
        facts["price"] = f"{found.price:,.2f}"
    print_facts(facts)
    measured = found.measured
    print_line(
        f"Reckoned from {measured['steps']:,.0f} steps in {measured['seconds']:.1f} s, on this "
        "machine as busy as it was; loading the model is not counted."
    )
