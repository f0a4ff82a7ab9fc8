"""Laws of the soft-target loss."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import kl_div, log_softmax, softmax

from potstill.errors import ShapeError
from potstill.losses.soft_targets import soft_target_loss


def logits(seed: int, rows: int = 5, classes: int = 4) -> torch.Tensor:
    return 3 * torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed))


def test_it_is_zero_for_equal_models() -> None:
    same = logits(0)
    assert soft_target_loss(same, same, temperature=2.0).abs().max() < 1e-6


@given(seed=st.integers(0, 999), temperature=st.floats(0.5, 10))
def test_it_is_never_negative(seed: int, temperature: float) -> None:
    loss_B = soft_target_loss(logits(seed), logits(seed + 1), temperature=temperature)
    assert loss_B.min() > -1e-5


def test_it_equals_torch_s_divergence_times_temperature_squared() -> None:
    student, teacher, temperature = logits(1), logits(2), 3.0
    expected = kl_div(
        log_softmax(student / temperature, dim=-1),
        softmax(teacher / temperature, dim=-1),
        reduction="none",
    ).sum(-1)
    got = soft_target_loss(student, teacher, temperature=temperature)
    torch.testing.assert_close(got, expected * temperature**2)


def test_a_constant_added_to_a_row_changes_nothing() -> None:
    student, teacher = logits(3), logits(4)
    moved = soft_target_loss(student + 7, teacher - 2, temperature=2.0)
    torch.testing.assert_close(moved, soft_target_loss(student, teacher, temperature=2.0))


def test_a_row_alone_is_a_row_in_a_batch() -> None:
    student, teacher = logits(5), logits(6)
    whole = soft_target_loss(student, teacher, temperature=2.0)
    for row in range(len(whole)):
        alone = soft_target_loss(student[row : row + 1], teacher[row : row + 1], temperature=2.0)
        torch.testing.assert_close(alone[0], whole[row])


@pytest.mark.parametrize("temperature", [0.5, 10.0])
def test_it_is_finite_in_bf16_at_extreme_logits(temperature: float) -> None:
    student = torch.tensor([[1e4, -1e4, 0.0]], dtype=torch.bfloat16, requires_grad=True)
    teacher = torch.tensor([[-1e4, 1e4, 0.0]], dtype=torch.bfloat16)
    soft_target_loss(student, teacher, temperature=temperature).sum().backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_the_gradient_s_size_hardly_depends_on_a_high_temperature() -> None:
    sizes = []
    for temperature in (8.0, 16.0):
        student = (0.1 * logits(7)).requires_grad_()
        soft_target_loss(student, 0.1 * logits(8), temperature=temperature).sum().backward()
        assert student.grad is not None
        sizes.append(float(student.grad.norm()))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)


def test_other_classes_raise_an_error_that_names_both() -> None:
    with pytest.raises(ShapeError, match=r"length 6 on axis C.*not 5"):
        soft_target_loss(logits(0, classes=6), logits(0, classes=5), temperature=1.0)
