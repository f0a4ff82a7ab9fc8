"""Numbers of any size, trained as deviations of size one; the last layer holds the scale.

A head's last layer is linear, so "times scale plus center" can be moved into its weights exactly.
"""

from __future__ import annotations

import torch
from torch import nn

from potstill.models.task_model import TaskModel


@torch.no_grad()
def answer_in_deviations(model: TaskModel, *, center: float, scale: float) -> TaskModel:
    """Make a head that answers numbers answer (number - center) / scale, in place."""
    output = _last_layer(model)
    output.weight.div_(scale)
    output.bias.sub_(center).div_(scale)
    return model


@torch.no_grad()
def answer_in_numbers(model: TaskModel, *, center: float, scale: float) -> TaskModel:
    """Make a head that answers deviations answer numbers again, in place."""
    output = _last_layer(model)
    output.weight.mul_(scale)
    output.bias.mul_(scale).add_(center)
    return model


def _last_layer(model: TaskModel) -> nn.Linear:
    assert model.head is not None, "a model without a head answers no numbers"
    output = model.head.output
    assert isinstance(output, nn.Linear), "the last layer is linear"
    return output
