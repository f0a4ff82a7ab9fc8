"""Tokens whose answers do not count have no say: not by target, not by logit, not by teacher.

Of entities the first sub-words count; of questions the context and each window's first token.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.architectures.config import EncoderConfig
from potstill.data.rows import Rows
from potstill.distillation.objective import COSINE, HARD, SOFT, DistillObjective
from potstill.distillation.signals import LiveTeacher, Teacher
from potstill.distillation.stored_signals import SignalShape, StoredSignals, store_signals
from potstill.models import TaskModel
from potstill.models.layout import How
from potstill.models.noise import Noise
from potstill.tasks.question_answering import QuestionAnswering
from potstill.tasks.task import Lengths, Task
from potstill.tasks.token_classification import TokenClassification, with_words
from potstill.text.tokenizer import Tokenizer
from potstill.text.tokenizer_files import load_tokenizer
from potstill.train.answer_losses import AnswerLoss, loss_of
from potstill.train.label_objective import LabelObjective
from potstill.train.learnable import Learnable
from tests.tiny import tiny_config

LAWS = settings(deadline=None, max_examples=10)
KINDS = ("token-classification", "question-answering")
TERMS = {SOFT: 0.6, HARD: 0.4, COSINE: 0.5}
LENGTHS = Lengths(max_length=20, long_texts="windows", overlap=4)
HOWS: tuple[How, ...] = ("padded", "packed")
ROWS = np.array([3, 0, 5, 1])


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True, slots=True)
class Ground:
    """A task with rows of it, cut into windows, some of them without a target."""

    task: Task
    rows: Learnable
    student: TaskModel
    teacher: TaskModel

    @property
    def loss(self) -> AnswerLoss:
        return loss_of(self.task)

    @property
    def hidden(self) -> np.ndarray:
        return np.flatnonzero(~self.rows.readable_N)

    @property
    def outputs(self) -> int:
        return len(self.task.labels)

    def live(self) -> LiveTeacher:
        return LiveTeacher(
            models=[self.teacher],
            texts=[self.rows.texts],
            temperature=2.0,
            loss=self.loss,
            state_indices=(2,),
        )

    def distilling(self, **changes: object) -> DistillObjective:
        usual = DistillObjective(
            rows=self.rows,
            teacher=self.live(),
            term_weights=TERMS,
            temperature=2.0,
            loss=self.loss,
            layer_map=((2, 2),),
        )
        return replace(usual, **changes)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Return a tokenizer that cuts every word into its letters."""
    folder: Path = tmp_path_factory.mktemp("letters")
    letters = [*string.ascii_lowercase, "."]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *[f"##{each}" for each in letters]]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    return load_tokenizer(folder, family="bert")


