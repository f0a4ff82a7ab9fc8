"""`potstill distill`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from potstill.cli import flags
from potstill.cli.columns import columns_named

if TYPE_CHECKING:
    from potstill.workflows.foreign_teaching import GivenSources


def distill(  # noqa: PLR0913 - a verb's flags are its parameters
    out: flags.Out,
    *,
    teacher: Annotated[
        list[str] | None,
        typer.Option("--teacher", help="Tuned teacher; give several and they are averaged."),
    ] = None,
    foreign_teacher: flags.ForeignTeacher = None,
    teacher_answers: flags.TeacherAnswers = None,
    student: flags.Student = None,
    task: flags.Task = None,
    train: Annotated[str | None, typer.Option(help="Labelled rows.")] = None,
    dev: flags.Dev = None,
    unlabelled: flags.Unlabelled = None,
    augment_with: Annotated[
        str | None, typer.Option(help="Model with a masked-LM head: makes more texts.")
    ] = None,
    layers: flags.Layers = None,
    choose: flags.Choose = None,
    keep: flags.Keep = None,
    architecture: flags.Architecture = None,
    control: Annotated[
        str | None,
        typer.Option(help="Train a control too: pretrained, tuned, or cut (untaught)."),
    ] = None,
    pretrained: flags.Pretrained = None,
    temperature: flags.Temperature = None,
    primary: flags.Primary = None,
    epochs: flags.Epochs = None,
    learning_rate: flags.LearningRate = None,
    max_length: flags.MaxLength = None,
    batch_tokens: flags.BatchTokens = None,
    text_column: flags.TextColumn = "text",
    text_pair_column: flags.TextPairColumn = "text_pair",
    label_column: flags.LabelColumn = "label",
    tokens_column: flags.TokensColumn = "tokens",
    tags_column: flags.TagsColumn = "tags",
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
    from potstill.cli.render_training import print_distillation
    from potstill.workflows.distill import DistillInputs
    from potstill.workflows.distill import distill as run
    from potstill.workflows.distill_recipe import DistillRecipe, named_recipe

    cut = {"layers": layers, "choose": choose, "keep": keep, "architecture": architecture}
    learn = {"temperature": temperature, "epochs": epochs, "learning_rate": learning_rate}
    more = {"primary": primary, "max_length": max_length, "batch_tokens": batch_tokens}
    flagged = {**cut, **learn, **more, "seed": seed}
    asked = asked_recipe(DistillRecipe(), recipe, flagged, settings, named=named_recipe)
    inputs = DistillInputs(
        teachers=teacher or [],
        given=_given(student, task, foreign_teacher, teacher_answers),
        train=train,
        dev=dev,
        unlabelled=unlabelled,
        augmenter=augment_with,
        control=control,
        pretrained=pretrained,
        allow_pickle=allow_pickle,
        columns=columns_named(
            text_column, text_pair_column, label_column, tokens_column, tags_column
        ),
    )
    listeners = (progress_listener(),)
    report = run(inputs, asked, out=out, device=device, threads=threads, listeners=listeners)
    if is_main_process():
        print_distillation(report, as_json=json)


def _given(
    student: str | None, task: str | None, foreign: str | None, answers: list[str] | None
) -> GivenSources:
    """Return what is known of a teacher that is not run here."""
    from potstill.tasks.task_names import task_named
    from potstill.workflows.foreign_teaching import GivenSources

    kind = task_named(task or "classification")
    return GivenSources(student=student, task=kind, foreign=foreign, answers=answers or ())
