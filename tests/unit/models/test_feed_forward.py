"""The widest states of a layer are computed again for the gradient, which stays what it is."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any
from weakref import ref

import pytest
import torch
from torch import Tensor, nn

from potstill.architectures.presets import preset
from potstill.models.encoder import FeedForward


def cast(precision: str) -> AbstractContextManager[object]:
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_gradients_are_those_of_the_plain_layers(precision: str) -> None:
    torch.manual_seed(0)
    layer = FeedForward(preset("all-minilm-l6"))
    states = torch.randn(5, layer.up.in_features)
    found = []
    for run in (layer, nn.Sequential(layer.up, nn.GELU(), layer.down)):
        layer.zero_grad()
        own = states.clone().requires_grad_()
        with cast(precision):
            output = run(own)
        output.float().square().sum().backward()
        found.append([output, own.grad, *(each.grad for each in layer.parameters())])
    for ours, plain in zip(*found, strict=True):
        assert torch.equal(ours, plain)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_nothing_holds_the_active_states_until_the_gradient(precision: str) -> None:
    layer = FeedForward(preset("all-minilm-l6"))
    made: list[Any] = []

    def watched(widened: Tensor) -> Tensor:
        active = nn.functional.gelu(widened)
        made.append(ref(active))
        return active

    layer.activation = watched
    with cast(precision):
        output = layer(torch.randn(5, layer.up.in_features))
    assert made[0]() is None
    output.float().sum().backward()
    assert len(made) == 2
