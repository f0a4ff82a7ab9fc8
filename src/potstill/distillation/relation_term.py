"""Relations of one layer's queries, keys and values, on each side.

Legend: N tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from potstill.losses.relations import relation_loss
from potstill.models.encoder import Encoder
from potstill.models.layout import TextLayout


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
