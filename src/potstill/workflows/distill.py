"""`distill`: a small model from a tuned teacher, and the control that shows what that gave."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from potstill.bundle.folder import ModelFolder
from potstill.bundle.manifest import MANIFEST_NAME, fingerprint
from potstill.bundle.opening import open_model
from potstill.data.columns import Columns
from potstill.data.rows import Rows
from potstill.distillation.augment import Augmentation, augmented
from potstill.distillation.layer_map import EVEN, layer_map_from_words
from potstill.distillation.layers import Kept, kept_as_asked
from potstill.distillation.narrow import narrow_config
from potstill.distillation.objective import require_terms
from potstill.distillation.search import (
    MOST_TEXTS,
    Candidate,
    candidate_sets,
    rank_candidates,
    require_enough_texts,
)
from potstill.distillation.signals import Tell
from potstill.distillation.student import student_config
from potstill.errors import InputError, RecipeError
from potstill.files import move_into_place, require_free, write_atomically
from potstill.models.precision import Precision, resolve_precision
from potstill.models.task_model import TaskModel
from potstill.recipe import recipe_hash, require_choice
from potstill.report import Report
from potstill.runtime.answering import task_of_folder
from potstill.tasks.embedding import Embedding
from potstill.tasks.evaluation import require_value
from potstill.tasks.kinds import ANSWERABLE
from potstill.tasks.task import Task
from potstill.train.automatic import settle
from potstill.train.learnable import Learnable
from potstill.train.progress import Listener, counting
from potstill.train.world import World
from potstill.workflows.control import (
    CONTROLS,
    CUT_ALONE,
    require_same_shape,
    train_control,
    write_cut,
)
from potstill.workflows.distill_recipe import SEARCH, DistillRecipe, learning_rates
from potstill.workflows.foreign_teaching import GivenSources, prepare_lesson
from potstill.workflows.learner import open_learner
from potstill.workflows.sole_writer import sole_writer
from potstill.workflows.student_run import (
    Learner,
    StudentRun,
    teachers_of,
    train_student,
    usual_weights,
)
from potstill.workflows.task_rows import joined_world, own_device, run_folder
from potstill.workflows.transfer_set import TransferSources, read_transfer_set

_TEXTS_SEEN = 60_000  # of all epochs together, where the recipe leaves epochs open
_STAGED = "bundle"  # inside the run's folder
_MOVED = "control.fingerprint"  # of what was moved out of there
_RATE_FACTOR = 2.0  # a student with soft targets bears twice a teacher's learning rate


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillInputs:
    """What a distillation reads."""

    teachers: Sequence[str | Path]  # folders or "hub:NAME"; the first one is cut
    train: object | None = None  # labelled rows
    dev: object | None = None  # None: carved from the training rows with the seed
    unlabelled: object | None = None  # texts for the teacher to speak of
    given: GivenSources = field(default_factory=GivenSources)  # in place of teachers
    augmenter: str | Path | None = None  # model with a masked-LM head that makes more of them
    control: str | None = None  # None, "pretrained", "tuned", "cut": see workflows.control
    pretrained: str | Path | None = None  # what the teacher was tuned from, for the control
    allow_pickle: bool = False
    columns: Columns = field(default_factory=Columns)


def distill(
    inputs: DistillInputs,
    recipe: DistillRecipe,
    *,
    out: Path,
    device: str = "auto",
    threads: int | None = None,
    listeners: tuple[Listener, ...] = (),
) -> Report:
    """Cut a student out of the teacher, teach it and write it as a bundle.

    The run's state stands in `<out>.run` until the bundle is written; the same call again resumes.
    A control is written to `<out>-control`.

    Raises:
        InputError: wrong models, rows, settings or output.
        RunError: out of memory, diverged, disk full.
        Stopped: by a signal; resumable.
    """
    require_free(out)
    if inputs.control is not None:
        _require_control(inputs)
        _require_place_of_control(out)
    with joined_world(device, threads) as world:
        return _distill(inputs, recipe, out, own_device(device, world), world, listeners)


def control_folder(out: Path) -> Path:
    """Return where the control of a student is written."""
    return out.with_name(out.name + "-control")


def _distill(
    inputs: DistillInputs,
    recipe: DistillRecipe,
    out: Path,
    device: torch.device,
    world: World,
    listeners: tuple[Listener, ...],
) -> Report:
    precision = resolve_precision(recipe.precision, device, training=True)
    find_cast = _given_cast if inputs.given.is_asked_for else _own_cast
    cast = find_cast(inputs, recipe, device, listeners)
    folders, teachers, learner = cast.folders, cast.teachers, cast.learner
    start = None
    if inputs.control not in (None, CUT_ALONE):
        start = open_model(_start_of_control(inputs), allow_pickle=inputs.allow_pickle)
        require_same_shape(start, learner.folder if learner else folders[0])
    data = read_transfer_set(folders, cast.sources, recipe, task=cast.task)
    recipe = settle(
        recipe,
        rows=data.row_count,
        width=(learner.model if learner else teachers[0]).config.hidden_size,
        texts_seen=_TEXTS_SEEN,
        rate_factor=_RATE_FACTOR,
    )
    source = learner.model if learner else teachers[0]
    layers, kept = _layers_asked(recipe, source.config.layers, is_whole=learner is not None)
    run = StudentRun(
        recipe=recipe,
        out=out,
        folder=run_folder(out),
        data=data,
        teacher_folders=folders,
        teachers=[model.to(device) for model in teachers],
        kept=kept or (),
        config=student_config(
            source.config,
            layers,
            architecture=recipe.architecture,
            has_pairs=data.has_pairs,
        ),
        layer_map=layer_map_from_words(
            recipe.layer_map, student_layers=layers, teacher_layers=teachers[0].config.layers
        ),
        rates=learning_rates(
            recipe.learning_rates, recipe.learning_rate, has_control=start is not None
        ),
        precision=precision,
        device=device,
        world=world,
        listeners=listeners,
        learner=learner,
    )
    data.task.metric(run.primary)
    if data.dev_gold is not None:
        require_value(data.task, run.primary, data.dev_gold, source=data.dev_rows.source)
    if kept is None:
        require_enough_texts(data.texts)
    with sole_writer(out, world):
        return _work(run, out, start, inputs.control or "")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Cast:
    """Who teaches, who learns, and what is read."""

    folders: list[ModelFolder]  # of the teachers; of given ones, of the model that is cut
    teachers: list[TaskModel]
    task: Task | None  # None: as the first teacher's
    sources: TransferSources
    learner: Learner | None = None


def _own_cast(
    inputs: DistillInputs,
    recipe: DistillRecipe,
    device: torch.device,
    listeners: tuple[Listener, ...],
) -> _Cast:
    """Return the teachers that are run here."""
    if not inputs.teachers:
        raise InputError("there is no teacher", cure="name one with --teacher")
    folders = [open_model(name, allow_pickle=inputs.allow_pickle) for name in inputs.teachers]
    for folder in folders:
        require_task_head(folder)
    if folders[0].task == Embedding.name:
        _require_untaught_control(inputs)
    task = task_of_folder(folders[0])
    require_terms(usual_weights(recipe, task))
    if recipe.width:
        _require_narrowing(recipe, task.name, folders[0])
    return _Cast(
        folders=folders,
        teachers=teachers_of(folders),
        task=None,
        sources=_sources(inputs, recipe, device, listeners),
        learner=open_learner(inputs, recipe, folders[0]) if inputs.given.student else None,
    )


def _given_cast(
    inputs: DistillInputs,
    recipe: DistillRecipe,
    device: torch.device,
    listeners: tuple[Listener, ...],
) -> _Cast:
    """Return the model that learns from a teacher whose answers are given."""
    _require_given(inputs, recipe)
    assert inputs.given.student is not None, "checked before"
    folder = open_model(inputs.given.student, allow_pickle=inputs.allow_pickle)
    lesson = prepare_lesson(
        inputs.given,
        folder,
        _sources(inputs, recipe, device, listeners),
        max_length=min(recipe.max_length or folder.max_length, folder.config.max_length),
        seed=recipe.seed,
        device=device,
        tell=counting(listeners, "teacher's answers"),
    )
    require_terms(usual_weights(recipe, lesson.task))
    return _Cast(
        folders=[folder], teachers=[lesson.student], task=lesson.task, sources=lesson.sources
    )


def _sources(
    inputs: DistillInputs,
    recipe: DistillRecipe,
    device: torch.device,
    listeners: tuple[Listener, ...],
) -> TransferSources:
    return TransferSources(
        train=inputs.train,
        dev=inputs.dev,
        unlabelled=inputs.unlabelled,
        columns=inputs.columns,
        augment=_augmenting(inputs, recipe, device, listeners),
    )


def _require_given(inputs: DistillInputs, recipe: DistillRecipe) -> None:
    """Check what cannot be had from a teacher that is not run here."""
    if inputs.teachers or (inputs.given.foreign is not None and inputs.given.answers):
        raise InputError(
            "there are two kinds of teachers",
            allowed="one of --teacher, --foreign-teacher and --teacher-answers",
        )
    if inputs.given.student is None:
        raise InputError(
            "it is not known which model shall learn",
            cure="name a pre-trained one with --student",
        )
    if inputs.control == "tuned":
        raise InputError(
            "this control starts from the teacher's own layers, and only its answers are given",
            where="--control",
            allowed=f"pretrained, {CUT_ALONE}",
        )
    if inputs.given.task == Embedding.name:
        _require_untaught_control(inputs)
    if inputs.augmenter is not None and inputs.given.answers:
        raise InputError("a file has no answers to rows that are made", where="--augment-with")
    wants_states = any((recipe.hidden_cosine, recipe.hidden_mse, recipe.relations, recipe.width))
    if wants_states or recipe.choose == SEARCH:
        raise RecipeError(
            "hidden states, relations, a width of its own and the search for layers need the "
            "teacher's layers, and only its answers are given",
            cure="leave them out, or name layers of the student's model with --keep",
        )


def _require_untaught_control(inputs: DistillInputs) -> None:
    if inputs.control not in (None, CUT_ALONE):
        raise InputError(
            "a control learns from labels, and no label says where a vector lies",
            where="--control",
            cure="--control cut: the student before its first step",
        )


def _work(run: StudentRun, out: Path, start: ModelFolder | None, control: str) -> Report:
    """Train what was asked for; both bundles are put in their places when the last one stands."""
    ranking: list[Candidate] = []
    if not run.kept:
        kept, ranking = _searched(run)
        run = replace(run, kept=kept)
    staged = run.folder / _STAGED
    report = train_student(run, _removed(staged, run.world), search=ranking)
    if control:
        staged_control = _removed(control_folder(staged), run.world)
        if start is None:
            found = write_cut(run, staged_control)
        else:
            if run.recipe.control_learning_rates:
                rates = learning_rates(run.recipe.control_learning_rates, 1.0, has_control=True)
                run = replace(run, rates=rates)
            found = train_control(run, start, report.steps, staged_control, control)
        found = replace(found, bundle=control_folder(out))
        report = replace(report, details={**report.details, "control": found.to_json()})
        if run.world.is_main:
            _put_control(staged_control, out)
    if run.world.is_main:
        move_into_place(staged, out)
        shutil.rmtree(run.folder, ignore_errors=True)
    return replace(report, bundle=out)


def _put_control(staged: Path, out: Path) -> None:
    """Move the control into place, unless a run that was killed before the next move has done it.

    What will stand there is noted first, so that the same call does not take it for another's.
    """
    if not _is_our_control(out):
        write_atomically(run_folder(out) / _MOVED, fingerprint(staged).encode())
        move_into_place(staged, control_folder(out))


def _require_place_of_control(out: Path) -> None:
    if not _is_our_control(out):
        require_free(control_folder(out))


def _is_our_control(out: Path) -> bool:
    """Tell whether the unfinished run of `out` has put its control into place."""
    note, folder = run_folder(out) / _MOVED, control_folder(out)
    if not note.is_file() or not (folder / MANIFEST_NAME).is_file():
        return False
    return note.read_text() == fingerprint(folder)


def _removed(leftover: Path, world: World) -> Path:
    """Return the place of a staged bundle, without the one of an interrupted run."""
    if world.is_main:
        shutil.rmtree(leftover, ignore_errors=True)
    return leftover


def require_task_head(folder: ModelFolder) -> None:
    """Check that a teacher answers a task that can be distilled.

    Raises:
        InputError: it is a bare encoder, or a masked-LM model.
    """
    if folder.task in ANSWERABLE:
        return
    raise InputError(
        "the teacher is a bare encoder: it answers no task",
        where=str(folder.path),
        allowed="a model with a task head",
        cure="tune it first with potstill finetune --model … --train …, or let potstill shrink "
        "--teacher … --train … do both",
    )


def _augmenting(
    inputs: DistillInputs,
    recipe: DistillRecipe,
    device: torch.device,
    listeners: tuple[Listener, ...],
) -> Callable[[Rows], Rows] | None:
    if inputs.augmenter is None:
        return None
    folder = open_model(inputs.augmenter, allow_pickle=inputs.allow_pickle)
    how = Augmentation(copies=recipe.augment_copies, share=recipe.augment_share, seed=recipe.seed)
    tell = counting(listeners, "words replaced")
    return lambda rows: augmented(folder, rows, how, device=device, tell=tell)


def _require_narrowing(recipe: DistillRecipe, task: str, folder: ModelFolder) -> None:
    """Check that a student of another width can be taught."""
    if task != Embedding.name:
        raise RecipeError(
            f"width is {recipe.width}, and the task is {task}",
            allowed="a width of its own for students of vectors, which a map turns back",
        )
    if any((recipe.hidden_cosine, recipe.hidden_mse, recipe.relations)):
        raise RecipeError(
            "hidden states and relations of another width cannot be compared",
            where="width",
            cure="leave hidden_cosine, hidden_mse and relations at 0",
        )
    narrow_config(folder.config, recipe.width)


def _layers_asked(recipe: DistillRecipe, depth: int, *, is_whole: bool) -> tuple[int, Kept | None]:
    """Return how many layers the student has, and which; None: they are to be searched for.

    A model that was named as the student keeps all of its layers unless told otherwise.
    """
    is_searched = recipe.choose == SEARCH and not recipe.keep
    layers = depth if is_whole and not recipe.layers and not recipe.keep else recipe.layers
    kept = kept_as_asked(
        recipe.keep,
        layers,
        teacher_layers=depth,
        choice=EVEN if is_searched else recipe.choose,
    )
    return len(kept), None if is_searched else kept


def _searched(run: StudentRun) -> tuple[Kept, list[Candidate]]:
    """Return the layers to keep, found by the main process, and there their ranking."""
    ranking: list[Candidate] = []
    if run.world.is_main:
        teacher = fingerprint(run.teacher_folders[0].path)
        ranking = searched_layers(
            run.teachers[0],
            run.data.search_rows(MOST_TEXTS),
            run.config.layers,
            run.precision,
            run.folder / "search.json",
            key=recipe_hash(run.recipe, rows=run.data.identity, teacher=teacher),
            tell=counting(run.listeners, "layer search"),
        )
    best = list(ranking[0].kept) if ranking else None
    return tuple(run.world.from_main(best, run.device)), ranking


def searched_layers(  # noqa: PLR0913 - what decides a ranking, and where it is kept
    teacher: TaskModel,
    rows: Learnable,
    layers: int,
    precision: Precision,
    file: Path,
    *,
    key: str,
    tell: Tell,
) -> list[Candidate]:
    """Rank sets of layers, or read the ranking that an interrupted run has written to `file`."""
    candidates = candidate_sets(teacher.config.layers, layers)
    try:
        told = json.loads(file.read_bytes())
        if told["key"] == key:
            return [
                Candidate(tuple(each["layers"]), each["divergence"], each["agreement"])
                for each in told["ranking"]
            ]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    ranking = rank_candidates(
        teacher,
        rows,
        candidates,
        has_classes=teacher.spec.problem is None and teacher.spec.kind != "question-answering",
        precision=precision,
        tell=tell,
    )
    content = {"key": key, "ranking": [each.to_json() for each in ranking]}
    write_atomically(file, json.dumps(content, indent=2).encode())
    return ranking


def _require_control(inputs: DistillInputs) -> None:
    assert inputs.control is not None, "asked for where there is one"
    require_choice("control", inputs.control, CONTROLS)
    if inputs.control != CUT_ALONE and inputs.train is None:
        raise InputError(
            "a control learns from labels, and there is no --train", cure="give --train"
        )
    has_start = inputs.pretrained is not None or inputs.given.student is not None
    if inputs.control == "pretrained" and not has_start:
        raise InputError(
            "the control starts from the model that the teacher was tuned from, and it is not "
            "known where that lies",
            where="--control",
            cure="name it with --pretrained, or ask for --control tuned",
        )


def _start_of_control(inputs: DistillInputs) -> str | Path:
    if inputs.control == "tuned":
        return inputs.teachers[0]
    start = inputs.pretrained or inputs.given.student
    assert start is not None, "checked at the beginning"
    return start
