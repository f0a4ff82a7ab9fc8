"""Laws of hidden-state alignment."""

from __future__ import annotations

import pytest
import torch

from potstill.errors import ShapeError
from potstill.losses.hidden_states import cosine_loss, squared_error_loss


def states(seed: int, tokens: int = 6, width: int = 8) -> torch.Tensor:
    return torch.randn(tokens, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("loss", [cosine_loss, squared_error_loss])
def test_equal_states_cost_nothing(loss) -> None:
    assert loss(states(0), states(0)).abs().max() < 1e-6


def test_cosine_sees_direction_only() -> None:
    torch.testing.assert_close(
        cosine_loss(3 * states(1), states(2)), cosine_loss(states(1), 0.1 * states(2))
    )
    torch.testing.assert_close(cosine_loss(states(1), -states(1)), torch.full((6,), 2.0))


def test_squared_error_is_a_mean_over_the_width() -> None:
    zero, two = torch.zeros(3, 8), torch.full((3, 8), 2.0)
    torch.testing.assert_close(squared_error_loss(zero, two), torch.full((3,), 4.0))


@pytest.mark.parametrize("loss", [cosine_loss, squared_error_loss])
def test_a_token_alone_is_a_token_in_a_batch(loss) -> None:
    whole = loss(states(3), states(4))
    torch.testing.assert_close(loss(states(3)[2:3], states(4)[2:3])[0], whole[2])


@pytest.mark.parametrize("loss", [cosine_loss, squared_error_loss])
def test_gradients_are_finite_in_bf16(loss) -> None:
    student = (100 * states(5)).bfloat16().requires_grad_()
    loss(student, states(6).bfloat16()).sum().backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("loss", [cosine_loss, squared_error_loss])
def test_other_widths_ask_for_a_projection(loss) -> None:
    with pytest.raises(ShapeError, match="projection"):
        loss(states(0, width=4), states(0))
