"""Fill a network with the weights of a model folder, and take them out again to save them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from potstill.architectures.heads import HeadSpec
from potstill.architectures.reading import plan_reading
from potstill.bundle.folder import ModelFolder
from potstill.bundle.weights import read_tensors
from potstill.errors import ModelError
from potstill.models.task_model import TaskModel


def load_task_model(folder: ModelFolder) -> TaskModel:
    """Build the model that a folder holds, in fp32 on the CPU.

    Raises:
        ModelError: missing or misshapen weights, told together.
    """
    folder.require_complete()
    model = _empty(TaskModel, folder, folder.head)
    _fill(model, folder, folder.plan.sources)
    if folder.plan.tied_decoder is not None:
        _require_tied(model, folder, folder.plan.tied_decoder)
    return model


def load_with_new_head(folder: ModelFolder, head: HeadSpec, *, seed: int) -> TaskModel:
    """Build the folder's encoder with another head, freshly drawn from the seed.

    A pooler that the head needs is read where the folder has one, else drawn too.

    Raises:
        ModelError: weights of the encoder are missing or misshapen.
    """
    folder.require_complete()
    plan = plan_reading(folder.weights.entries, folder.config, head)
    model = _empty(TaskModel, folder, head)
    fresh = {
        name
        for name, _ in model.named_parameters()
        if name.startswith("head.") or name not in plan.sources
    }
    model.initialize(seed, only=frozenset(fresh))
    _fill(model, folder, {ours: plan.sources[ours] for ours in plan.sources if ours not in fresh})
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


def _empty(kind: type[TaskModel], folder: ModelFolder, head: HeadSpec) -> TaskModel:
    with torch.device("meta"):
        model = kind(folder.config, head)
    return model.to_empty(device="cpu")


@torch.no_grad()
def _fill(model: TaskModel, folder: ModelFolder, sources: dict[str, str]) -> None:
    parameters = {our_name(name): parameter for name, parameter in model.named_parameters()}
    ours_of = {stored: ours for ours, stored in sources.items()}
    for stored, array in read_tensors(folder.weights, list(ours_of)):
        parameters[ours_of[stored]].copy_(torch.from_numpy(array))


def _require_tied(model: TaskModel, folder: ModelFolder, stored: str) -> None:
    words = model.encoder.embeddings.words.weight.detach().numpy()
    ((_, decoder),) = read_tensors(folder.weights, [stored])
    if not np.array_equal(decoder.astype(np.float32), words):
        raise ModelError(
            f"the decoder {stored} differs from the word table",
            where=str(folder.path),
            allowed="a decoder tied to the word table",
            cure="set tie_word_embeddings and train on, or use the bare encoder",
        )
