"""Dropout from a seed: the right share, the same mean, the same bytes."""

from __future__ import annotations

import math

import pytest
import torch

from potstill.models.noise import Noise

VALUES = 2_000_000
SIGMAS = 4.0


@pytest.mark.parametrize("probability", [0.01, 0.1, 0.5, 0.9])
def test_the_share_asked_for_is_dropped(probability: float) -> None:
    dropped = Noise(0).drop(torch.ones(VALUES), probability)
    share = float((dropped == 0).double().mean())
    sigma = math.sqrt(probability * (1 - probability) / VALUES)
    assert abs(share - probability) < SIGMAS * sigma + 2**-17


@pytest.mark.parametrize("probability", [0.01, 0.1, 0.5, 0.9])
def test_the_mean_is_kept(probability: float) -> None:
    values = torch.rand(VALUES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kept = Noise(1).drop(values, probability)
    spread = values.square().mean().sqrt() * math.sqrt(probability / (1 - probability) / VALUES)
    assert abs(kept.mean() - values.mean()) < SIGMAS * spread


@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_what_is_kept_is_scaled_alike(probability: float) -> None:
    values = torch.arange(1.0, 1001.0)
    dropped = Noise(2).drop(values, probability)
    is_kept = dropped != 0
    assert 0 < int(is_kept.sum()) < 1000
    torch.testing.assert_close(
        dropped[is_kept], values[is_kept] / (1 - probability), rtol=1e-4, atol=0.0
    )


def test_the_same_seed_gives_the_same_mask_and_another_another() -> None:
    ones = torch.ones(8, 50)
    first = Noise(5, 7).drop(ones, 0.3)
    assert torch.equal(Noise(5, 7).drop(ones, 0.3), first)
    for other in (Noise(5, 8), Noise(6, 7), Noise(7, 5), Noise(5, 7, 0, 1), Noise(5)):
        assert not torch.equal(other.drop(ones, 0.3), first)


def test_one_stream_never_gives_one_mask_twice() -> None:
    noise = Noise(5)
    ones = torch.ones(400)
    assert not torch.equal(noise.drop(ones, 0.5), noise.drop(ones, 0.5))


def test_the_mask_is_the_one_that_was_drawn_before() -> None:
    is_kept = Noise(3, 1, 4).drop(torch.ones(24), 0.5) != 0
    assert "".join("-x"[kept] for kept in is_kept.tolist()) == "-x---xx-xx--x-xxxxxx---x"


def test_torchs_own_generator_is_neither_read_nor_moved() -> None:
    torch.manual_seed(1)
    first = Noise(5).drop(torch.ones(400), 0.5)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(Noise(5).drop(torch.ones(400), 0.5), first)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_no_probability_costs_nothing() -> None:
    values = torch.ones(3)
    assert Noise(0).drop(values, 0.0) is values


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 5)])
def test_shape_and_dtype_stay(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    dropped = Noise(0).drop(torch.ones(shape, dtype=dtype), 0.5)
    assert dropped.dtype == dtype
    assert dropped.shape == shape


def test_the_gradient_goes_through_what_was_kept() -> None:
    values = torch.ones(1000, requires_grad=True)
    dropped = Noise(0).drop(values, 0.25)
    dropped.sum().backward()
    assert torch.equal(values.grad, dropped.detach())


def test_the_gradient_is_dropped_with_the_same_mask() -> None:
    values = torch.rand(400, generator=torch.Generator().manual_seed(0)).add_(1.0).requires_grad_()
    left = Noise(4).drop(values, 0.3)
    left.sum().backward()
    assert values.grad is not None
    torch.testing.assert_close(values.grad, left.detach() / values.detach())
