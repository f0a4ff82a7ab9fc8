"""Laws of the losses of an answer's two ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from potstill.errors import ShapeError
from potstill.losses.spans import span_label_loss, span_soft_target_loss

LAWS = settings(deadline=None, max_examples=40)


@dataclass(frozen=True)
class Case:
    """Texts of random lengths; the first token and some others of each may be read."""

    student: torch.Tensor
    teacher: torch.Tensor
    lengths: torch.Tensor
    is_readable: torch.Tensor
    targets: torch.Tensor

    @property
    def parts(self) -> list[slice]:
        ends = self.lengths.cumsum(0).tolist()
        return [slice(end - length, end) for end, length in zip(ends, self.lengths, strict=True)]

    def label_loss(self, logits: torch.Tensor | None = None) -> torch.Tensor:
        chosen = self.student if logits is None else logits
        return span_label_loss(chosen, self.lengths, self.is_readable, self.targets)

    def soft_loss(
        self, student: torch.Tensor | None = None, temperature: float = 2.0
    ) -> torch.Tensor:
        return span_soft_target_loss(
            self.student if student is None else student,
            self.teacher,
            self.lengths,
            self.is_readable,
            temperature=temperature,
        )


def case(seed: int, texts: int = 4) -> Case:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 9, texts)
    readable, targets = [], []
    for length in lengths:
        mask = rng.random(length) < 0.6
        mask[0] = True
        readable.append(mask)
        targets.append(rng.choice(np.flatnonzero(mask), 2))
    student, teacher = (3 * rng.standard_normal((lengths.sum(), 2)) for _ in range(2))
    return Case(
        torch.tensor(student, dtype=torch.float32),
        torch.tensor(teacher, dtype=torch.float32),
        torch.tensor(lengths),
        torch.tensor(np.concatenate(readable)),
        torch.tensor(np.array(targets)),
    )


SEEDS = st.integers(0, 9_999)


@LAWS
@given(SEEDS)
def test_labels_are_minus_the_log_share_among_the_readable_tokens(seed: int) -> None:
    chosen = case(seed)
    expected = []
    for part, targets in zip(chosen.parts, chosen.targets.tolist(), strict=True):
        mask = chosen.is_readable[part].numpy()
        logs = log_softmax(chosen.student[part].double().numpy()[mask], axis=0)
        places = [int(mask[:target].sum()) for target in targets]
        expected.append(-(logs[places[0], 0] + logs[places[1], 1]) / 2)
    np.testing.assert_allclose(chosen.label_loss().numpy(), expected, rtol=1e-4, atol=1e-6)


@LAWS
@given(SEEDS, st.floats(0.5, 10))
def test_soft_targets_are_the_divergence_among_the_readable_tokens(
    seed: int, temperature: float
) -> None:
    chosen = case(seed)
    expected = []
    for part in chosen.parts:
        mask = chosen.is_readable[part].numpy()
        own, its = (
            log_softmax(logits[part].double().numpy()[mask] / temperature, axis=0)
            for logits in (chosen.student, chosen.teacher)
        )
        expected.append((np.exp(its) * (its - own)).sum(axis=0).mean() * temperature**2)
    found = chosen.soft_loss(temperature=temperature).numpy()
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=5e-5)


@LAWS
@given(SEEDS)
def test_hidden_tokens_have_no_say_and_get_no_gradient(seed: int) -> None:
    chosen = case(seed)
    hidden = ~chosen.is_readable
    moved = chosen.student.clone()
    moved[hidden] += 50.0 * torch.arange(1, 1 + 2 * int(hidden.sum())).view(-1, 2)
    torch.testing.assert_close(chosen.label_loss(moved), chosen.label_loss(), rtol=0, atol=0)
    torch.testing.assert_close(chosen.soft_loss(moved), chosen.soft_loss(), rtol=0, atol=0)
    student = chosen.student.clone().requires_grad_()
    (chosen.label_loss(student) + chosen.soft_loss(student)).sum().backward()
    assert (student.grad[hidden] == 0.0).all()
    for part in chosen.parts:  # what is left sums to nothing: shares sum to one
        assert student.grad[part].sum(dim=0).abs().max() < 1e-4


def test_readable_tokens_do_get_a_gradient() -> None:
    chosen = case(3)
    student = chosen.student.clone().requires_grad_()
    chosen.label_loss(student).sum().backward()
    several = torch.cat(
        [chosen.is_readable[part].sum().expand(part.stop - part.start) for part in chosen.parts]
    )
    moves = (student.grad != 0).any(dim=1)
    assert moves.tolist() == (chosen.is_readable & (several > 1)).tolist()
    assert moves.any()


@LAWS
@given(SEEDS)
def test_a_text_alone_is_a_text_in_a_batch(seed: int) -> None:
    chosen = case(seed)
    hard, soft = chosen.label_loss(), chosen.soft_loss()
    for text, part in enumerate(chosen.parts):
        alone = Case(
            chosen.student[part],
            chosen.teacher[part],
            chosen.lengths[text : text + 1],
            chosen.is_readable[part],
            chosen.targets[text : text + 1],
        )
        torch.testing.assert_close(alone.label_loss()[0], hard[text])
        torch.testing.assert_close(alone.soft_loss()[0], soft[text])


@LAWS
@given(SEEDS, st.floats(0.5, 10))
def test_soft_targets_are_zero_for_equal_models_and_never_negative(
    seed: int, temperature: float
) -> None:
    chosen = case(seed)
    assert chosen.soft_loss(chosen.teacher, temperature).abs().max() < 1e-6
    assert chosen.soft_loss(temperature=temperature).min() > -1e-5


def test_the_size_of_the_gradient_is_nearly_that_of_any_temperature() -> None:
    chosen, sizes = case(5), []
    for temperature in (8.0, 16.0, 32.0):
        student = (0.1 * chosen.student).requires_grad_()
        loss_B = span_soft_target_loss(
            student,
            0.1 * chosen.teacher,
            chosen.lengths,
            chosen.is_readable,
            temperature=temperature,
        )
        loss_B.sum().backward()
        sizes.append(float(student.grad.norm()))
    assert 0 < max(sizes) < 1.05 * min(sizes)


def test_they_are_finite_in_bf16_at_extreme_logits() -> None:
    chosen = case(6)
    student = (1e4 * chosen.student).bfloat16().requires_grad_()
    loss_B = chosen.label_loss(student) + chosen.soft_loss(student, temperature=0.5)
    loss_B.sum().backward()
    assert loss_B.dtype == torch.float32
    assert loss_B.isfinite().all()
    assert student.grad.isfinite().all()


def test_other_shapes_are_refused() -> None:
    chosen = case(7)
    with pytest.raises(ShapeError, match="targets"):
        span_label_loss(chosen.student, chosen.lengths, chosen.is_readable, chosen.targets[:, :1])
    with pytest.raises(ShapeError, match="is_readable"):
        span_label_loss(chosen.student, chosen.lengths, chosen.is_readable[:-1], chosen.targets)
    three = torch.zeros(len(chosen.student), 3)
    with pytest.raises(ShapeError, match="logits"):
        span_label_loss(three, chosen.lengths, chosen.is_readable, chosen.targets)
