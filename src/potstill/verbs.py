"""The verbs as library calls: keyword arguments in, the same reports as the command line out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from potstill.errors import InputError, RecipeError
from potstill.recipe import with_settings
from potstill.report import Report
from potstill.workflows.requirements import require_torch

if TYPE_CHECKING:
    from potstill.workflows.comparison import Comparison
    from potstill.workflows.evaluate import EvaluatedModel
    from potstill.workflows.forecast import Forecast

Asked = TypeVar("Asked")

_COLUMNS = {f"{name}_column": name for name in ("text", "text_pair", "label", "tokens", "tags")}


def info(model: str | Path, *, allow_pickle: bool = False) -> dict[str, Any]:
    """Describe a model folder or hub name: the object that `potstill info --json` prints.

    Returns:
        `architecture`, `task`, `labels`, `parameters`, `size_bytes`, `fingerprint`, `engine` and
        more, each a plain value.

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

    Returns:
        What was measured of each model (`models`), how each differs from the baseline, and
        warnings; `to_json()` gives the object that `--json` prints.

    Raises:
        PotstillError: in one line, see `potstill.errors`.
    """
    from potstill.workflows.compare import CompareOptions
    from potstill.workflows.compare import compare as run_compare

    asked = _asked(
        CompareOptions,
        options,
        baseline=None if baseline is None else str(baseline),
        test=test,
        html=None if html is None else Path(html),
        flips=None if flips is None else Path(flips),
    )
    return run_compare(models, asked)


def evaluate(model: str | Path, test: Any, **options: Any) -> EvaluatedModel:
    """Judge a model on labelled rows: metrics with intervals, the majority answer, each class.

    Args:
        model: a model folder or "hub:NAME".
        test: a file, list of dicts, `datasets.Dataset` or pandas frame.
        **options: fields of `EvaluateOptions` (primary, max_length, precision, threads, seed, …),
            and `text_column`, `label_column` and their like.

    Returns:
        Each metric with its 95 % interval, the trivial answer's, and each class; `to_json()` gives
        the object that `--json` prints.

    Raises:
        PotstillError: in one line, see `potstill.errors`.
    """
    from potstill.workflows.evaluate import EvaluateOptions
    from potstill.workflows.evaluate import evaluate as run_evaluate

    return run_evaluate(model, test, _asked(EvaluateOptions, options))


def quantize(model: str | Path, out: str | Path, **options: Any) -> Report:
    """Write a bundle whose numbers are smaller, behind a gate where `dev` and `floor` are given.

    Args:
        model: a model folder with weights, or "hub:NAME".
        out: an absent or empty folder.
        **options: fields of `QuantizeOptions` (engine, precision, processor, calibration, dev,
            floor, test, tune, …), and `text_column`, `label_column` and their like. Rows as in
            `evaluate`.

    Returns:
        The bundle; `gate` is what the gate found (outcome, value, low, high), None without one;
        `details["speed"]` how fast it is here beside its source, None with `tune=False`.

    Raises:
        PotstillError: in one line, see `potstill.errors`.
    """
    from potstill.workflows.quantize import QuantizeOptions
    from potstill.workflows.quantize import quantize as run_quantize

    return run_quantize(model, Path(out), _asked(QuantizeOptions, options))


def export(model: str | Path, out: str | Path, **options: Any) -> Report:
    """Write a model as files that other runtimes load, checked against the source.

    Args:
        model: a model folder with weights, or "hub:NAME".
        out: an absent or empty folder.
        **options: fields of `ExportOptions` (format, quantized, check, text_column).

    Returns:
        The folder; `details` holds the files, and how far their numbers lie from the source's.

    Raises:
        PotstillError: in one line, see `potstill.errors`.
    """
    from potstill.workflows.export import ExportOptions
    from potstill.workflows.export import export as run_export

    return run_export(model, Path(out), _asked(ExportOptions, options))


def tune(model: str | Path, **options: Any) -> dict[str, Any]:
    """Measure engines, precisions, row sizes and threads here; store the choice in potstill.json.

    Args:
        model: a model folder.
        **options: fields of `TuneOptions` (goal, source, text_column, threads).

    Returns:
        `chosen` (what is stored: engine, precision, threads, row sizes), and all that was
        `measured`, fastest first, on so many `texts` of so many `tokens`.

    Raises:
        PotstillError: in one line, see `potstill.errors`.
    """
    from potstill.workflows.tune import TuneOptions
    from potstill.workflows.tune import tune as run_tune

    return run_tune(model, _asked(TuneOptions, options))


def _asked(kind: Callable[..., Asked], options: dict[str, Any], **named: Any) -> Asked:
    """Return options as the workflow's object; where it has columns, they are named one by one."""
    known = {field.name for field in fields(kind)} - set(named)  # type: ignore[arg-type]
    if "columns" in known:
        from potstill.data.columns import Columns

        known -= {"columns"}
        columns = {ours: options.pop(name) for name, ours in _COLUMNS.items() if name in options}
        named = {**named, "columns": Columns(**columns)}
    for name in options.keys() - known:
        raise RecipeError(f"there is no option {name!r}", allowed=", ".join(sorted(known)))
    return kind(**named, **options)


