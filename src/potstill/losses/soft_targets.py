"""Soft-target loss: make the student's distribution match the teacher's.

Legend: B rows (texts or tokens), C classes or words.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import log_softmax

from potstill.shapes import expect


def soft_target_loss(student_BC: Tensor, teacher_BC: Tensor, *, temperature: float) -> Tensor:
    """Return KL(teacher || student) of each row in nats, times temperature squared, in fp32.

    Shapes: two logit tensors (B, C) -> (B,). Zero where both distributions are equal. The factor
    T^2 keeps the gradient's size independent of the temperature.

    Logits must be finite: hide classes with the dtype's minimum, not with -inf (inf - inf is nan).

    Raises:
        ShapeError: teacher and student have different shapes.

    Source: Hinton, Vinyals, Dean 2015, arXiv 1503.02531, section 2.
    """
    sizes = expect(teacher_BC, "B C", name="teacher logits")
    expect(student_BC, "B C", name="student logits", hint="both need one set of classes", **sizes)
    student_log_BC = log_softmax(student_BC.float() / temperature, dim=-1)
    teacher_log_BC = log_softmax(teacher_BC.float() / temperature, dim=-1)
    kl_B = (teacher_log_BC.exp() * (teacher_log_BC - student_log_BC)).sum(dim=-1)
    return kl_B * temperature**2
