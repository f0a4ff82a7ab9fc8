"""Fill a network with the weights of a model folder, and take them out again to save them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from potstill.architectures.config import EncoderConfig
from potstill.architectures.heads import HeadSpec
from potstill.architectures.names import VECTOR_MAP
from potstill.bundle.folder import ModelFolder
from potstill.bundle.weights import WeightFiles, read_tensors
from potstill.errors import ModelError
from potstill.models.task_model import TaskModel


def load_task_model(folder: ModelFolder) -> TaskModel:
    """Build the model that a folder holds, in fp32 on the CPU.

    Raises:
        ModelError: missing or misshapen weights, told together.
    """
    folder.require_complete()
    head = folder.answering_head
    plan = folder.plan if head == folder.head else folder.plan_with(head)
    model = _empty(plan.config, head)
    _fill(model, folder, plan.sources)
    _require_equal_copies(model, folder, plan.copies)
    if folder.vector_map is not None:
        _fill_vector_map(model, folder.vector_map)
    return model


def load_with_new_head(folder: ModelFolder, head: HeadSpec, *, seed: int) -> TaskModel:
    """Build the folder's encoder with another head, freshly drawn from the seed.

    A pooler that the head needs is read where the folder has one, else drawn too.

    Raises:
        ModelError: weights of the encoder are missing or misshapen.
    """
    plan = folder.plan_with(head)
    model = _empty(plan.config, head)
    stored = {ours: name for ours, name in plan.sources.items() if not ours.startswith("head.")}
    model.initialize(seed)
    _fill(model, folder, stored)
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
def _fill(model: TaskModel, folder: ModelFolder, sources: dict[str, str]) -> None:
    parameters = {our_name(name): parameter for name, parameter in model.named_parameters()}
    ours_of = {stored: ours for ours, stored in sources.items()}
    for stored, array in read_tensors(folder.weights, list(ours_of)):
        parameters[ours_of[stored]].copy_(torch.from_numpy(array))


@torch.no_grad()
def _fill_vector_map(model: TaskModel, weights: WeightFiles) -> None:
    """Read the dense map of a sentence-transformers folder, which has a file of its own."""
    parameters = dict(model.named_parameters())
    for ours, theirs in VECTOR_MAP.items():
        (array,) = (array for _, array in read_tensors(weights, [theirs]))
        if array.shape != parameters[ours].shape:
            raise ModelError(
                f"{theirs} has shape {array.shape}, config.json asks for "
                f"{tuple(parameters[ours].shape)}",
                where=str(weights.files[0]),
            )
        parameters[ours].copy_(torch.from_numpy(array))


def _require_equal_copies(model: TaskModel, folder: ModelFolder, copies: dict[str, str]) -> None:
    """Refuse a second spelling that says something else: which one was trained is unknown."""
    parameters = {our_name(name): parameter for name, parameter in model.named_parameters()}
    for stored, array in read_tensors(folder.weights, list(copies)):
        weight = parameters[copies[stored]].detach().numpy()
        if not np.array_equal(array.astype(np.float32), weight):
            raise ModelError(
                f"{stored} differs from {folder.plan.sources[copies[stored]]}, with which it is "
                "tied",
                where=str(folder.path),
                allowed="a decoder tied to the word table, and one bias",
                cure="use the bare encoder: remove architectures and the head from a copy",
            )
