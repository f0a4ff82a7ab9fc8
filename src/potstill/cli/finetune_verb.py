"""`potstill finetune`."""

from __future__ import annotations

from typing import Annotated

import typer

from potstill.cli import flags
from potstill.cli.columns import columns_named


def finetune(  # noqa: PLR0913 - a verb's flags are its parameters
    model: Annotated[str, typer.Option("--model", help="Pre-trained model: folder or hub:NAME.")],
    train: flags.Train,
    out: flags.Out,
    *,
    task: Annotated[
        str | None, typer.Option(help="classification (default), multi-label, regression, …")
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
    epochs: flags.Epochs = None,
    learning_rate: flags.LearningRate = None,
    max_length: flags.MaxLength = None,
    long_texts: flags.LongTexts = None,
    batch_tokens: flags.BatchTokens = None,
    recipe: flags.RecipeName = None,
    settings: flags.Settings = None,
    seed: flags.Seed = None,
    threads: flags.Threads = None,
    device: flags.Device = "auto",
    allow_pickle: flags.AllowPickle = False,
    json: flags.Json = False,
) -> None:
    """Fine-tune a model."""
    from potstill.workflows.requirements import require_torch

    require_torch("fine-tuning")
    from potstill.cli.progress import is_main_process, progress_listener
    from potstill.cli.recipes import asked_recipe
    from potstill.cli.render import print_json, print_report
    from potstill.tasks.task_names import task_named
    from potstill.workflows.finetune import FinetuneRecipe, Inputs, named_recipe
    from potstill.workflows.finetune import finetune as run

    flagged = {
        "task": None if task is None else task_named(task),
        "pooling": pooling,
        "primary": primary,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "max_length": max_length,
        "long_texts": long_texts,
        "batch_tokens": batch_tokens,
        "seed": seed,
    }
    asked = asked_recipe(FinetuneRecipe(), recipe, flagged, settings, named=named_recipe)
    columns = columns_named(text_column, text_pair_column, label_column, tokens_column, tags_column)
    report = run(
        Inputs(model=model, train=train, dev=dev, columns=columns, allow_pickle=allow_pickle),
        asked,
        out=out,
        device=device,
        threads=threads,
        listeners=(progress_listener(),),
    )
    if not is_main_process():
        return
    if json:
        print_json(report.to_json())
    else:
        print_report(report)
