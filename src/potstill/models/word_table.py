"""The look-up of word rows, for a table that a decoder multiplies with as well.

Two uses of one table make two gradients of its size, and their sum a third: 94 MB each at 30,522
words of width 768. So the look-up hands the table on, a tied decoder takes what was handed on, and
in the backward pass the looked-up rows are added to the gradient that comes back from there. Where
none comes back they are added to what an earlier micro-batch of the step left in the table's own
`grad`: so `torch.autograd.grad` may not be asked for a table that has one.

Legend: V vocabulary, N tokens, D hidden width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding


def look_up(table_VD: Tensor, ids_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows of some words, (N, D), and the table for whoever uses it further, (V, D)."""
    if table_VD.device.type != "cpu" or not (torch.is_grad_enabled() and table_VD.requires_grad):
        # On a card torch's own gradient is summed in a fixed order, and memory is less scarce.
        return embedding(ids_N, table_VD), table_VD
    rows_ND, onward_VD = _LookUp.apply(table_VD, ids_N)  # type: ignore[no-untyped-call] # torch's own
    return rows_ND, onward_VD


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table_VD: Tensor, ids_N: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)  # where nobody used it further there is nothing to add to
        ctx.save_for_backward(ids_N, table_VD)
        return embedding(ids_N, table_VD), table_VD.view_as(table_VD)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, rows_ND: Tensor | None, onward_VD: Tensor | None
    ) -> tuple[Tensor | None, None]:
        ids_N, table_VD = ctx.saved_tensors
        if rows_ND is None:
            return onward_VD, None
        if onward_VD is None and table_VD.is_leaf and table_VD.grad is not None:
            table_VD.grad.index_add_(0, ids_N, rows_ND)
            return None, None
        # What comes back was made for this table alone, so it may be added to where it lies.
        total_VD = torch.zeros_like(table_VD) if onward_VD is None else onward_VD
        return total_VD.index_add_(0, ids_N, rows_ND), None
