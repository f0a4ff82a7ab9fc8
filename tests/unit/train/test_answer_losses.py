"""What each kind of head learns: counted positions, unknown targets left out, teachers averaged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

from potstill.errors import RecipeError
from potstill.losses.spans import span_soft_target_loss
from potstill.tasks.classification import Classification
from potstill.tasks.embedding import Embedding
from potstill.tasks.multi_label import MultiLabel
from potstill.tasks.question_answering import QuestionAnswering
from potstill.tasks.ranking import Ranking
from potstill.tasks.regression import Regression
from potstill.tasks.task import Task
from potstill.tasks.token_classification import TokenClassification
from potstill.train.answer_losses import (
    AnswerLoss,
    BernoulliLoss,
    ClassLoss,
    SpanLoss,
    SquaredLoss,
    VectorLoss,
    average_logits,
    loss_of,
)
from potstill.train.learnable import Learnable
from tests.tiny import random_batch

LAWS = settings(deadline=None, max_examples=40)
TEXTS = random_batch([4, 1, 6, 3], seed=1)
TOKENS = TEXTS.total_tokens
READABLE = np.random.default_rng(2).random(TOKENS) < 0.6
READABLE[TEXTS.offsets[:-1]] = True


def drawn(seed: int, *sizes: int) -> torch.Tensor:
    return 2 * torch.randn(*sizes, generator=torch.Generator().manual_seed(seed))


def sample(kind: str) -> tuple[AnswerLoss, Learnable, tuple[int, int]]:
    """Return a loss, rows of which some have no target, and the sizes of the outputs."""
    if kind == "texts":
        return ClassLoss(), Learnable(TEXTS, np.array([2, -1, 0, 1])), (4, 3)
    if kind == "tokens":
        targets = np.random.default_rng(3).integers(0, 3, TOKENS)
        targets[TEXTS.text_index() == 2] = -1
        return ClassLoss(), Learnable(TEXTS, targets, READABLE, per_token=True), (TOKENS, 3)
    if kind == "labels":
        targets = np.array([[1, 0], [0, 0], [np.nan] * 2, [1, 1]], dtype=np.float32)
        return BernoulliLoss(), Learnable(TEXTS, targets), (4, 2)
    if kind == "numbers":
        targets = np.array([3.5, np.nan, 1.0, -2.0])
        return SquaredLoss(center=1.5, scale=2.0), Learnable(TEXTS, targets), (4, 1)
    if kind == "spans":
        targets = np.array([[0, 0], [0, 0], [-1, -1], [0, 0]])
        return SpanLoss(), Learnable(TEXTS, targets, READABLE), (TOKENS, 2)
    targets = np.full((4, 1), np.nan, dtype=np.float32)
    return VectorLoss(), Learnable(TEXTS, targets), (4, 5)


KINDS = ("texts", "tokens", "labels", "numbers", "spans", "vectors")


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_one_loss_for_each_position_that_is_counted(kind: str) -> None:
    loss, rows, sizes = sample(kind)
    outputs, teacher = drawn(1, *sizes), drawn(2, *sizes)
    assert len(loss.labels(outputs, rows)) == loss.label_count(rows)
    assert len(loss.soft(outputs, teacher, rows, temperature=2.0)) == loss.soft_count(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_without_targets_add_nothing_but_their_gradient_is_zero(kind: str) -> None:
    loss, rows, sizes = sample(kind)
    outputs = drawn(1, *sizes).requires_grad_()
    loss.labels(outputs, rows).sum().backward()
    known = np.flatnonzero(rows.is_labelled)
    assert len(known) == (0 if kind == "vectors" else 3)
    gradient = outputs.grad.numpy()
    text_of = TEXTS.text_index() if sizes[0] == TOKENS else np.arange(4)
    assert not gradient[~np.isin(text_of, known)].any()
    parts = [rows.take(np.array([row])) for row in known]
    alone = [
        float(loss.labels(outputs.detach()[torch.from_numpy(text_of == row)], part).sum())
        for row, part in zip(known, parts, strict=True)
    ]
    assert sum(alone) == pytest.approx(float(loss.labels(outputs.detach(), rows).sum()), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_without_any_target_has_a_loss_of_zero(kind: str) -> None:
    loss, rows, sizes = sample(kind)
    unknown = np.nan if rows.targets.dtype.kind == "f" else -1
    rows = replace(rows, targets=np.full_like(rows.targets, unknown))
    outputs = drawn(1, *sizes).requires_grad_()
    total = loss.labels(outputs, rows).sum()
    assert total.item() == 0.0
    total.backward()  # a micro-batch without any label must not break the step
    assert not outputs.grad.any()
    assert loss.label_count(rows) == 0.0


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "numbers"])
def test_equal_models_have_nothing_to_learn_from_each_other(kind: str) -> None:
    loss, rows, sizes = sample(kind)
    outputs = drawn(1, *sizes)
    assert loss.soft(outputs, outputs, rows, temperature=3.0).abs().max() < 1e-5
    other = loss.soft(outputs, drawn(2, *sizes), rows, temperature=3.0)
    assert other.min() > -1e-5
    assert other.max() > 1e-2


def test_numbers_are_learned_as_deviations() -> None:
    loss, rows, _ = sample("numbers")
    outputs = drawn(1, 4, 1)
    expected = [(float(outputs[row, 0]) - (rows.targets[row] - 1.5) / 2) ** 2 for row in (0, 2, 3)]
    np.testing.assert_allclose(loss.labels(outputs, rows).numpy(), expected, rtol=1e-5)
    teacher = torch.from_numpy(np.array([[3.5], [7.5], [1.0], [-2.0]]))  # answers numbers
    deviations = ((teacher - 1.5) / 2).float()
    assert loss.soft(deviations, teacher, rows, temperature=9.0).max() < 1e-12
    moved = loss.soft(deviations + 0.5, teacher, rows, temperature=9.0)
    np.testing.assert_allclose(moved.numpy(), 0.25, rtol=1e-5)


def test_each_class_counts_what_its_weight_says() -> None:
    weights = np.array([1.0, 3.0, 0.5], dtype=np.float32)
    _, rows, sizes = sample("tokens")
    plain, weighted = ClassLoss(), ClassLoss(weights)
    outputs = drawn(1, *sizes)
    targets = rows.targets[READABLE & (rows.targets >= 0)]
    assert weighted.label_count(rows) == pytest.approx(weights[targets].sum())
    expected = plain.labels(outputs, rows) * torch.from_numpy(weights[targets])
    torch.testing.assert_close(weighted.labels(outputs, rows), expected)
    soft = [
        loss.soft(outputs, drawn(2, *sizes), rows, temperature=2.0) for loss in (plain, weighted)
    ]
    torch.testing.assert_close(soft[0], soft[1])


def test_a_window_s_loss_is_that_of_its_readable_tokens() -> None:
    loss, rows, _ = sample("spans")
    student, teacher = drawn(1, TOKENS, 2), drawn(2, TOKENS, 2)
    expected = span_soft_target_loss(
        student,
        teacher,
        torch.from_numpy(TEXTS.lengths.astype(np.int64)),
        torch.from_numpy(READABLE),
        temperature=2.0,
    )
    torch.testing.assert_close(loss.soft(student, teacher, rows, temperature=2.0), expected)


def test_a_vector_s_length_is_of_no_account() -> None:
    loss, rows, sizes = sample("vectors")
    student, teacher = drawn(1, *sizes), drawn(2, *sizes)
    cosines = torch.nn.functional.cosine_similarity(student, teacher)
    torch.testing.assert_close(loss.soft(student, teacher, rows, temperature=1.0), 1 - cosines)
    torch.testing.assert_close(
        loss.soft(5 * student, 0.1 * teacher, rows, temperature=1.0), 1 - cosines
    )


def test_similarities_are_compared_with_the_other_texts_alone() -> None:
    _, rows, sizes = sample("vectors")
    student, teacher = drawn(1, *sizes), drawn(2, *sizes)
    plain = VectorLoss().soft(student, teacher, rows, temperature=1.0)
    found = VectorLoss(similarity=0.7).soft(student, teacher, rows, temperature=1.0)
    logs = []
    for vectors in (student, teacher):
        normed = vectors.double().numpy()
        normed /= np.linalg.norm(normed, axis=1, keepdims=True)
        scores = (normed @ normed.T)[~np.eye(4, dtype=bool)].reshape(4, 3) / 0.05
        logs.append(log_softmax(scores, axis=1))
    divergence = (np.exp(logs[1]) * (logs[1] - logs[0])).sum(axis=1)
    np.testing.assert_allclose((found - plain).numpy(), 0.7 * divergence, rtol=1e-3, atol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = VectorLoss(similarity=0.7).soft(student, teacher, rows, temperature=1.0)
    assert torch.equal(inside, found)
    turned = torch.linalg.qr(drawn(3, 5, 5)).Q  # turned, vectors are as similar as before
    alike = VectorLoss(similarity=0.7).soft(teacher @ turned, teacher, rows, temperature=1.0)
    only_cosine = VectorLoss().soft(teacher @ turned, teacher, rows, temperature=1.0)
    torch.testing.assert_close(alike, only_cosine, atol=1e-3, rtol=1e-3)


def test_similarities_of_two_texts_are_no_choice_and_gradients_stay_finite() -> None:
    _, rows, _ = sample("vectors")
    loss = VectorLoss(similarity=1.0)
    pair = rows.take(np.array([0, 1]))
    student, teacher = drawn(1, 2, 5), drawn(2, 2, 5)
    torch.testing.assert_close(
        loss.soft(student, teacher, pair, temperature=1.0),
        VectorLoss().soft(student, teacher, pair, temperature=1.0),
    )
    moved = drawn(1, 4, 5).requires_grad_()
    loss.soft(moved, drawn(2, 4, 5), rows, temperature=1.0).sum().backward()
    assert moved.grad.isfinite().all()


@LAWS
@given(st.integers(0, 999), st.integers(2, 4), st.floats(0.5, 8))
def test_averaged_logits_have_the_mean_of_the_teachers_shares(
    seed: int, teachers: int, temperature: float
) -> None:
    logits = [drawn(seed + number, 5, 3) for number in range(teachers)]
    found = average_logits(logits, temperature=temperature).double().numpy()
    shares = [softmax(each.double().numpy() / temperature, axis=-1) for each in logits]
    np.testing.assert_allclose(
        softmax(found / temperature, axis=-1), np.mean(shares, axis=0), rtol=1e-3, atol=1e-6
    )


@LAWS
@given(st.integers(0, 999), st.integers(2, 4), st.floats(0.5, 8))
def test_averaged_yes_and_no_are_the_mean_of_the_teachers(
    seed: int, teachers: int, temperature: float
) -> None:
    logits = [drawn(seed + number, 5, 3) for number in range(teachers)]
    found = BernoulliLoss().average(logits, temperature=temperature)
    expected = torch.stack([(each / temperature).sigmoid() for each in logits]).mean(dim=0)
    torch.testing.assert_close((found / temperature).sigmoid(), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_one_teacher_is_his_own_average(kind: str) -> None:
    loss, _, sizes = sample(kind)
    logits = drawn(4, *sizes)
    torch.testing.assert_close(loss.average([logits], temperature=3.0), logits)


def test_numbers_and_vectors_of_several_teachers_are_averaged_as_they_are() -> None:
    one, other = drawn(1, 4, 2), drawn(2, 4, 2)
    for loss in (SquaredLoss(), VectorLoss()):
        mean = loss.average([one, other], temperature=5.0)
        torch.testing.assert_close(mean, (one + other) / 2)


def test_spans_of_several_teachers_are_refused() -> None:
    with pytest.raises(RecipeError, match="several teachers cannot be averaged"):
        SpanLoss().average([drawn(1, 4, 2), drawn(2, 4, 2)], temperature=1.0)


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        (Classification(("a", "b")), ClassLoss),
        (TokenClassification(("O", "B-X", "I-X")), ClassLoss),
        (MultiLabel(("a", "b")), BernoulliLoss),
        (Ranking(), BernoulliLoss),
        (QuestionAnswering(), SpanLoss),
        (Embedding(), VectorLoss),
        (Regression(center=2.0, scale=3.0), SquaredLoss),
    ],
)
def test_each_task_has_its_loss(task: Task, kind: type) -> None:
    assert type(loss_of(task)) is kind


def test_a_regression_s_loss_knows_its_scale() -> None:
    assert loss_of(Regression(center=2.0, scale=3.0)) == SquaredLoss(2.0, 3.0)