def finetune(  # noqa: PLR0913 - the choices of one run, all by name
    model: str | Path,
    train: Any,
    out: str | Path,
    *,
    dev: Any = None,
    evaluation: Sequence[Any] = (),
    probes: Sequence[Any] = (),
    corpus_folder: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    allow_pickle: bool = False,
    **settings: Any,
) -> Report:
    """Fine-tune a pre-trained model and write it as a bundle.

    Args:
        model: a model folder or "hub:NAME".
        train: a file, list of dicts, `datasets.Dataset` or pandas frame; for the task masked-lm a
            file of texts, a list of such files, or a folder of a corpus.
        out: the folder to write; must be absent or empty.
        dev: rows for choosing the best weights; None: carved from `train`.
        evaluation: of masked-lm: documents that hold texts of these rows are left out.
        probes: of masked-lm: labelled rows, on which the model is probed on the way.
        corpus_folder: of masked-lm: where the corpus is kept; None: beside `out`.
        device: auto, cpu, cuda, mps.
        threads: of the processor; None: what affinity and quota allow.
        allow_pickle: convert a model of pickles once, in a child process.
        **settings: fields of `FinetuneRecipe`, or of `MaskedLMRecipe` (epochs, learning_rate,
            seed, …), and `text_column`, `label_column` and their like.

    Returns:
        The bundle; `metrics` are those of the dev rows with the weights that are kept, of
        masked-lm those of held-out text (loss in nats a token, perplexity).

    Raises:
        PotstillError: in one line, see `potstill.errors`.
    """
    require_torch("fine-tuning")
    from potstill.data.columns import Columns
    from potstill.tasks.task_names import task_named
    from potstill.workflows.finetune import FinetuneRecipe, Inputs
    from potstill.workflows.finetune import finetune as run_finetune

    columns = {ours: settings.pop(name) for name, ours in _COLUMNS.items() if name in settings}
    if "task" in settings:
        settings["task"] = task_named(settings["task"])
    if settings.get("task") == "masked-lm":
        from potstill.workflows.corpus_calls import corpus_sources, finetune_on_corpus

        sources = corpus_sources(train, (evaluation, probes), corpus_folder, columns)
        how = {"device": device, "threads": threads, "allow_pickle": allow_pickle}
        return finetune_on_corpus(model, sources, settings, Path(out), how)
    recipe = with_settings(FinetuneRecipe(), settings, where="potstill.finetune")
    inputs = Inputs(
        model=model, train=train, dev=dev, allow_pickle=allow_pickle, columns=Columns(**columns)
    )
    return run_finetune(inputs, recipe, out=Path(out), device=device, threads=threads)


def _distill_task(
    teacher: str | Path | Sequence[str | Path],
    rows: dict[str, Any],
    given: dict[str, Any],
    settings: dict[str, Any],
    out: Path,
    how: dict[str, Any],
) -> Report:
    from potstill.data.columns import Columns
    from potstill.tasks.task_names import task_named
    from potstill.workflows.distill import DistillInputs
    from potstill.workflows.distill import distill as run_distill
    from potstill.workflows.distill_recipe import DistillRecipe
    from potstill.workflows.foreign_teaching import GivenSources

    recipe = with_settings(DistillRecipe(), settings, where="potstill.distill")
    given |= {"task": task_named(given["task"]), "answers": given["answers"] or ()}
    inputs = DistillInputs(
        teachers=[teacher] if isinstance(teacher, str | Path) else list(teacher),
        given=GivenSources(**given),
        allow_pickle=how.pop("allow_pickle"),
        **rows | {"columns": Columns(**rows["columns"])},
    )
    return run_distill(inputs, recipe, out=out, **how)


def _require_nothing_of_tasks(values: dict[str, Any]) -> None:
    for name, value in values.items():
        if value is not None:
            raise InputError(f"{name} means nothing for a corpus", cure=f"leave {name} out")


