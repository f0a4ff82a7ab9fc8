"""`potstill distill`."""

from __future__ import annotations

from typing import Annotated

import typer

from potstill.cli import flags


def distill(  # noqa: PLR0913 - a verb's flags are its parameters
    teacher: Annotated[
        list[str],
        typer.Option("--teacher", help="Tuned teacher; give several and they are averaged."),
    ],
    out: flags.Out,
    *,
    train: Annotated[str | None, typer.Option(help="Labelled rows.")] = None,
    dev: flags.Dev = None,
    unlabelled: Annotated[
        str | None, typer.Option(help="Texts of the same kind, for the teacher to label.")
    ] = None,
    layers: Annotated[
        int | None, typer.Option(help="Layers of the student; default: half.", min=1)
    ] = None,
    choose: Annotated[
        str | None, typer.Option(help="Which layers: even, distilbert, bottom, top, search.")
    ] = None,
    keep: Annotated[
        str | None, typer.Option(help="Teacher layers by number, from 0: 0,2,4.")
    ] = None,
    architecture: Annotated[
        str | None, typer.Option(help="Of the student: auto, teacher, distilbert.")
    ] = None,
    control: Annotated[
        str | None,
        typer.Option(help="Train a control too: pretrained, or tuned (the ablation)."),
    ] = None,
    pretrained: Annotated[
        str | None, typer.Option(help="Model that the teacher was tuned from, for --control.")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="Of the soft targets; above 0.")] = None,
    primary: flags.Primary = None,
    epochs: flags.Epochs = None,
    learning_rate: flags.LearningRate = None,
    max_length: flags.MaxLength = None,
    batch_tokens: flags.BatchTokens = None,
    text_column: flags.TextColumn = "text",
    label_column: flags.LabelColumn = "label",
    recipe: flags.RecipeName = None,
    settings: flags.Settings = None,
    seed: flags.Seed = None,
    threads: flags.Threads = None,
    device: flags.Device = "auto",
    allow_pickle: flags.AllowPickle = False,
    json: flags.Json = False,
) -> None:
    """Distil a teacher."""
    from potstill.workflows.requirements import require_torch

    require_torch("distilling")
    from potstill.cli.progress import is_main_process, progress_listener
    from potstill.cli.recipes import asked_recipe
    from potstill.cli.render import print_json
    from potstill.cli.render_training import print_distillation
    from potstill.data.columns import Columns
    from potstill.workflows.distill import DistillInputs, DistillRecipe, named_recipe
    from potstill.workflows.distill import distill as run

    flagged = {
        "layers": layers,
        "choose": choose,
        "keep": keep,
        "architecture": architecture,
        "temperature": temperature,
        "primary": primary,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "max_length": max_length,
        "batch_tokens": batch_tokens,
        "seed": seed,
    }
    asked = asked_recipe(DistillRecipe(), recipe, flagged, settings, named=named_recipe)
    inputs = DistillInputs(
        teachers=teacher,
        train=train,
        dev=dev,
        unlabelled=unlabelled,
        control=control,
        pretrained=pretrained,
        allow_pickle=allow_pickle,
        columns=Columns(text=text_column, label=label_column),
    )
    listeners = (progress_listener(),)
    report = run(inputs, asked, out=out, device=device, threads=threads, listeners=listeners)
    if not is_main_process():
        return
    if json:
        print_json(report.to_json())
    else:
        print_distillation(report)
