"""`distill --corpus`: a student of all text, before any task, as DistilBERT is one of BERT."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from potstill.architectures.config import EncoderConfig
from potstill.bundle.folder import ModelFolder
from potstill.bundle.manifest import fingerprint
from potstill.bundle.opening import open_model
from potstill.distillation.general_objective import TERMS, GeneralObjective
from potstill.distillation.guessing import ClockedGuesses, Guesser
from potstill.distillation.held_out_terms import HeldOutTerms
from potstill.distillation.layers import kept_as_asked
from potstill.distillation.narrow import StudentBesideMap, narrow_beside_map, narrow_config
from potstill.distillation.objective import RELATIONS, require_terms
from potstill.distillation.relation_term import usual_heads, usual_layer
from potstill.distillation.student import cut_student, student_config
from potstill.errors import InputError, RecipeError, RunError
from potstill.files import require_free
from potstill.models.loading import load_task_model
from potstill.models.precision import keep_products_in
from potstill.models.task_model import TaskModel
from potstill.report import Report
from potstill.train.progress import Listener, Scored
from potstill.workflows.corpus_run import TASK, Training, corpus_run
from potstill.workflows.general_recipe import STORED, GeneralRecipe
from potstill.workflows.guesses import stored_guesses
from potstill.workflows.passages import CorpusSources, Ground
from potstill.workflows.probes import probed
from potstill.workflows.sole_writer import sole_writer
from potstill.workflows.task_rows import joined_world, own_device


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneralInputs:
    """What a general distillation reads."""

    teacher: str | Path  # a model with a masked-LM head: a folder or "hub:NAME"
    corpus: CorpusSources
    signals_folder: Path | None = None  # of a stored teacher, kept; None: in the run's, not kept
    allow_pickle: bool = False


def distill_general(
    inputs: GeneralInputs,
    recipe: GeneralRecipe,
    *,
    out: Path,
    device: str = "auto",
    threads: int | None = None,
    listeners: tuple[Listener, ...] = (),
) -> Report:
    """Cut a student out of a masked-LM teacher, teach it on a corpus and write it as a bundle.

    The run's state stands in `<out>.run` until the bundle is written, the corpus stays in
    `<out>.corpus`; the same call again resumes.

    Raises:
        InputError: wrong teacher, corpus, settings or output.
        RunError: out of memory, diverged, disk full, or a student no better than its start.
        Stopped: by a signal; resumable.
    """
    require_free(out)
    with joined_world(device, threads) as world:
        ground = Ground(out=out, world=world, device=own_device(device, world), listeners=listeners)
        with sole_writer(out, world):  # the corpus and a named folder of signals have their own
            return GeneralDistillation(inputs, recipe, ground).run()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GeneralTraining(Training):
    """A training of a student, beside its teacher."""

    teacher: TaskModel
    terms: HeldOutTerms


class GeneralDistillation:
    """The parts of one general distillation, made in order."""

    def __init__(self, inputs: GeneralInputs, recipe: GeneralRecipe, ground: Ground) -> None:
        require_terms({name: getattr(recipe, name) for name in TERMS})
        folder = open_model(inputs.teacher, allow_pickle=inputs.allow_pickle)
        require_masked_lm(folder, str(inputs.teacher))
        self.signals_folder = _signals_folder(inputs, recipe)
        depth = folder.config.layers
        self.kept = kept_as_asked(
            recipe.keep, recipe.layers, teacher_layers=depth, choice=recipe.choose
        )
        self.cut = student_config(folder.config, len(self.kept), architecture=recipe.architecture)
        config = narrow_config(self.cut, recipe.width) if recipe.width else self.cut
        self.relation_layers = len(self.kept), _relation_layer(recipe, folder.config)
        self.relation_heads = recipe.relation_heads or usual_heads(config, folder.config)
        for model in (folder.config, config):
            _require_relations(recipe, model.hidden_size, self.relation_heads)
        self.corpus = corpus_run(ground, recipe, folder, config, inputs.corpus)

        self.held_out = self.corpus.held_out()

    def training(self, *, clocked: list[ClockedGuesses] | None = None) -> GeneralTraining:
        """Return the student before its first step, and how it is taught.

        Args:
            clocked: None, or where a teacher that would be stored is put: it is asked on the way,
                clocked, and nothing is written.
        """
        corpus = self.corpus
        teacher = load_task_model(corpus.folder).to(corpus.ground.device)
        teacher.requires_grad_(False)  # noqa: FBT003 - torch's own signature
        student = self._start(teacher).to(corpus.ground.device)
        keep_products_in(corpus.precision, teacher)
        objective = self._objective(teacher)
        terms = HeldOutTerms(objective, self.held_out)  # of all words, whatever is stored
        if corpus.recipe.signals == STORED and clocked is not None:
            clocked.append(ClockedGuesses(Guesser(objective, corpus.recipe.top_words)))
            objective = replace(objective, stored=clocked[0])
        elif corpus.recipe.signals == STORED:
            stored = stored_guesses(corpus, objective, self.signals_folder)
            objective = replace(objective, stored=stored)

        def score() -> Scored:
            scored = terms.scored(student)
            return Scored(scored.value, {**scored.parts, **probed(corpus.probes, student)})

        return GeneralTraining(
            model=student,
            objective=objective,
            score=score,
            identity={"teacher": fingerprint(corpus.folder.path)},
            teacher=teacher,
            terms=terms,
        )

    def run(self) -> Report:
        """Train, keep the best, check that it was worth it, write the bundle."""
        corpus, training = self.corpus, self.training()
        student, terms = training.model, training.terms
        before, start = terms.of(student), self._watched(student)
        result = corpus.train(training)
        after = terms.of(student)
        self._require_gain(terms.total(before), terms.total(after))
        if isinstance(student, StudentBesideMap):
            student = student.alone()
        return corpus.written(
            student,
            result,
            self.held_out.measured(student),
            lineage={
                "verb": "distill",
                "teachers": [corpus.folder.path.name],
                "teacher_fingerprint": fingerprint(corpus.folder.path),
                "layers_kept": list(self.kept),
            },
            measurements={f"held_out_{name}": value for name, value in after.items()},
            details={
                "start": {
                    "student": {**before, **start},
                    "teacher": self._watched(training.teacher),
                },
                "held_out": after,
                "probes": probed(corpus.probes, student),
                "layers_kept": list(self.kept),
                "architecture": student.config.family,
            },
            hf_extras=corpus.folder.hf_config,
        )

    def _watched(self, model: TaskModel) -> dict[str, float]:
        """Return what can be asked of student and teacher alike."""
        return {"held_out_loss": self.held_out.of(model), **probed(self.corpus.probes, model)}

    def _start(self, teacher: TaskModel) -> TaskModel:
        """Return the student before its first step."""
        student = cut_student(teacher, self.cut, self.kept)
        width = self.corpus.recipe.width
        return narrow_beside_map(student, width) if width else student

    def _objective(self, teacher: TaskModel) -> GeneralObjective:
        recipe, passages = self.corpus.recipe, self.corpus.passages
        return GeneralObjective(
            passages=passages.train,
            masking=passages.masking,
            teacher=teacher,
            term_weights={name: getattr(recipe, name) for name in TERMS},
            temperature=recipe.temperature,
            other_share=recipe.other_share,
            relation_layers=self.relation_layers,
            relation_heads=self.relation_heads,
            precision=self.corpus.precision,
        )

    def _require_gain(self, before: float, after: float) -> None:
        if not after < before:  # so that a loss that is not a number is no gain either
            state = self.corpus.checkpoints.path
            raise RunError(
                f"the student is no better than the cut it began from: its loss on held-out text "
                f"was {before:.4f} and is {after:.4f}",
                where=str(state),
                cure=f"remove {state}, or name another --out, and lower --learning-rate, or train "
                "on more tokens",
            )


def require_masked_lm(folder: ModelFolder, given: str) -> None:
    """Check that a teacher can guess hidden tokens.

    Args:
        folder: of the teacher.
        given: the name by which it was asked for.

    Raises:
        InputError: it has no masked-LM head.
    """
    if folder.head.kind != "masked-lm":
        raise InputError(
            "the teacher has no masked-LM head, so it has no guesses to be learned",
            where=str(folder.path),
            allowed="a model of ForMaskedLM",
            cure=f"give it one: potstill finetune --task {TASK} --model {shlex.quote(given)} "
            "--train … --out …",
        )


def _signals_folder(inputs: GeneralInputs, recipe: GeneralRecipe) -> Path | None:
    if inputs.signals_folder is not None and recipe.signals != STORED:
        raise RecipeError(
            "a folder of signals is named, but the teacher is live",
            where="--signals-folder",
            cure="add --set signals=stored",
        )
    return inputs.signals_folder


def _relation_layer(recipe: GeneralRecipe, teacher: EncoderConfig) -> int:
    if recipe.relation_layer > teacher.layers:
        raise RecipeError(
            f"relation_layer is {recipe.relation_layer}", allowed=f"1 to {teacher.layers}"
        )
    return recipe.relation_layer or usual_layer(teacher)


def _require_relations(recipe: GeneralRecipe, width: int, heads: int) -> None:
    if getattr(recipe, RELATIONS) and width % heads:
        raise RecipeError(
            f"relation_heads is {heads}",
            allowed=f"a divisor of the widths of teacher and student: not of {width}",
        )
