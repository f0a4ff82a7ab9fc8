"""Attention inside each text of a ragged batch, by the kernel that serves the device best.

Legend: N tokens, B texts, R rows, T tokens of a row, H heads, K head width, D = H * K.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from potstill.models.noise import Noise


class Arrangement(Protocol):
    """How the tokens of a batch lie while they attend."""

    def attend(
        self,
        query_ND: Tensor,
        key_ND: Tensor,
        value_ND: Tensor,
        *,
        heads: int,
        noise: Noise | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        """Return for each token the mean of its text's values, weighted by attention, (N, D)."""
        ...

    def attend_first(
        self,
        query_BD: Tensor,
        key_ND: Tensor,
        value_ND: Tensor,
        *,
        heads: int,
        noise: Noise | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        """Do the same for the first token of each text alone, (B, D)."""
        ...


@dataclass(frozen=True, slots=True)
class Rows:
    """Texts in rows of one width: one text a row (padded) or several (packed)."""

    slots_N: Tensor  # place of each token among the R * T slots
    rows: int  # R
    width: int  # T
    attends: Tensor | None  # (R, 1, 1 or T, T) bool, True: this key may be seen; None: all

    def attend(
        self,
        query_ND: Tensor,
        key_ND: Tensor,
        value_ND: Tensor,
        *,
        heads: int,
        noise: Noise | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        """Return (N, D): see `Arrangement.attend`."""
        query_RHTK, key_RHTK, value_RHTK = (
            self._heads(self._laid_out(flat), heads) for flat in (query_ND, key_ND, value_ND)
        )
        mixed_RHTK = attend_in_rows(
            query_RHTK, key_RHTK, value_RHTK, self.attends, noise=noise, dropout=dropout
        )
        mixed_SD = mixed_RHTK.transpose(1, 2).reshape(self.rows * self.width, -1)
        return mixed_SD if self._is_full else taken_out(mixed_SD, self.slots_N)

    def attend_first(
        self,
        query_BD: Tensor,
        key_ND: Tensor,
        value_ND: Tensor,
        *,
        heads: int,
        noise: Noise | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        """Return (B, D): see `Arrangement.attend_first`. Each row must hold one text."""
        assert query_BD.shape[0] == self.rows, "one text a row: pass the padded arrangement"
        key_RHTK, value_RHTK = (
            self._heads(self._laid_out(flat), heads) for flat in (key_ND, value_ND)
        )
        query_RH1K = query_BD.view(self.rows, 1, heads, -1).transpose(1, 2)
        mixed_RH1K = attend_in_rows(
            query_RH1K, key_RHTK, value_RHTK, self.attends, noise=noise, dropout=dropout
        )
        return mixed_RH1K.reshape(self.rows, -1)

    @property
    def _is_full(self) -> bool:
        """Tell whether the rows hold no empty slot and keep the tokens' order."""
        return self.attends is None

    def _laid_out(self, flat_ND: Tensor) -> Tensor:
        """Put tokens into their slots, zeros elsewhere: (N, D) -> (R * T, D)."""
        if self._is_full:
            return flat_ND
        return _put_in(flat_ND, self.slots_N, self.rows * self.width)

    def _heads(self, rows_SD: Tensor, heads: int) -> Tensor:
        """Split into heads: (R * T, D) -> (R, H, T, K)."""
        return rows_SD.view(self.rows, self.width, heads, -1).transpose(1, 2)


@dataclass(frozen=True, slots=True)
class FlatTexts:
    """Texts laid end to end for a variable-length kernel: CUDA, bf16 or fp16."""

    offsets_B1: Tensor  # (B + 1,) int32
    longest: int

    def attend(
        self,
        query_ND: Tensor,
        key_ND: Tensor,
        value_ND: Tensor,
        *,
        heads: int,
        noise: Noise | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        """Return (N, D): see `Arrangement.attend`. The kernel knows no dropout: none is done."""
        del noise, dropout
        return self._kernel(query_ND, key_ND, value_ND, self.offsets_B1, self.longest, heads)

    def attend_first(
        self,
        query_BD: Tensor,
        key_ND: Tensor,
        value_ND: Tensor,
        *,
        heads: int,
        noise: Noise | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        """Return (B, D): see `Arrangement.attend_first`."""
        del noise, dropout
        texts = query_BD.shape[0]
        starts_B1 = torch.arange(texts + 1, dtype=torch.int32, device=query_BD.device)
        return self._kernel(query_BD, key_ND, value_ND, starts_B1, 1, heads)

    def _kernel(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        query_offsets: Tensor,
        longest_query: int,
        heads: int,
    ) -> Tensor:
        from torch.nn.attention.varlen import varlen_attn

        mixed = varlen_attn(
            query.view(query.shape[0], heads, -1),
            key.view(key.shape[0], heads, -1),
            value.view(value.shape[0], heads, -1),
            query_offsets,
            self.offsets_B1,
            longest_query,
            self.longest,
        )
        assert isinstance(mixed, Tensor), "varlen_attn returns one tensor unless asked for more"
        return mixed.reshape(query.shape)


def has_flat_attention(device: torch.device) -> bool:
    """Tell whether this torch offers variable-length attention on the device."""
    return (
        device.type == "cuda" and importlib.util.find_spec("torch.nn.attention.varlen") is not None
    )


class _PutIn(torch.autograd.Function):
    """Copy tokens into their slots; the gradient takes them out again.

    Each slot holds one token at most, which autograd cannot know: its own backward of taking out
    adds up into every slot, ten times slower on CPU.
    """

    @staticmethod
    def forward(ctx: Any, flat_ND: Tensor, slots_N: Tensor, slots: int) -> Tensor:
        ctx.save_for_backward(slots_N)
        return flat_ND.new_zeros(slots, flat_ND.shape[-1]).index_copy_(0, slots_N, flat_ND)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (slots_N,) = ctx.saved_tensors
        return gradients[0].index_select(0, slots_N), None, None


class _TakeOut(torch.autograd.Function):
    """Copy tokens out of their slots; the gradient puts them in again."""

    @staticmethod
    def forward(ctx: Any, slots_SD: Tensor, slots_N: Tensor) -> Tensor:
        ctx.save_for_backward(slots_N)
        ctx.slots = slots_SD.shape[0]
        return slots_SD.index_select(0, slots_N)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (slots_N,) = ctx.saved_tensors
        empty_SD = gradients[0].new_zeros(ctx.slots, gradients[0].shape[-1])
        return empty_SD.index_copy_(0, slots_N, gradients[0]), None


def _put_in(flat_ND: Tensor, slots_N: Tensor, slots: int) -> Tensor:
    laid_out: Tensor = _PutIn.apply(flat_ND, slots_N, slots)  # type: ignore[no-untyped-call] # torch's own
    return laid_out


def taken_out(slots_SD: Tensor, slots_N: Tensor) -> Tensor:
    """Return some rows, (S, D) -> (N, D), each of them once: that makes its gradient cheap."""
    flat: Tensor = _TakeOut.apply(slots_SD, slots_N)  # type: ignore[no-untyped-call] # torch's own
    return flat


def attend_in_rows(  # noqa: PLR0913 - three tensors and how to treat them
    query_RHQK: Tensor,
    key_RHTK: Tensor,
    value_RHTK: Tensor,
    attends: Tensor | None,
    *,
    noise: Noise | None = None,
    dropout: float = 0.0,
    writes_out: bool | None = None,
) -> Tensor:
    """Return softmax(query . key / sqrt(K)) . value per row and head, (R, H, Q, K).

    Args:
        query_RHQK: the queries; Q is T, or 1 for a last layer cut to first positions.
        key_RHTK: the keys.
        value_RHTK: the values.
        attends: True where a key may be seen, broadcast to (R, H, Q, T); None: everywhere.
        noise: drops attention weights.
        dropout: with this probability.
        writes_out: whether to write out the two products instead of calling torch's fused kernel.
            None: on CPU in bf16, where that is faster (docs/decisions/0004-attention-on-cpu.md).
            Where weights are dropped they always are: the fused kernel has no dropout of ours.

    Source: Vaswani et al. 2017, arXiv 1706.03762, equation 1.
    """
    if writes_out is None:
        writes_out = query_RHQK.device.type == "cpu" and query_RHQK.dtype == torch.bfloat16
    if not writes_out and (noise is None or dropout <= 0.0):
        return scaled_dot_product_attention(query_RHQK, key_RHTK, value_RHTK, attn_mask=attends)
    scores = (query_RHQK / math.sqrt(query_RHQK.shape[-1])) @ key_RHTK.transpose(-1, -2)
    if attends is not None:
        scores = scores.masked_fill(~attends, torch.finfo(scores.dtype).min)
    # The kernel sums in fp32 whatever the dtype of its input.
    weights = scores.softmax(dim=-1)
    if noise is not None:
        weights = noise.drop(weights, dropout)
    return weights.to(value_RHTK.dtype) @ value_RHTK
