"""`distill --corpus`: a student of all text, before any task, as DistilBERT is one of BERT."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from potstill.bundle.folder import ModelFolder
from potstill.bundle.manifest import fingerprint
from potstill.bundle.opening import open_model
from potstill.distillation.general_objective import TERMS, GeneralObjective
from potstill.distillation.held_out_terms import HeldOutTerms
from potstill.distillation.layers import kept_as_asked
from potstill.distillation.objective import RELATIONS, require_terms
from potstill.distillation.student import cut_student, student_config
from potstill.errors import InputError, RecipeError, RunError
from potstill.files import require_free
from potstill.models.loading import load_task_model
from potstill.models.task_model import TaskModel
from potstill.recipe import recipe_hash
from potstill.report import Report
from potstill.train.loop import train
from potstill.train.progress import Listener
from potstill.workflows.corpus_run import TASK, corpus_run
from potstill.workflows.general_recipe import GeneralRecipe
from potstill.workflows.passages import CorpusSources, Ground
from potstill.workflows.task_rows import joined_world, own_device


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneralInputs:
    """What a general distillation reads."""

    teacher: str | Path  # a model with a masked-LM head: a folder or "hub:NAME"
    corpus: CorpusSources
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
        return _Distillation(inputs, recipe, ground).run()


class _Distillation:
    """The parts of one general distillation, made in order."""

    def __init__(self, inputs: GeneralInputs, recipe: GeneralRecipe, ground: Ground) -> None:
        require_terms({name: getattr(recipe, name) for name in TERMS})
        folder = open_model(inputs.teacher, allow_pickle=inputs.allow_pickle)
        require_masked_lm(folder)
        depth = folder.config.layers
        self.kept = kept_as_asked(
            recipe.keep, recipe.layers, teacher_layers=depth, choice=recipe.choose
        )
        config = student_config(folder.config, len(self.kept), architecture=recipe.architecture)
        self.relation_layers = len(self.kept), _relation_layer(recipe, depth)
        self.relation_heads = recipe.relation_heads or folder.config.heads
        _require_relations(recipe, folder.config.hidden_size, self.relation_heads)
        self.corpus = corpus_run(ground, recipe, folder, config, inputs.corpus)

    def run(self) -> Report:
        """Train, keep the best, check that it was worth it, write the bundle."""
        corpus = self.corpus
        teacher = load_task_model(corpus.folder).to(corpus.ground.device)
        teacher.requires_grad_(False)  # noqa: FBT003 - torch's own signature
        student = cut_student(teacher, corpus.config, self.kept).to(corpus.ground.device)
        objective, held_out = self._objective(teacher), corpus.held_out()
        terms = HeldOutTerms(objective, held_out)
        before, start = terms.of(student), held_out.of(student)
        result = train(
            student,
            objective,
            corpus.recipe,
            checkpoints=corpus.checkpoints,
            recipe_hash=recipe_hash(
                corpus.recipe,
                teacher=fingerprint(corpus.folder.path),
                corpus=corpus.passages.identity,
            ),
            score=lambda: -terms.total(terms.of(student)),
            listeners=corpus.listeners(),
            world=corpus.ground.world,
        )
        after = terms.of(student)
        self._require_gain(terms.total(before), terms.total(after))
        return corpus.written(
            student,
            result,
            held_out.measured(student),
            lineage={
                "verb": "distill",
                "teachers": [corpus.folder.path.name],
                "teacher_fingerprint": fingerprint(corpus.folder.path),
                "layers_kept": list(self.kept),
            },
            measurements={f"held_out_{name}": value for name, value in after.items()},
            details={
                "start": {
                    "student": {**before, "held_out_loss": start},
                    "teacher": {"held_out_loss": held_out.of(teacher)},
                },
                "held_out": after,
                "layers_kept": list(self.kept),
                "architecture": student.config.family,
            },
            hf_extras=corpus.folder.hf_config,
        )

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
        if after >= before:
            raise RunError(
                f"the student is no better than the cut it began from: its loss on held-out text "
                f"was {before:.4f} and is {after:.4f}",
                where=str(self.corpus.checkpoints.path),
                cure="lower --learning-rate, or train on more tokens",
            )


def require_masked_lm(folder: ModelFolder) -> None:
    """Check that a teacher can guess hidden tokens.

    Raises:
        InputError: it has no masked-LM head.
    """
    if folder.head.kind != "masked-lm":
        raise InputError(
            "the teacher has no masked-LM head, so it has no guesses to be learned",
            where=str(folder.path),
            allowed="a model of ForMaskedLM",
            cure=f"give it one: potstill finetune --task {TASK} --model {folder.path.name} "
            "--train … --out …",
        )


def _relation_layer(recipe: GeneralRecipe, depth: int) -> int:
    if recipe.relation_layer > depth:
        raise RecipeError(f"relation_layer is {recipe.relation_layer}", allowed=f"1 to {depth}")
    return recipe.relation_layer or depth


def _require_relations(recipe: GeneralRecipe, width: int, heads: int) -> None:
    if getattr(recipe, RELATIONS) and width % heads:
        raise RecipeError(
            f"relation_heads is {heads}", allowed=f"a divisor of the teacher's width, {width}"
        )
