"""Relation loss: make the student's tokens relate to each other as the teacher's do.

Relations are how alike the tokens of a text are to each other, so teacher and student may have
different widths; only the number of relation heads must be the same.

Legend: N tokens, D width, H relation heads, K width of one (D / H), B texts, L longest text.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from potstill.errors import ShapeError
from potstill.shapes import expect


def relation_loss(
    student_ND: Tensor, teacher_ND: Tensor, text_N: Tensor, place_N: Tensor, *, heads: int
) -> Tensor:
    """Return KL(teacher || student) of each token's relations to its text's tokens, in fp32.

    Args:
        student_ND: queries, keys or values of the student, (N, D).
        teacher_ND: the same of the teacher, (N, D of the teacher).
        text_N: the number of each token's text.
        place_N: each token's place inside its text.
        heads: relation heads, into which both widths are cut.

    Shapes: -> (N,), the mean over relation heads, in nats. No padding enters: a token's relations
    to places after the end of its text are left out of both distributions.

    Raises:
        ShapeError: other tokens, or a width that is no multiple of `heads`.

    Source: Wang et al. 2020, arXiv 2012.15828 (MiniLMv2), equations 3 to 5.
    """
    sizes = expect(teacher_ND, "N D", name="teacher vectors")
    expect(student_ND, "N S", name="student vectors", N=sizes["N"])
    with torch.autocast(student_ND.device.type, enabled=False):
        student_log = _log_relations(student_ND, text_N, place_N, heads)
        teacher_log = _log_relations(teacher_ND, text_N, place_N, heads)
        # Outside a text both logarithms are finite and the teacher's share is exactly 0.
        kl_BHL = (teacher_log.exp() * (teacher_log - student_log)).sum(dim=-1)
    return kl_BHL.mean(dim=1)[text_N, place_N]


def _log_relations(vectors_ND: Tensor, text_N: Tensor, place_N: Tensor, heads: int) -> Tensor:
    """Return log softmax(V V^T / sqrt(K)) inside each text, (B, H, L, L)."""
    tokens, width = vectors_ND.shape
    if width % heads:
        raise ShapeError(f"width {width} cannot be cut into {heads} relation heads")
    texts, longest = int(text_N.max()) + 1, int(place_N.max()) + 1
    padded_BLHK = vectors_ND.new_zeros(texts, longest, heads, width // heads, dtype=torch.float32)
    # Scaled before the product: there are fewer vectors than relations.
    scaled_ND = vectors_ND.float() * (width // heads) ** -0.25
    rows_NHK = scaled_ND.reshape(tokens, heads, width // heads)
    padded_BLHK = padded_BLHK.index_put((text_N, place_N), rows_NHK)
    is_token_BL = torch.zeros(texts, longest, dtype=torch.bool, device=vectors_ND.device)
    is_token_BL[text_N, place_N] = True
    padded_BHLK = padded_BLHK.transpose(1, 2)
    scores_BHLL = padded_BHLK @ padded_BHLK.transpose(-1, -2)
    hidden = torch.finfo(scores_BHLL.dtype).min
    return log_softmax(scores_BHLL.masked_fill(~is_token_BL[:, None, None, :], hidden), dim=-1)
