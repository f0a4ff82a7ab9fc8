"""Losses of classes that do not exclude each other: each is a yes or no of its own.

Legend: B rows (texts), C classes.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from potstill.shapes import expect


def yes_or_no_loss(logits_BC: Tensor, targets_BC: Tensor) -> Tensor:
    """Return the mean over classes of -log of what is true, in nats, in fp32.

    Shapes: logits and shares from 0 (no) to 1 (yes), both (B, C) -> (B,).

    Raises:
        ShapeError: different shapes.
    """
    sizes = expect(logits_BC, "B C", name="logits")
    expect(targets_BC, "B C", name="targets", B=sizes["B"], C=sizes["C"])
    losses_BC = binary_cross_entropy_with_logits(
        logits_BC.float(), targets_BC.float(), reduction="none"
    )
    return losses_BC.mean(dim=-1)


def bernoulli_soft_target_loss(
    student_BC: Tensor, teacher_BC: Tensor, *, temperature: float
) -> Tensor:
    """Return the mean over classes of KL(teacher || student) in nats, times temperature squared.

    Each class is a distribution over yes and no. Shapes: two logit tensors (B, C) -> (B,), fp32.

    Raises:
        ShapeError: teacher and student have different shapes.

    Source: Hinton, Vinyals, Dean 2015, arXiv 1503.02531, section 2, for two outcomes a class.
    """
    sizes = expect(teacher_BC, "B C", name="teacher logits")
    expect(student_BC, "B C", name="student logits", hint="both need one set of classes", **sizes)
    student, teacher = student_BC.float() / temperature, teacher_BC.float() / temperature
    yes = teacher.sigmoid() * (logsigmoid(teacher) - logsigmoid(student))
    no = (-teacher).sigmoid() * (logsigmoid(-teacher) - logsigmoid(-student))
    return (yes + no).mean(dim=-1) * temperature**2
