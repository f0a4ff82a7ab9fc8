"""`potstill shrink`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from potstill.cli import flags
from potstill.cli.columns import columns_named

if TYPE_CHECKING:
    from potstill.workflows.shrink_recipe import Run


def shrink(  # noqa: PLR0913 - a verb's flags are its parameters
    teacher: Annotated[
        str, typer.Option("--teacher", help="Tuned or pre-trained model: folder or hub:NAME.")
    ],
    train: flags.Train,
    test: flags.Test,
    out: flags.Out,
    *,
    task: flags.ShrunkTask = None,
    dev: flags.Dev = None,
    unlabelled: flags.Unlabelled = None,
    layers: flags.Layers = None,
    choose: flags.Choose = None,
    keep: flags.Keep = None,
    control: flags.ControlToo = False,
    pretrained: flags.Pretrained = None,
    floor: flags.Floor = None,
    accept: flags.Accept = None,
    quantize: flags.Quantize = None,
    quantize_floor: flags.QuantizeFloor = None,
    tune: flags.TuneStudent = False,
    plan: flags.PlanAlone = False,
    primary: flags.Primary = None,
    epochs: flags.Epochs = None,
    learning_rate: flags.LearningRate = None,
    max_length: flags.MaxLength = None,
    text_column: flags.TextColumn = "text",
    text_pair_column: flags.TextPairColumn = "text_pair",
    label_column: flags.LabelColumn = "label",
    tokens_column: flags.TokensColumn = "tokens",
    tags_column: flags.TagsColumn = "tags",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Field of the student's recipe, or teacher.FIELD: name=value."),
    ] = None,
    seed: flags.Seed = None,
    threads: flags.Threads = None,
    device: flags.Device = "auto",
    allow_pickle: flags.AllowPickle = False,
    json: flags.Json = False,
) -> None:
    """Shrink a model and prove it."""
    from potstill.workflows.requirements import require_torch

    require_torch("shrinking")
    from potstill.cli.recipes import asked_settings
    from potstill.cli.render_training import print_plan, print_shrink, require_gates
    from potstill.workflows.shrink import plan_shrink
    from potstill.workflows.shrink import shrink as run
    from potstill.workflows.shrink_recipe import ShrinkInputs, quantizing, shrink_recipe

    cut = {"layers": layers, "choose": choose, "keep": keep}
    learn = {"epochs": epochs, "learning_rate": learning_rate, "max_length": max_length}
    flagged = {**cut, **learn, "primary": primary, "seed": seed}
    recipe = shrink_recipe(asked_settings(flagged, settings))
    inputs = ShrinkInputs(
        teacher=teacher,
        train=train,
        test=test,
        dev=dev,
        unlabelled=unlabelled,
        control=control,
        pretrained=pretrained,
        task=task,
        floor=floor,
        accept=accept,
        quantize=quantizing(quantize, quantize_floor),
        tune=tune,
        allow_pickle=allow_pickle,
        columns=columns_named(
            text_column, text_pair_column, label_column, tokens_column, tags_column
        ),
    )
    if plan:
        print_plan(plan_shrink(inputs, recipe, out=out).steps)
        return
    report = run(inputs, recipe, out=out, run=_told(device, threads))
    print_shrink(report, as_json=json)
    require_gates(report, accept=accept)


def _told(device: str, threads: int | None) -> Run:
    """Return how the work is run: its plan and progress go to standard error."""
    from potstill.cli.progress import progress_listener
    from potstill.cli.render import print_progress
    from potstill.workflows.shrink_recipe import Run

    return Run(
        device=device,
        threads=threads,
        listeners=(progress_listener(),),
        tell=lambda line: print_progress(line, stays=True),
    )
