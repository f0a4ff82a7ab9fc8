"""Losses of an answer's two ends: one distribution over a text's readable tokens for each.

Question, special and other unreadable tokens are hidden before the softmax, in teacher and student
alike; hidden tokens get no probability and no gradient.

Legend: N tokens, B texts, L longest text, 2 ends (start, end).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from potstill.shapes import expect


def span_label_loss(
    logits_N2: Tensor, lengths_B: Tensor, is_readable_N: Tensor, targets_B2: Tensor
) -> Tensor:
    """Return -log p(start) and -log p(end), averaged over the two, in nats, in fp32.

    Args:
        logits_N2: of start and end at each token.
        lengths_B: tokens of each text; they sum to N.
        is_readable_N: tokens that an answer may begin or end at, at least one a text.
        targets_B2: places inside the text, counted from 0; both must be readable.

    Shapes: -> (B,).

    Raises:
        ShapeError: shapes that do not belong together.

    Source: Devlin et al. 2018, arXiv 1810.04805, section 4.2.
    """
    sizes = expect(lengths_B, "B", name="lengths")
    expect(targets_B2, "B E", name="targets", B=sizes["B"], E=2)
    logs_BL2 = _log_shares(logits_N2, lengths_B, is_readable_N, temperature=1.0)
    found_B2 = logs_BL2.gather(1, targets_B2[:, None, :])[:, 0]
    return -found_B2.mean(dim=-1)


def span_soft_target_loss(
    student_N2: Tensor,
    teacher_N2: Tensor,
    lengths_B: Tensor,
    is_readable_N: Tensor,
    *,
    temperature: float,
) -> Tensor:
    """Return KL(teacher || student) of start and end, averaged, times temperature squared, in fp32.

    Shapes: two (N, 2) -> (B,), in nats.

    Raises:
        ShapeError: shapes that do not belong together.

    Source: transformers' run_squad_w_distillation.py, with hidden positions masked out.
    """
    student = _log_shares(student_N2, lengths_B, is_readable_N, temperature=temperature)
    teacher = _log_shares(teacher_N2, lengths_B, is_readable_N, temperature=temperature)
    # Where nothing may be read both logarithms are finite and the teacher's share is exactly 0.
    kl_B2 = (teacher.exp() * (teacher - student)).sum(dim=1)
    return kl_B2.mean(dim=-1) * temperature**2


def _log_shares(
    logits_N2: Tensor, lengths_B: Tensor, is_readable_N: Tensor, *, temperature: float
) -> Tensor:
    """Return log softmax over each text's readable tokens, (B, L, 2)."""
    sizes = expect(logits_N2, "N E", name="logits", E=2)
    expect(is_readable_N, "N", name="is_readable", N=sizes["N"])
    texts, longest = lengths_B.shape[0], int(lengths_B.max())
    text_N = torch.repeat_interleave(torch.arange(texts, device=lengths_B.device), lengths_B)
    starts_B = lengths_B.cumsum(0) - lengths_B
    place_N = torch.arange(sizes["N"], device=lengths_B.device) - starts_B[text_N]
    hidden = torch.finfo(torch.float32).min
    shown_N2 = (logits_N2.float() / temperature).masked_fill(~is_readable_N[:, None], hidden)
    padded_BL2 = shown_N2.new_full((texts, longest, 2), hidden)
    padded_BL2 = padded_BL2.index_put((text_N, place_N), shown_N2)
    return log_softmax(padded_BL2, dim=1)