def distill(  # noqa: PLR0913 - the choices of one run, all by name
    teacher: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    student: str | Path | None = None,
    foreign_teacher: str | Path | None = None,
    teacher_answers: Sequence[str | Path] = (),
    task: str = "classification",
    train: Any = None,
    dev: Any = None,
    unlabelled: Any = None,
    augment_with: str | Path | None = None,
    corpus: str | Path | Sequence[str | Path] = (),
    evaluation: Sequence[Any] = (),
    probes: Sequence[Any] = (),
    corpus_folder: str | Path | None = None,
    signals_folder: str | Path | None = None,
    control: str | None = None,
    pretrained: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    allow_pickle: bool = False,
    **settings: Any,
) -> Report:
    """Cut a student out of a teacher, teach it and write it as a bundle.

    With a corpus the teacher is a masked-LM model and so is the student (general distillation),
    else the teacher is a tuned one.

    Args:
        teacher: a tuned model; of several the first is cut, and their answers are averaged.
            Empty where `foreign_teacher` or `teacher_answers` speak.
        out: the folder to write; must be absent or empty.
        student: the pre-trained model that learns, instead of layers of the teacher; needed where
            the teacher is not run here.
        foreign_teacher: any transformers model.
        teacher_answers: files of its answers, for `train`, then for `unlabelled`.
        task: its kind of task; a teacher of ours tells its own.
        train: labelled rows; may be left out where `unlabelled` is given.
        dev: rows for choosing the best weights; None: carved from the training rows.
        unlabelled: texts of the same kind, of which the teacher speaks.
        augment_with: a model with a masked-LM head, which makes more of them.
        corpus: files of texts, or the folder of a corpus; nothing of the above goes with it.
        evaluation: documents of the corpus that hold texts of these rows are left out.
        probes: labelled rows, on which a student of a corpus is probed on the way.
        corpus_folder: where the corpus is kept; None: beside `out`.
        signals_folder: of a corpus: where a stored teacher is kept for other runs; None: not kept.
        control: "pretrained", "tuned", or of vectors "cut": also a control, written to
            `<out>-control`.
        pretrained: the model that the teacher was tuned from, for the control.
        device: auto, cpu, cuda, mps.
        threads: of the processor; None: what affinity and quota allow.
        allow_pickle: convert a model of pickles once, in a child process.
        **settings: fields of `DistillRecipe`, or of `GeneralRecipe` for a corpus (layers, choose,
            keep, temperature, epochs, …), and `text_column`, `label_column` and their like.

    Returns:
        The student's bundle; `metrics` as of `finetune`; `details` tells the layers that were
        kept, the control, and of a corpus the losses before the first step.

    Raises:
        PotstillError: in one line, see `potstill.errors`.
    """
    require_torch("distilling")
    columns = {ours: settings.pop(name) for name, ours in _COLUMNS.items() if name in settings}
    how: dict[str, Any] = {"device": device, "threads": threads, "allow_pickle": allow_pickle}
    rows: dict[str, Any] = {"train": train, "dev": dev, "unlabelled": unlabelled}
    rows |= {"augmenter": augment_with, "control": control, "pretrained": pretrained}
    given: dict[str, Any] = {"student": student, "foreign": foreign_teacher}
    given["answers"] = teacher_answers or None
    if corpus:
        kind = None if task in {"classification", "masked-lm"} else task
        _require_nothing_of_tasks({**rows, **given, "task": kind})
        from potstill.workflows.corpus_calls import corpus_sources, distill_on_corpus

        sources = corpus_sources(corpus, (evaluation, probes), corpus_folder, columns)
        how["signals_folder"] = None if signals_folder is None else Path(signals_folder)
        return distill_on_corpus(teacher, sources, settings, Path(out), how)
    rows["columns"], given["task"] = columns, task
    return _distill_task(teacher, rows, given, settings, Path(out), how)