@pytest.fixture(params=KINDS, scope="module")
def ground(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> Ground:
    task, rows = _entities() if request.param == KINDS[0] else _questions()
    windows = task.windows(tokenizer, rows, LENGTHS)
    assert len(windows.texts) > len(rows)
    learnable = Learnable(
        windows.texts,
        task.targets(rows, windows),
        task.readable(windows),
        per_token=request.param == KINDS[0],
    )
    config = tiny_config(vocabulary_size=tokenizer.vocabulary_size, initializer_range=0.3)
    return Ground(task, _partly_known(learnable), _drawn(task, config, 1), _drawn(task, config, 2))


def _entities() -> tuple[Task, Rows]:
    words = [["ann", "smith", "went", "to", "bonn", "."] * 2, ["."], [], ["berlin", "x"], ["a"] * 9]
    tags = [["B-PER", "I-PER", "O", "O", "B-LOC", "O"] * 2, ["O"], [], ["B-LOC", "O"], ["O"] * 9]
    rows = with_words(Rows({"tokens": words, "tags": tags}, "list"))
    return TokenClassification.from_rows(rows), rows


def _questions() -> tuple[Task, Rows]:
    contexts = ["ann went to bonn to see the city.", "berlin", "a b c", "the rhine flows by bonn"]
    answers = ["bonn", "berlin", "", "rhine"]
    starts = [context.find(answer) for context, answer in zip(contexts, answers, strict=True)]
    rows = Rows(
        {
            "question": ["where to", "what", "", "who flows"],
            "context": contexts,
            "answers": [[answer] if answer else [] for answer in answers],
            "answer_starts": [
                [start] if start > 0 else [0] * bool(answer)
                for start, answer in zip(starts, answers, strict=True)
            ],
        },
        "list",
    )
    return QuestionAnswering(), rows


def _partly_known(rows: Learnable) -> Learnable:
    """Take the targets of the last window away: a teacher alone speaks of it."""
    targets = rows.targets.copy()
    last = len(rows) - 1
    targets[rows.texts.text_index() == last if rows.per_token else last] = -1
    return replace(rows, targets=targets)


def _drawn(task: Task, config: EncoderConfig, seed: int) -> TaskModel:
    model = TaskModel(config, task.head("first"))
    model.initialize(seed)
    return model


def drawn_logits(ground: Ground, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(ground.rows.texts.total_tokens, ground.outputs, generator=generator)


def changed_at(logits: torch.Tensor, places: np.ndarray, seed: int) -> torch.Tensor:
    moved = logits.clone()
    generator = torch.Generator().manual_seed(seed)
    moved[places] = 50 * torch.randn(len(places), logits.shape[1], generator=generator)
    return moved


def both_losses(
    ground: Ground, rows: Learnable, student: torch.Tensor, teacher: torch.Tensor
) -> list[torch.Tensor]:
    soft = ground.loss.soft(student, teacher, rows, temperature=2.0)
    return [ground.loss.labels(student, rows), soft]


@LAWS
@given(st.integers(0, 999))
def test_logits_at_tokens_that_do_not_count_change_no_loss(ground: Ground, seed: int) -> None:
    student, teacher = drawn_logits(ground, seed), drawn_logits(ground, seed + 1)
    expected = both_losses(ground, ground.rows, student, teacher)
    hidden = ground.hidden
    assert len(hidden) > 10
    moved = [changed_at(logits, hidden, seed + 2) for logits in (student, teacher)]
    for found, before in zip(both_losses(ground, ground.rows, *moved), expected, strict=True):
        assert torch.equal(found, before)
        assert found.sum() > 0.01
    counted = np.flatnonzero(ground.rows.readable_N)
    others = [changed_at(logits, counted, seed + 2) for logits in (student, teacher)]
    for found, before in zip(both_losses(ground, ground.rows, *others), expected, strict=True):
        assert not torch.allclose(found, before)


@LAWS
@given(st.integers(0, 999))
def test_tokens_that_do_not_count_get_no_gradient(ground: Ground, seed: int) -> None:
    student = drawn_logits(ground, seed).requires_grad_()
    losses = both_losses(ground, ground.rows, student, drawn_logits(ground, seed + 1))
    torch.cat(losses).sum().backward()
    assert not student.grad[ground.hidden].any()
    assert student.grad[ground.rows.readable_N].any()


@LAWS
@given(st.integers(0, 999))
def test_targets_at_tokens_that_do_not_count_change_no_loss(ground: Ground, seed: int) -> None:
    if not ground.rows.per_token:
        pytest.skip("the targets are of windows")
    targets = ground.rows.targets.copy()
    hidden = ground.hidden
    targets[hidden] = np.random.default_rng(seed).integers(-1, ground.outputs, len(hidden))
    moved = replace(ground.rows, targets=targets)
    student, teacher = drawn_logits(ground, seed), drawn_logits(ground, seed + 1)
    assert ground.loss.label_count(moved) == ground.loss.label_count(ground.rows)
    pairs = zip(
        both_losses(ground, moved, student, teacher),
        both_losses(ground, ground.rows, student, teacher),
        strict=True,
    )
    assert all(torch.equal(*pair) for pair in pairs)


def test_targets_at_tokens_that_do_not_count_change_no_objective(ground: Ground) -> None:
    if not ground.rows.per_token:
        pytest.skip("the targets are of windows")
    moved = replace(ground.rows, targets=ground.rows.targets.copy())
    moved.targets[ground.hidden] = 1
    for one, other in (
        (LabelObjective(moved, ground.loss), LabelObjective(ground.rows, ground.loss)),
        (ground.distilling(rows=moved), ground.distilling()),
    ):
        assert sums_of(one, ground.student) == sums_of(other, ground.student)


def test_entities_count_once_a_word_and_answers_once_a_window(ground: Ground) -> None:
    rows = ground.rows.take(ROWS)
    known = ground.loss.label_count(rows)
    if ground.rows.per_token:
        assert known == (rows.targets >= 0).sum() == rows.readable_N[rows.targets >= 0].sum()
        assert ground.loss.soft_count(rows) == rows.readable_N.sum()
    else:
        assert ground.loss.soft_count(rows) == len(ROWS)
        assert known == rows.is_labelled.sum()


def sums_of(
    objective: LabelObjective | DistillObjective,
    model: TaskModel,
    rows: np.ndarray | None = None,
) -> dict[str, float]:
    chosen = np.arange(len(objective.rows)) if rows is None else rows
    batch = objective.prepare(chosen, np.random.default_rng(0))
    with torch.no_grad():
        sums = objective.loss_sums(model, batch, Noise(0))
    return {name: float(value) for name, value in sums.items()}


@contextmanager
def logits_moved(model: TaskModel, places: np.ndarray) -> Iterator[None]:
    """Add much to the head's answers at these tokens while it runs over all rows in order."""

    def add(module: torch.nn.Module, inputs: object, logits: torch.Tensor) -> torch.Tensor:
        moved = logits.clone()
        moved[places] += 100 * torch.rand(len(places), logits.shape[1])
        return moved

    handle = model.head.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.parametrize("how", HOWS)
def test_what_a_network_says_of_them_changes_no_objective(ground: Ground, how: How) -> None:
    for objective in (
        LabelObjective(ground.rows, ground.loss, how),
        ground.distilling(how=how),
    ):
        expected = sums_of(objective, ground.student)
        assert all(value > 0.01 for value in expected.values())
        with (
            logits_moved(ground.student, ground.hidden),
            logits_moved(ground.teacher, ground.hidden),
        ):
            assert sums_of(objective, ground.student) == expected
        with logits_moved(ground.student, np.flatnonzero(ground.rows.readable_N)):
            found = sums_of(objective, ground.student)
        assert {name for name, value in found.items() if value != expected[name]} == (
            set(expected) - {COSINE}
        )


def gradients_of(objective: LabelObjective | DistillObjective, model: TaskModel) -> torch.Tensor:
    model.zero_grad()
    batch = objective.prepare(ROWS, np.random.default_rng(0))
    torch.stack(list(objective.loss_sums(model, batch, Noise(0)).values())).sum().backward()
    found = [weight.grad.flatten() for weight in model.parameters() if weight.grad is not None]
    model.zero_grad()
    return torch.cat(found)


OBJECTIVES: dict[str, Callable[[Ground, How], LabelObjective | DistillObjective]] = {
    "labels": lambda ground, how: LabelObjective(ground.rows, ground.loss, how),
    "distilling": lambda ground, how: ground.distilling(how=how),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_padded_texts_teach_the_same_as_packed_ones(ground: Ground, name: str) -> None:
    padded, packed = (OBJECTIVES[name](ground, how) for how in HOWS)
    one, other = (sums_of(each, ground.student, ROWS) for each in (padded, packed))
    assert one.keys() == other.keys()
    assert all(one[term] == pytest.approx(other[term], rel=1e-4) for term in one)
    gradients = [gradients_of(each, ground.student) for each in (padded, packed)]
    assert gradients[0].abs().max() > 1e-3
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


def test_windows_teach_the_same_together_as_one_by_one(ground: Ground) -> None:
    objective = ground.distilling()
    whole = sums_of(objective, ground.student, ROWS)
    each = [sums_of(objective, ground.student, np.array([row])) for row in ROWS]
    assert all(
        whole[term] == pytest.approx(sum(one[term] for one in each), rel=1e-4) for term in whole
    )


def silent(done: int, total: int) -> None:
    del done, total


@pytest.fixture(scope="module")
def stored(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    shape = SignalShape(
        lengths=ground.rows.texts.lengths,
        classes=ground.outputs,
        width=32,
        state_indices=(2,),
        per_token=True,
    )
    assert shape.answers == ground.rows.texts.total_tokens
    folder = tmp_path_factory.mktemp("signals") / "signals"
    store_signals(folder, ground.live(), shape, identity="one", tell=silent)
    return StoredSignals(folder, shape, device=torch.device("cpu"))


def test_stored_signals_of_tokens_are_the_live_ones(ground: Ground, stored: Teacher) -> None:
    live = ground.live()
    for rows in (ROWS, ROWS[:1], np.arange(len(ground.rows)), np.array([1, 1])):
        kept, asked = stored.signals(rows), live.signals(rows)
        tokens = int(ground.rows.texts.lengths[rows].sum())
        assert kept.outputs.shape == asked.outputs.shape == (tokens, ground.outputs)
        torch.testing.assert_close(kept.outputs, asked.outputs, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(kept.states[2], asked.states[2], rtol=1e-5, atol=1e-5)


def test_stored_signals_teach_what_live_ones_do(ground: Ground, stored: Teacher) -> None:
    live, kept = ground.distilling(), ground.distilling(teacher=stored)
    one, other = (sums_of(each, ground.student, ROWS) for each in (live, kept))
    assert all(one[term] == pytest.approx(other[term], rel=1e-4) for term in one)
    own = sums_of(ground.distilling(teacher=stored), ground.teacher, ROWS)
    assert own[SOFT] == pytest.approx(0.0, abs=1e-4)
