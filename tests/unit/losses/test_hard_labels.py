"""The hard-label loss: numpy's and scikit-learn's value, row by row, finite in bf16."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn.metrics import log_loss

from potstill.errors import ShapeError
from potstill.losses.hard_labels import hard_label_loss


@st.composite
def cases(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits (B, C) and targets (B,)."""
    rows, classes = draw(st.integers(1, 6)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = draw(st.sampled_from([0.1, 1.0, 30.0]))
    logits = torch.from_numpy(rng.normal(0, scale, (rows, classes)).astype(np.float32))
    return logits, torch.from_numpy(rng.integers(0, classes, rows))


Case = tuple[torch.Tensor, torch.Tensor]


@settings(deadline=None)
@given(cases())
def test_it_is_the_negative_logarithm_of_the_right_class(case: Case) -> None:
    logits, targets = case
    expected = -log_softmax(logits.double().numpy(), axis=-1)[np.arange(len(targets)), targets]
    np.testing.assert_allclose(hard_label_loss(logits, targets), expected, rtol=1e-5, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(cases())
def test_its_mean_is_scikit_learns(case: Case) -> None:
    logits, targets = case
    logits = logits / 10  # scikit-learn cuts probabilities that are too small
    expected = log_loss(targets, logits.double().softmax(-1).numpy(), labels=range(logits.shape[1]))
    assert float(hard_label_loss(logits, targets).mean()) == pytest.approx(
        expected, rel=1e-5, abs=1e-6
    )


@settings(deadline=None)
@given(cases())
def test_a_row_alone_has_the_loss_that_it_has_in_a_batch(case: Case) -> None:
    logits, targets = case
    together = hard_label_loss(logits, targets)
    alone = [hard_label_loss(logits[[row]], targets[[row]]) for row in range(len(targets))]
    torch.testing.assert_close(torch.cat(alone), together, rtol=1e-6, atol=1e-6)


@settings(deadline=None)
@given(cases(), st.floats(-50.0, 50.0))
def test_it_is_never_negative_and_blind_to_a_constant(case: Case, constant: float) -> None:
    logits, targets = case
    loss = hard_label_loss(logits, targets)
    assert bool((loss >= 0).all())
    torch.testing.assert_close(
        hard_label_loss(logits + constant, targets), loss, rtol=1e-3, atol=1e-3
    )


def test_equal_logits_cost_the_logarithm_of_the_classes() -> None:
    loss = hard_label_loss(torch.zeros(2, 5), torch.tensor([0, 4]))
    torch.testing.assert_close(loss, torch.full((2,), float(np.log(5))))


@pytest.mark.parametrize("size", [1e2, 1e4, 3e38])
@pytest.mark.parametrize("target", [0, 1])
def test_in_bf16_loss_and_gradient_are_finite_at_any_logits(size: float, target: int) -> None:
    logits = torch.tensor([[size, -size, 0.0]], dtype=torch.bfloat16, requires_grad=True)
    loss = hard_label_loss(logits * 0.5, torch.tensor([target]))
    assert loss.dtype == torch.float32
    assert bool(loss.isfinite().all())
    loss.sum().backward()
    assert bool(logits.grad.isfinite().all())
    assert logits.grad.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("logits", "targets", "told"),
    [
        ((4, 3), (5,), r"targets has length 5 on axis B of \(B\), not 4"),
        ((4,), (4,), r"logits has shape \(4,\), but 2 axes \(B C\)"),
        ((2, 4, 3), (2, 4), r"logits has shape \(2, 4, 3\), but 2 axes"),
        ((4, 3), (4, 1), r"targets has shape \(4, 1\), but 1 axes"),
    ],
)
def test_wrong_shapes_are_told(
    logits: tuple[int, ...], targets: tuple[int, ...], told: str
) -> None:
    with pytest.raises(ShapeError, match=told):
        hard_label_loss(torch.zeros(logits), torch.zeros(targets, dtype=torch.int64))
