"""`potstill distill`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.cli import flags
from potstill.cli.columns import columns_named, given_columns
from potstill.cli.corpus_inputs import corpus_sources, general_inputs
from potstill.cli.unfit import require_none

if TYPE_CHECKING:
    from potstill.report import Report
    from potstill.workflows.foreign_teaching import GivenSources
    from potstill.workflows.general_distill import GeneralInputs


def distill(  # noqa: PLR0913 - a verb's flags are its parameters
    out: flags.Out,
    *,
    teacher: flags.Teachers = None,
    foreign_teacher: flags.ForeignTeacher = None,
    teacher_answers: flags.TeacherAnswers = None,
    student: flags.Student = None,
    task: flags.Task = None,
    train: flags.LabelledRows = None,
    dev: flags.Dev = None,
    unlabelled: flags.Unlabelled = None,
    augment_with: flags.AugmentWith = None,
    layers: flags.Layers = None,
    choose: flags.Choose = None,
    keep: flags.Keep = None,
    architecture: flags.Architecture = None,
    corpus: flags.Corpus = None,
    evaluation: flags.Evaluation = None,
    probes: flags.Probes = None,
    corpus_folder: flags.CorpusFolder = None,
    signals_folder: flags.SignalsFolder = None,
    control: flags.Control = None,
    pretrained: flags.Pretrained = None,
    temperature: flags.Temperature = None,
    primary: flags.Primary = None,
    epochs: flags.Epochs = None,
    learning_rate: flags.LearningRate = None,
    max_length: flags.TrainedLength = None,
    batch_tokens: flags.BatchTokens = None,
    text_column: flags.TextColumn = "text",
    text_pair_column: flags.TextPairColumn = "text_pair",
    label_column: flags.LabelColumn = "label",
    tokens_column: flags.TokensColumn = "tokens",
    tags_column: flags.TagsColumn = "tags",
    recipe: flags.DistillRecipeName = None,
    settings: flags.Settings = None,
    seed: flags.Seed = None,
    threads: flags.Threads = None,
    device: flags.Device = "auto",
    tensorboard: flags.TensorBoard = None,
    allow_pickle: flags.AllowPickle = False,
    json: flags.Json = False,
) -> None:
    """Distil a teacher."""
    from potstill.workflows.requirements import require_torch

    require_torch("distilling")
    from potstill.cli.progress import is_main_process, listeners
    from potstill.cli.recipes import asked_recipe
    from potstill.cli.render_training import print_distillation

    cut = {"layers": layers, "choose": choose, "keep": keep, "architecture": architecture}
    learn = {"temperature": temperature, "epochs": epochs, "learning_rate": learning_rate}
    more = {"max_length": max_length, "batch_tokens": batch_tokens, "seed": seed}
    flagged: dict[str, Any] = {**cut, **learn, **more}
    sets = {"train": train, "dev": dev, "unlabelled": unlabelled, "augment_with": augment_with}
    aims = {"control": control, "pretrained": pretrained, "primary": primary}
    rows: dict[str, Any] = {**sets, **aims}
    given: dict[str, Any] = {"student": student, "foreign_teacher": foreign_teacher}
    given["teacher_answers"] = teacher_answers
    texts: dict[str, Any] = {"evaluation": evaluation, "probe": probes}
    texts["corpus_folder"] = corpus_folder
    how = {"device": device, "threads": threads, "listeners": listeners(tensorboard)}
    asked = partial(asked_recipe, recipe=recipe, words=settings)
    columns = (text_pair_column, label_column, tokens_column, tags_column)
    if corpus is not None:
        unfit = given_columns(*columns)
        unfit["task"] = None if task == "masked-lm" else task
        require_none({**rows, **given, **unfit}, "general distillation (--corpus)")
        sources = corpus_sources(corpus, text_column=text_column, **texts)
        heard = general_inputs(teacher or [], sources, signals_folder, allow_pickle=allow_pickle)
        report = _on_corpus(heard, partial(asked, flagged=flagged), out, how)
    else:
        texts["signals_folder"] = signals_folder
        require_none(texts, "task distillation (without --corpus)")
        rows |= {"columns": columns_named(text_column, *columns), "allow_pickle": allow_pickle}
        asked = partial(asked, flagged={**flagged, "primary": rows.pop("primary")})
        report = _on_rows(teacher or [], rows, {**given, "task": task}, asked, out, how)
    if is_main_process():
        print_distillation(report, as_json=json)


def _on_rows(
    teachers: list[str],
    inputs: dict[str, Any],
    given: dict[str, Any],
    asked: Callable[..., Any],
    out: Path,
    how: dict[str, Any],
) -> Report:
    """Teach a student the task of its teacher."""
    from potstill.workflows.distill import DistillInputs, distill
    from potstill.workflows.distill_recipe import DistillRecipe, named_recipe

    augmenter = inputs.pop("augment_with")
    sources = DistillInputs(teachers=teachers, augmenter=augmenter, given=_given(**given), **inputs)
    return distill(sources, asked(DistillRecipe(), named=named_recipe), out=out, **how)


def _on_corpus(
    inputs: GeneralInputs, asked: Callable[..., Any], out: Path, how: dict[str, Any]
) -> Report:
    """Teach a student on text alone."""
    from potstill.workflows.corpus_recipe import require_meant
    from potstill.workflows.general_distill import distill_general
    from potstill.workflows.general_recipe import GeneralRecipe, named_recipe

    recipe = asked(GeneralRecipe(), named=named_recipe, check=require_meant)
    return distill_general(inputs, recipe, out=out, **how)


def _given(
    student: str | None,
    task: str | None,
    foreign_teacher: str | None,
    teacher_answers: list[str] | None,
) -> GivenSources:
    """Return what is known of a teacher that is not run here."""
    from potstill.tasks.task_names import task_named
    from potstill.workflows.foreign_teaching import GivenSources

    kind = task_named(task or "classification")
    return GivenSources(
        student=student, task=kind, foreign=foreign_teacher, answers=teacher_answers or ()
    )