def shrink(  # noqa: PLR0913 - the choices of one run, all by name
    teacher: str | Path,
    train: Any,
    test: Any,
    out: str | Path,
    *,
    dev: Any = None,
    unlabelled: Any = None,
    control: bool = False,
    pretrained: str | Path | None = None,
    task: str | None = None,
    floor: float | None = None,
    accept: str | None = None,
    quantize: str | None = None,
    quantize_floor: float | None = None,
    tune: bool = False,
    device: str = "auto",
    threads: int | None = None,
    allow_pickle: bool = False,
    **settings: Any,
) -> Report:
    """Tune the teacher if it has no head, search layers, distil, compare, write all of it.

    Args:
        teacher: a tuned model, or a pre-trained one.
        train: labelled rows.
        test: rows of the proof, checked at the start and answered once, after the last choice.
        out: the folder to write; must be absent or empty.
        dev: rows for every choice; None: carved from the training rows.
        unlabelled: texts of the same kind, of which the teacher speaks.
        control: also train the control, written to `<out>-control`.
        pretrained: the model that a tuned teacher was tuned from, for the control.
        task: kind of task; None: the teacher's, of a bare encoder classification.
        floor: least retention; `report.gate` tells whether it holds.
        accept: "point" takes an undecided gate of the quantized student by its value.
        quantize: also a quantized student, to `<out>-<quantize>`: int8, int8-weights, int4,
            bf16; `report.details["quantized"]` tells what became of it.
        quantize_floor: least that it keeps of the student on dev rows; None: 0.99, of int4 0.98.
        tune: measure engines too, and store the fastest in student and quantized student.
        device: auto, cpu, cuda, mps.
        threads: of the processor; None: what affinity and quota allow.
        allow_pickle: convert a model of pickles once, in a child process.
        **settings: fields of `DistillRecipe`; of the teacher's `FinetuneRecipe` in a dict
            `teacher_settings`; and `text_column`, `label_column` and their like.

    Returns:
        The student's bundle; `metrics` are those of the test rows, `gate` is what the floor came
        to, `details["report"]` is the page that was written.

    Raises:
        PotstillError: in one line, see `potstill.errors`.
    """
    require_torch("shrinking")
    from potstill.data.columns import Columns
    from potstill.workflows.shrink import shrink as run_shrink
    from potstill.workflows.shrink_recipe import Run, ShrinkInputs, quantizing, shrink_recipe

    columns = {ours: settings.pop(name) for name, ours in _COLUMNS.items() if name in settings}
    of_teacher = settings.pop("teacher_settings", {})
    named = {f"teacher.{name}": value for name, value in of_teacher.items()}
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
        columns=Columns(**columns),
    )
    recipe = shrink_recipe({**settings, **named}, where="potstill.shrink")
    return run_shrink(inputs, recipe, out=Path(out), run=Run(device=device, threads=threads))


def forecast(  # noqa: PLR0913 - the choices of one run, all by name
    out: str | Path,
    *,
    corpus: str | Path | Sequence[str | Path],
    teacher: str | Path | None = None,
    model: str | Path | None = None,
    evaluation: Sequence[Any] = (),
    probes: Sequence[Any] = (),
    corpus_folder: str | Path | None = None,
    seconds: float = 30.0,
    price_per_hour: float | None = None,
    device: str = "auto",
    threads: int | None = None,
    allow_pickle: bool = False,
    **settings: Any,
) -> Forecast:
    """Measure a few steps of a training on a corpus and say what all of it will take.

    Args:
        out: what the run will write; its corpus is built beside it, and nothing else.
        corpus: files of texts, or the folder of a corpus.
        teacher: of a general distillation.
        model: of a masked-LM training; one of the two is named.
        evaluation: documents that hold texts of these rows are left out.
        probes: labelled rows, on which the model is probed on the way.
        corpus_folder: where the corpus is kept; None: beside `out`.
        seconds: of steps to be measured.
        price_per_hour: of this machine.
        device: auto, cpu, cuda, mps.
        threads: of the processor; None: what affinity and quota allow.
        allow_pickle: convert a model of pickles once, in a child process.
        **settings: fields of `GeneralRecipe` or of `MaskedLMRecipe`, and `text_column`.

    Returns:
        Seconds, bytes of memory and disk, and the price of the whole run.

    Raises:
        PotstillError: in one line, see `potstill.errors`.
    """
    require_torch("a forecast")
    from potstill.workflows import forecast as forecasting
    from potstill.workflows.corpus_calls import corpus_sources
    from potstill.workflows.corpus_recipe import with_meant_settings
    from potstill.workflows.general_distill import GeneralInputs
    from potstill.workflows.general_recipe import GeneralRecipe
    from potstill.workflows.masked_lm import MaskedLMInputs, MaskedLMRecipe

    if (teacher is None) == (model is None):
        raise InputError("a forecast is of one run", allowed="a teacher, or a model")
    columns = {ours: settings.pop(name) for name, ours in _COLUMNS.items() if name in settings}
    sources = corpus_sources(corpus, (evaluation, probes), corpus_folder, columns)
    inputs: GeneralInputs | MaskedLMInputs
    usual: GeneralRecipe | MaskedLMRecipe
    if teacher is not None:
        inputs = GeneralInputs(teacher=teacher, corpus=sources, allow_pickle=allow_pickle)
        usual = GeneralRecipe()
    else:
        assert model is not None, "one of the two was checked above"
        inputs = MaskedLMInputs(model=model, corpus=sources, allow_pickle=allow_pickle)
        usual = MaskedLMRecipe()
    return forecasting.forecast(
        inputs,
        with_meant_settings(usual, settings, where="potstill.forecast"),
        forecasting.ForecastOptions(seconds=seconds, price_per_hour=price_per_hour),
        out=Path(out),
        device=device,
        threads=threads,
    )
