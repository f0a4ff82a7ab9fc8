"""A narrower student: fewer dimensions inside, and a map back to the teacher's width.

The student's word table is the teacher's, seen from the directions in which its words differ most,
and every weight that reads or writes hidden states is turned into these directions; attention heads
and inner feed-forward units are left out whole. Norms mix dimensions, so little of what the layers
did survives: unlike taking layers out, this start is far from the teacher and must be trained long.

A student of vectors keeps its map: it gives vectors of the teacher's width, which can be searched
for in its index, and stays in the model as the step Dense of sentence-transformers. A student of
all text has its map for the training alone, where its states are compared with the teacher's.

Source: Vujanic, Rueckstiess 2025, arXiv 2509.12539 (LEAF), section 3, and Jiao et al. 2019, arXiv
1909.10351 (TinyBERT), equation 8, for the map; the start is ours.

Legend: V words, D the teacher's width, K the student's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from potstill.architectures.config import EncoderConfig
from potstill.architectures.heads import HeadSpec
from potstill.errors import RecipeError
from potstill.models.loading import our_name
from potstill.models.task_model import TaskModel

Student = TypeVar("Student", bound=TaskModel)


def narrow_config(config: EncoderConfig, width: int) -> EncoderConfig:
    """Return a config of another width, with heads of the same size.

    Raises:
        RecipeError: the width is no multiple of a head's, or not below the present one.
    """
    size = config.hidden_size // config.heads
    if config.heads == 1:
        raise RecipeError(
            f"width is {width}, and a model of one attention head cannot be made narrower",
            allowed="a teacher of several heads",
            cure="leave width out",
        )
    if not 0 < width < config.hidden_size or width % size:
        raise RecipeError(
            f"width is {width}",
            allowed=f"multiples of {size}, the width of an attention head, below "
            f"{config.hidden_size}",
        )
    return replace(
        config,
        hidden_size=width,
        heads=width // size,
        feed_forward_size=config.feed_forward_size * width // config.hidden_size,
    )


class StudentBesideMap(TaskModel):
    """A narrower student, and the map from its hidden states to the teacher's width."""

    def __init__(self, config: EncoderConfig, spec: HeadSpec, teacher_width: int) -> None:
        super().__init__(config, spec)
        self.to_teacher = nn.Linear(config.hidden_size, teacher_width, bias=False)

    def alone(self) -> TaskModel:
        """Return the student without the map, with the same weights."""
        student = TaskModel(self.config, self.spec)
        student.load_state_dict(
            {
                name: tensor
                for name, tensor in self.state_dict().items()
                if not name.startswith("to_teacher.")
            }
        )
        return student.to(self.to_teacher.weight.device)


def narrow(model: TaskModel, width: int) -> TaskModel:
    """Return a narrower model of vectors, with a map to the width that the vectors had."""
    assert model.spec.kind == "embedding", "only a vector can be mapped back"
    spec = replace(model.spec, width=model.spec.width or model.config.hidden_size)
    return _narrowed(model, TaskModel(narrow_config(model.config, width), spec))


def narrow_beside_map(model: TaskModel, width: int) -> StudentBesideMap:
    """Return a narrower masked-LM model and a map that begins as the way back."""
    assert model.spec.kind == "masked-lm", "general distillation is of masked-LM models"
    student = StudentBesideMap(
        narrow_config(model.config, width), model.spec, model.config.hidden_size
    )
    return _narrowed(model, student)


@torch.no_grad()
def _narrowed(model: TaskModel, student: Student) -> Student:
    directions_DK = _main_directions(
        model.encoder.embeddings.words.weight, student.config.hidden_size
    )
    weights = {our_name(name): each.detach() for name, each in model.named_parameters()}
    for name, parameter in student.named_parameters():
        if name.startswith("to_teacher."):
            parameter.copy_(directions_DK)
        else:
            parameter.copy_(_seen_from(our_name(name), weights, directions_DK, student))
    return student


def _main_directions(words_VD: Tensor, width: int) -> Tensor:
    """Return the directions in which words differ most, orthonormal, (D, K)."""
    centered = words_VD.detach().double() - words_VD.detach().double().mean(dim=0)
    _, vectors_DD = torch.linalg.eigh(centered.T @ centered)  # in rising order
    main_DK: Tensor = vectors_DD.flip(1)[:, :width].to(words_VD.dtype)
    return main_DK


def _seen_from(
    name: str, weights: dict[str, Tensor], directions_DK: Tensor, student: TaskModel
) -> Tensor:
    """Return one weight of the student."""
    config = student.config
    if name.startswith("head.") and "norm." not in name:
        return _of_head(name, weights, directions_DK, student.spec)
    weight = weights[name]
    if "norm." in name:  # it scales dimension by dimension: the mean scale, no offset
        is_scale = name.endswith("weight")
        return torch.full((config.hidden_size,), float(weight.mean()) if is_scale else 0.0)
    if name.startswith("embeddings."):
        return weight @ directions_DK
    inner = config.hidden_size if "attention." in name else config.feed_forward_size
    is_written_out = name.split(".", 2)[2].startswith(("attention.output", "feed_forward.down"))
    if name.endswith("bias"):
        return weight @ directions_DK if is_written_out else weight[:inner]
    if is_written_out:
        return directions_DK.T @ weight[:, :inner]
    return weight[:inner] @ directions_DK


def _of_head(
    name: str, weights: dict[str, Tensor], directions_DK: Tensor, spec: HeadSpec
) -> Tensor:
    """Return a weight of the map back, or of the masked-LM head (its decoder: the word table)."""
    if name.startswith("head.output."):
        return _map_back(name, weights, directions_DK, spec)
    if name == "head.decoder.bias":  # one number a word, whatever the width
        return weights[name]
    turned = weights[name] @ directions_DK
    return turned if name.endswith("bias") else directions_DK.T @ turned


def _map_back(
    name: str, weights: dict[str, Tensor], directions_DK: Tensor, spec: HeadSpec
) -> Tensor:
    """Return the map from the student's directions to the vectors of the teacher."""
    if name.endswith("bias"):
        known = weights.get(name)
        return known if known is not None else torch.zeros(spec.width or 0)
    known = weights.get(name)
    return directions_DK if known is None else known @ directions_DK
