"""`potstill finetune`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from potstill.cli import flags
from potstill.cli.columns import columns_named, given_columns
from potstill.cli.corpus_inputs import corpus_sources
from potstill.cli.unfit import require_none
from potstill.errors import InputError

if TYPE_CHECKING:
    from potstill.report import Report
    from potstill.workflows.passages import CorpusSources

_MASKED_LM = "masked-lm"


def finetune(  # noqa: PLR0913 - a verb's flags are its parameters
    model: Annotated[str, typer.Option("--model", help="Pre-trained model: folder or hub:NAME.")],
    train: flags.TrainFiles,
    out: flags.Out,
    *,
    task: Annotated[
        str | None, typer.Option(help="classification (default), multi-label, masked-lm, …")
    ] = None,
    dev: flags.Dev = None,
    text_column: flags.TextColumn = "text",
    text_pair_column: flags.TextPairColumn = "text_pair",
    label_column: flags.LabelColumn = "label",
    tokens_column: flags.TokensColumn = "tokens",
    tags_column: flags.TagsColumn = "tags",
    pooling: Annotated[
        str | None, typer.Option(help="What the classifier reads: first ([CLS]) or mean.")
    ] = None,
    primary: flags.Primary = None,
    evaluation: flags.Evaluation = None,
    probes: flags.Probes = None,
    corpus_folder: flags.CorpusFolder = None,
    epochs: flags.Epochs = None,
    learning_rate: flags.LearningRate = None,
    max_length: flags.TrainedLength = None,
    long_texts: flags.LongTexts = None,
    batch_tokens: flags.BatchTokens = None,
    recipe: flags.FinetuneRecipeName = None,
    settings: flags.Settings = None,
    seed: flags.Seed = None,
    threads: flags.Threads = None,
    device: flags.Device = "auto",
    tensorboard: flags.TensorBoard = None,
    allow_pickle: flags.AllowPickle = False,
    json: flags.Json = False,
) -> None:
    """Fine-tune a model."""
    from potstill.workflows.requirements import require_torch

    require_torch("fine-tuning")
    from potstill.cli.progress import is_main_process, listeners
    from potstill.cli.recipes import asked_recipe
    from potstill.cli.render import print_json, print_report
    from potstill.tasks.task_names import task_named

    kind = task_named(task or "classification")
    of_rows = {"dev": dev, "pooling": pooling, "primary": primary, "long_texts": long_texts}
    of_texts: dict[str, Any] = {"evaluation": evaluation, "probe": probes}
    of_texts["corpus_folder"] = corpus_folder
    names = (text_pair_column, label_column, tokens_column, tags_column)
    unfit = {**of_rows, **given_columns(*names)} if kind == _MASKED_LM else of_texts
    require_none(unfit, f"the task {kind}")
    flagged: dict[str, Any] = {
        "epochs": epochs,
        "learning_rate": learning_rate,
        "max_length": max_length,
    }
    flagged |= {"batch_tokens": batch_tokens, "seed": seed}
    how = {"device": device, "threads": threads, "listeners": listeners(tensorboard)}
    if kind == _MASKED_LM:
        asked = partial(asked_recipe, recipe=recipe, flagged=flagged, words=settings)
        sources = corpus_sources(train, text_column=text_column, **of_texts)
        report = _train_on_texts(asked, model, sources, out, allow_pickle=allow_pickle, **how)
    else:
        flagged |= {name: value for name, value in of_rows.items() if name != "dev"}
        flagged["task"] = None if task is None else kind
        asked = partial(asked_recipe, recipe=recipe, flagged=flagged, words=settings)
        columns = columns_named(text_column, *names)
        rows = {"train": _one(train), "dev": dev, "columns": columns}
        report = _train_on_rows(asked, model, rows, out, allow_pickle=allow_pickle, **how)
    if not is_main_process():
        return
    if json:
        print_json(report.to_json())
    else:
        print_report(report)


def _train_on_rows(
    asked: Callable[..., Any],
    model: str,
    rows: Mapping[str, Any],
    out: Path,
    *,
    allow_pickle: bool,
    **how: Any,
) -> Report:
    """Tune a model on rows of which the truth is known."""
    from potstill.workflows.finetune import FinetuneRecipe, Inputs, named_recipe
    from potstill.workflows.finetune import finetune as run

    inputs = Inputs(model=model, allow_pickle=allow_pickle, **rows)
    return run(inputs, asked(FinetuneRecipe(), named=named_recipe), out=out, **how)


def _train_on_texts(
    asked: Callable[..., Any],
    model: str,
    sources: CorpusSources,
    out: Path,
    *,
    allow_pickle: bool,
    **how: Any,
) -> Report:
    """Train a model to guess hidden tokens of texts."""
    from potstill.workflows.corpus_recipe import require_meant
    from potstill.workflows.masked_lm import (
        MaskedLMInputs,
        MaskedLMRecipe,
        named_recipe,
        train_masked_lm,
    )

    inputs = MaskedLMInputs(model=model, corpus=sources, allow_pickle=allow_pickle)
    recipe = asked(MaskedLMRecipe(), named=named_recipe, check=require_meant)
    return train_masked_lm(inputs, recipe, out=out, **how)


def _one(files: list[str]) -> str:
    if len(files) > 1:
        raise InputError(
            f"there are {len(files)} files of rows",
            where="--train",
            allowed=f"one; several with --task {_MASKED_LM}",
        )
    return files[0]
