"""A student with an exact start: the teacher with layers taken out, nothing drawn anew.

Two architectures: the teacher's own, or DistilBERT's, which has no token types and no pooler. There
the vector of token type 0, which every token of a single text reads, is folded into the positions,
so that the embedding output stays the teacher's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from potstill.architectures.config import EncoderConfig
from potstill.architectures.heads import HeadSpec
from potstill.errors import RecipeError
from potstill.models.loading import our_name
from potstill.models.task_model import TaskModel

Architecture = Literal["auto", "teacher", "distilbert"]
ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)


def student_config(
    teacher: EncoderConfig, layers: int, *, architecture: str = "auto", has_pairs: bool = False
) -> EncoderConfig:
    """Return the config of a student of `layers` layers.

    Args:
        teacher: the teacher's config.
        layers: of the student.
        architecture: "teacher", "distilbert", or "auto": DistilBERT's for single texts and BERT
            teachers, else the teacher's own.
        has_pairs: rows have two segments, which DistilBERT cannot tell apart.

    Raises:
        RecipeError: an unknown architecture, or DistilBERT's where it cannot hold the teacher.
    """
    if architecture not in ARCHITECTURES:
        raise RecipeError(f"architecture is {architecture!r}", allowed=", ".join(ARCHITECTURES))
    why_not = _why_not_distilbert(teacher)
    if architecture == "distilbert" and why_not:
        raise RecipeError(
            f"a student of architecture distilbert cannot hold this teacher: {why_not}",
            where="--architecture",
            cure="--architecture teacher",
        )
    is_own = architecture == "teacher" or (
        architecture == "auto" and (has_pairs or why_not is not None)
    )
    if is_own:
        return replace(teacher, layers=layers)
    return replace(teacher, layers=layers, family="distilbert", token_types=0, pooler=False)


def cut_student(teacher: TaskModel, config: EncoderConfig, kept: Sequence[int]) -> TaskModel:
    """Return a student with the teacher's embeddings, the layers `kept` and the teacher's head.

    The head of a BERT teacher becomes DistilBERT's like this: tanh(z) is read as
    relu(z + 1) - 1, which is equal in value and slope at 0 and below, and the 1 goes into biases.
    """
    assert len(kept) == config.layers, "one teacher layer for each of the student's"
    student = TaskModel(config, teacher.spec)
    weights = _cut_weights(teacher, config, kept)
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            parameter.copy_(weights.pop(our_name(name)))
    assert not weights, f"weights without a place in the student: {sorted(weights)}"
    return student


def _cut_weights(
    teacher: TaskModel, config: EncoderConfig, kept: Sequence[int]
) -> dict[str, Tensor]:
    """Return the student's weights by our names."""
    weights: dict[str, Tensor] = {}
    place_of = {layer: place for place, layer in enumerate(kept)}
    for name, parameter in _named(teacher).items():
        if not name.startswith("layers."):
            weights[name] = parameter
            continue
        _, layer, rest = name.split(".", 2)
        if int(layer) in place_of:
            weights[f"layers.{place_of[int(layer)]}.{rest}"] = parameter
    if config.family == "distilbert" and teacher.config.family != "distilbert":
        _fold_token_types(weights)
        _turn_pooler_into_head(weights, teacher.spec)
    return weights


def _named(model: nn.Module) -> dict[str, Tensor]:
    return {our_name(name): parameter.detach() for name, parameter in model.named_parameters()}


def _fold_token_types(weights: dict[str, Tensor]) -> None:
    types = weights.pop("embeddings.token_types.weight", None)
    if types is not None:
        weights["embeddings.positions.weight"] = weights["embeddings.positions.weight"] + types[0]


def _turn_pooler_into_head(weights: dict[str, Tensor], spec: HeadSpec) -> None:
    """Make DistilBERT's dense layer, ReLU and classifier of BERT's pooler, tanh and classifier."""
    pooler_weight = weights.pop("pooler.weight", None)
    pooler_bias = weights.pop("pooler.bias", None)
    if spec.kind != "classification" or spec.pooling == "mean":
        return
    assert pooler_weight is not None, "a BERT classifier reads the pooler"
    assert pooler_bias is not None, "a BERT classifier reads the pooler"
    weights["head.dense.weight"] = pooler_weight
    weights["head.dense.bias"] = pooler_bias + 1.0
    weights["head.output.bias"] = weights["head.output.bias"] - weights["head.output.weight"].sum(1)


def _why_not_distilbert(teacher: EncoderConfig) -> str | None:
    if teacher.family not in {"bert", "distilbert"}:
        return f"{teacher.family} counts positions from another row"
    if teacher.norm_epsilon != 1e-12:
        return f"its norm_epsilon is {teacher.norm_epsilon:g}, DistilBERT's is fixed at 1e-12"
    return None
