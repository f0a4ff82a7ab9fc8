"""Hidden-state alignment: make the student's states those of the teacher.

Ragged batches hold real tokens only, so no padding can enter these losses.

Legend: N tokens, D hidden width.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cosine_similarity

from potstill.shapes import expect

_HINT = "teacher and student need one width; map the student's with a projection first"


def cosine_loss(student_ND: Tensor, teacher_ND: Tensor) -> Tensor:
    """Return 1 - cosine of each token's states, in fp32.

    Shapes: two (N, D) -> (N,); 0 where both point the same way, 2 where opposite.

    Raises:
        ShapeError: different shapes.

    Source: Sanh et al. 2019, arXiv 1910.01108, section 3.
    """
    _require_alike(student_ND, teacher_ND)
    return 1.0 - cosine_similarity(student_ND.float(), teacher_ND.float(), dim=-1)


def squared_error_loss(student_ND: Tensor, teacher_ND: Tensor) -> Tensor:
    """Return the mean squared difference of each token's states, in fp32.

    Shapes: two (N, D) -> (N,).

    Raises:
        ShapeError: different shapes.

    Source: Jiao et al. 2019, arXiv 1909.10351, equation 8.
    """
    _require_alike(student_ND, teacher_ND)
    return (student_ND.float() - teacher_ND.float()).square().mean(dim=-1)


def _require_alike(student_ND: Tensor, teacher_ND: Tensor) -> None:
    sizes = expect(teacher_ND, "N D", name="teacher states")
    expect(student_ND, "N D", name="student states", hint=_HINT, **sizes)
