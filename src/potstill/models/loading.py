"""Fill a network with the weights of a model folder, and take them out again to save them."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from potstill.architectures.config import EncoderConfig
from potstill.architectures.heads import HeadSpec
from potstill.bundle.folder import ModelFolder
from potstill.bundle.named_weights import (
    Named,
    answering_plan,
    read_named,
    read_vector_map,
    require_equal_copies,
)
from potstill.models.task_model import TaskModel


def load_task_model(folder: ModelFolder) -> TaskModel:
    """Build the model that a folder holds, in fp32 on the CPU.

    Raises:
        ModelError: missing or misshapen weights, told together.
    """
    plan, head = answering_plan(folder), folder.answering_head
    model = _empty(plan.config, head)
    _fill(model, read_named(folder, plan))
    _fill(model, read_vector_map(folder, head))
    parameters = _by_our_name(model)
    require_equal_copies(folder, plan, lambda name: parameters[name].detach().numpy())
    return model


def load_with_new_head(folder: ModelFolder, head: HeadSpec, *, seed: int) -> TaskModel:
    """Build the folder's encoder with another head, freshly drawn from the seed.

    A pooler that the head needs is read where the folder has one, else drawn too.

    Raises:
        ModelError: weights of the encoder are missing or misshapen.
    """
    plan = folder.plan_with(head)
    model = _empty(plan.config, head)
    model.initialize(seed)
    _fill(model, read_named(folder, plan, without_head=True))
    return model


def tensors_of(model: nn.Module) -> dict[str, NDArray[Any]]:
    """Return the weights by our names as fp32 arrays, independent of the model's later changes."""
    return {
        our_name(name): parameter.detach().to("cpu", torch.float32).numpy().copy()
        for name, parameter in model.named_parameters()
    }


def our_name(parameter_name: str) -> str:
    """Return the table's name of a parameter: the encoder's weights carry no prefix there."""
    return parameter_name.removeprefix("encoder.")


def _empty(config: EncoderConfig, head: HeadSpec) -> TaskModel:
    with torch.device("meta"):
        model = TaskModel(config, head)
    return model.to_empty(device="cpu")


@torch.no_grad()
def _fill(model: TaskModel, weights: Named) -> None:
    parameters = _by_our_name(model)
    for name, array in weights:
        parameters[name].copy_(torch.from_numpy(array))


def _by_our_name(model: TaskModel) -> dict[str, nn.Parameter]:
    return {our_name(name): parameter for name, parameter in model.named_parameters()}
