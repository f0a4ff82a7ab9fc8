"""Relations of one layer's queries, keys and values, on each side.

Legend: N tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from potstill.architectures.config import EncoderConfig, Family
from potstill.losses.relations import relation_loss
from potstill.models.encoder import Encoder
from potstill.models.layout import TextLayout

# Of 24 layers, counted from 1. Wang et al. 2020 (MiniLMv2), section 4: of BERT-large and of
# RoBERTa-large an upper middle layer teaches more than the last; XLM-R is built as RoBERTa is.
_OF_24_LAYERS: Mapping[Family, int] = {"bert": 21, "roberta": 19, "xlm-roberta": 19}


@dataclass(frozen=True, slots=True)
class RelationTerm:
    """Which layers are compared, counted from 1, and into how many heads their vectors are cut."""

    teacher: Encoder  # its dense layers make queries, keys and values of stored states
    layers: tuple[int, int]  # of student and teacher
    heads: int = 12

    def losses(
        self, encoder: Encoder, student_ND: Tensor, teacher_ND: Tensor, layout: TextLayout
    ) -> Tensor:
        """Return the mean over queries, keys and values, (N,).

        Args:
            encoder: the student.
            student_ND: the input of its layer.
            teacher_ND: the input of the teacher's layer, without gradient.
            layout: of the texts, the same for both.
        """
        own, theirs = self.layers
        ours = encoder.queries_keys_values(own - 1, student_ND)
        with torch.no_grad():
            targets = self.teacher.queries_keys_values(theirs - 1, teacher_ND)
        places_N = layout.positions_N - encoder.config.position_offset
        losses = [
            relation_loss(own_ND, its_ND, layout.text_N, places_N, heads=self.heads)
            for own_ND, its_ND in zip(ours, targets, strict=True)
        ]
        return torch.stack(losses).mean(dim=0)


def usual_layer(teacher: EncoderConfig) -> int:
    """Return whose relations are learned where nobody says: the last, of 24 layers a lower one."""
    is_of_24 = teacher.layers == 24
    return _OF_24_LAYERS.get(teacher.family, 24) if is_of_24 else teacher.layers


def usual_heads(student: EncoderConfig, teacher: EncoderConfig) -> int:
    """Return into how many heads vectors are cut where nobody says.

    The teacher's number, or as many below it as divide the widths of both.
    """
    shared = math.gcd(student.hidden_size, teacher.hidden_size)
    return max(heads for heads in range(1, teacher.heads + 1) if shared % heads == 0)
