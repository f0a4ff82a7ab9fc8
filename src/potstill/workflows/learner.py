"""A pre-trained model that learns from a tuned teacher of ours, such as a student of all text.

DistilBERT's second step (Sanh et al. 2019, section 3): a general student, then the task with the
tuned teacher beside it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Protocol

from potstill.architectures.heads import HeadSpec
from potstill.bundle.folder import ModelFolder
from potstill.bundle.opening import open_model
from potstill.data.corpus import tokenizer_hash
from potstill.errors import InputError, ModelError, RecipeError
from potstill.models.loading import load_with_new_head
from potstill.workflows.distill_recipe import SEARCH, DistillRecipe
from potstill.workflows.foreign_teaching import GivenSources
from potstill.workflows.student_run import Learner


class LearnerInputs(Protocol):
    """What of a distillation's inputs tells the student."""

    @property
    def given(self) -> GivenSources: ...  # noqa: D102 - a field of DistillInputs
    @property
    def control(self) -> str | None: ...  # noqa: D102
    @property
    def allow_pickle(self) -> bool: ...  # noqa: D102


def open_learner(inputs: LearnerInputs, recipe: DistillRecipe, teacher: ModelFolder) -> Learner:
    """Open the student's model under a new head of the teacher's kind.

    Raises:
        InputError: what needs the teacher's own layers is asked for.
        ModelError: the two read texts differently.
    """
    student = inputs.given.student
    assert student is not None, "asked for where there is one"
    if inputs.control == "tuned":
        raise InputError(
            "this control starts from the teacher's own layers, and --student names another model",
            where="--control",
            allowed="pretrained, cut",
        )
    folder = open_model(student, allow_pickle=inputs.allow_pickle)
    _require_same_tokenizer(folder, teacher)
    _require_comparable(recipe, folder, teacher)
    longest = recipe.max_length or teacher.max_length
    if longest > folder.config.max_length:
        raise RecipeError(
            f"max_length is {longest}, and {Path(str(student)).name} has "
            f"{folder.config.max_length} positions",
            cure=f"--max-length {folder.config.max_length}",
        )
    head = _head(teacher, folder)
    return Learner(folder=folder, model=load_with_new_head(folder, head, seed=recipe.seed))


def _head(teacher: ModelFolder, student: ModelFolder) -> HeadSpec:
    """Return the teacher's head; vectors of another width get a map to the teacher's."""
    if teacher.head.kind != "embedding":
        return teacher.head
    width = teacher.head.width or teacher.config.hidden_size
    return replace(teacher.head, width=None if width == student.config.hidden_size else width)


def _require_same_tokenizer(student: ModelFolder, teacher: ModelFolder) -> None:
    if tokenizer_hash(student.tokenizer()) == tokenizer_hash(teacher.tokenizer()):
        return
    raise ModelError(
        "student and teacher have different tokenizers",
        where=str(student.path),
        cure=f"let the teacher answer in its own: --foreign-teacher {teacher.path.name}",
    )


def _require_comparable(recipe: DistillRecipe, student: ModelFolder, teacher: ModelFolder) -> None:
    """Check that nothing is asked for that only the teacher's own layers can give."""
    if recipe.width or recipe.choose == SEARCH:
        raise RecipeError(
            "a width of its own and the search for layers are of a student that is cut out of its "
            "teacher, and --student names another model",
            cure="leave them out, or leave --student out",
        )
    own, its = student.config.hidden_size, teacher.config.hidden_size
    if own != its and (recipe.hidden_cosine or recipe.hidden_mse):
        raise RecipeError(
            f"hidden states of width {own} cannot be compared with those of width {its}",
            cure="leave hidden_cosine and hidden_mse at 0",
        )
    if recipe.relations and its % student.config.heads:
        raise RecipeError(
            f"the teacher's width, {its}, cannot be cut into the student's {student.config.heads} "
            "heads",
            cure="leave relations at 0",
        )
