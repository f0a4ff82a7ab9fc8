"""Laws of the losses of classes that do not exclude each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import ShapeError
from potstill.losses.bernoulli import bernoulli_soft_target_loss, yes_or_no_loss

LAWS = settings(deadline=None, max_examples=40)


def logits(seed: int, rows: int = 5, classes: int = 4) -> torch.Tensor:
    return 3 * torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed))


def sigmoid(values: torch.Tensor) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-values.double().numpy()))


def divergence(teacher: np.ndarray, student: np.ndarray) -> np.ndarray:
    """Return KL of each class's yes and no, the mean over classes."""
    yes = teacher * np.log(teacher / student)
    no = (1 - teacher) * np.log((1 - teacher) / (1 - student))
    return (yes + no).mean(axis=-1)


@LAWS
@given(seed=st.integers(0, 999), temperature=st.floats(0.5, 10))
def test_soft_targets_are_the_divergence_of_yes_and_no(seed: int, temperature: float) -> None:
    student, teacher = logits(seed), logits(seed + 1)
    loss_B = bernoulli_soft_target_loss(student, teacher, temperature=temperature)
    expected = divergence(sigmoid(teacher / temperature), sigmoid(student / temperature))
    np.testing.assert_allclose(loss_B.numpy(), temperature**2 * expected, rtol=2e-3, atol=2e-5)
    assert loss_B.min() > -1e-5


def test_soft_targets_are_zero_for_equal_models() -> None:
    for temperature in (0.5, 1.0, 8.0):
        loss_B = bernoulli_soft_target_loss(logits(0), logits(0), temperature=temperature)
        assert loss_B.abs().max() < 1e-6


def test_the_gradient_is_that_of_the_sigmoids() -> None:
    student, teacher, temperature = logits(1).requires_grad_(), logits(2), 3.0
    bernoulli_soft_target_loss(student, teacher, temperature=temperature).sum().backward()
    difference = sigmoid(student.detach() / temperature) - sigmoid(teacher / temperature)
    assert student.grad is not None
    np.testing.assert_allclose(student.grad.numpy(), temperature * difference / 4, atol=1e-5)


def test_the_size_of_the_gradient_is_nearly_that_of_any_temperature() -> None:
    sizes = []
    for temperature in (4.0, 8.0, 16.0):
        student = (0.1 * logits(1)).requires_grad_()
        loss_B = bernoulli_soft_target_loss(student, 0.1 * logits(2), temperature=temperature)
        loss_B.sum().backward()
        sizes.append(float(student.grad.norm()))
    assert max(sizes) < 1.02 * min(sizes)


@LAWS
@given(st.integers(0, 999))
def test_labels_are_the_log_of_what_is_true(seed: int) -> None:
    outputs = logits(seed)
    shares = torch.rand(5, 4, generator=torch.Generator().manual_seed(seed))
    shares[0] = torch.tensor([0.0, 1.0, 1.0, 0.0])
    p, t = sigmoid(outputs), shares.double().numpy()
    expected = -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean(axis=-1)
    np.testing.assert_allclose(yes_or_no_loss(outputs, shares).numpy(), expected, rtol=1e-4)


def test_labels_pull_each_class_by_its_own_error() -> None:
    outputs = logits(3).requires_grad_()
    shares = (logits(4) > 0).double()  # doubles too: what a file of numbers gives
    yes_or_no_loss(outputs, shares).sum().backward()
    expected = (sigmoid(outputs.detach()) - shares.numpy()) / 4
    np.testing.assert_allclose(outputs.grad.numpy(), expected, atol=1e-6)


def test_a_row_alone_is_a_row_in_a_batch() -> None:
    student, teacher, shares = logits(5), logits(6), (logits(7) > 0).float()
    soft, hard = (
        bernoulli_soft_target_loss(student, teacher, temperature=2.0),
        yes_or_no_loss(student, shares),
    )
    for row in range(len(student)):
        one = slice(row, row + 1)
        alone = bernoulli_soft_target_loss(student[one], teacher[one], temperature=2.0)
        torch.testing.assert_close(alone[0], soft[row])
        torch.testing.assert_close(yes_or_no_loss(student[one], shares[one])[0], hard[row])


@pytest.mark.parametrize("temperature", [0.5, 10.0])
def test_they_are_finite_in_bf16_at_extreme_logits(temperature: float) -> None:
    student = torch.tensor([[1e4, -1e4, 0.0]], dtype=torch.bfloat16, requires_grad=True)
    teacher = torch.tensor([[-1e4, 1e4, 0.0]], dtype=torch.bfloat16)
    loss_B = bernoulli_soft_target_loss(student, teacher, temperature=temperature)
    loss_B = loss_B + yes_or_no_loss(student, (teacher > 0).float())
    loss_B.sum().backward()
    assert loss_B.dtype == torch.float32
    assert loss_B.isfinite().all()
    assert student.grad.isfinite().all()


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match="both need one set of classes"):
        bernoulli_soft_target_loss(logits(0), logits(0, classes=5), temperature=1.0)
    with pytest.raises(ShapeError, match="targets"):
        yes_or_no_loss(logits(0), logits(0, rows=4))
