"""Losses over the whole vocabulary, in chunks of positions, so that memory stays bounded.

The logits of a masked-LM head are by far the widest thing of a training: 30,522 numbers a position.
They are never kept. Each chunk's logits are made, turned into losses and at once into the gradient
of what they were made of, and dropped before the next chunk; the backward pass only scales.

Two losses share the same logits: soft targets at every position given (the teacher's distribution,
or the words it finds likeliest), hard targets where one is known (the hidden token).

Legend: P positions, R those of a chunk, D the student's width, E the teacher's, V vocabulary,
K likeliest words.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import log_softmax

from potstill.shapes import expect

NO_TARGET = -1
_LEAST = 1e-6  # probability that is left to all other words
_CHUNK = 256  # positions at once: 31 MB of fp32 logits at 30,522 words


@dataclass(frozen=True, slots=True)
class Decoder:
    """The last products of a masked-LM head: features times a word table, plus a bias."""

    features_PD: Tensor  # what the table is multiplied with
    words_VD: Tensor
    bias_V: Tensor

    def logits(self, places_R: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the logits of some positions, (R, V), in fp32."""
        products_RV = self.features_PD[places_R].to(dtype) @ self.words_VD.T
        return products_RV.float().add_(self.bias_V)


@dataclass(frozen=True, slots=True)
class TopWords:
    """What is kept of a teacher's distribution: its likeliest words; all others are one outcome."""

    words_PK: Tensor  # token ids
    log_p_PK: Tensor  # of these words, at the temperature of the soft targets


def vocabulary_losses(
    student: Decoder,
    targets_P: Tensor,
    teacher: Decoder | TopWords | None = None,
    *,
    temperature: float = 1.0,
    chunk: int = _CHUNK,
) -> tuple[Tensor, Tensor]:
    """Return the sums over positions of the soft-target loss and of the hard-label loss, in nats.

    Args:
        student: gradients reach its features, words and bias.
        targets_P: the right token, or `NO_TARGET`.
        teacher: speaks at every position; None: the first sum is 0. Of `TopWords` the loss is the
            KL of their words and of "any other word": never above that of all words, and equal to
            it if the student shares out the rest as the teacher does.
        temperature: of the soft targets; their loss is multiplied by its square.
        chunk: positions at once; memory only.

    Shapes: two scalars in fp32. They are the sums of `soft_target_loss` and `hard_label_loss` of
    the same logits; tests hold that. Products run in autocast's dtype where it is on.

    Raises:
        ShapeError: positions or vocabularies that do not belong together.

    Source: Hinton, Vinyals, Dean 2015, arXiv 1503.02531, section 2; chunks as in Hsu et al. 2024,
    arXiv 2410.10989 (Liger), section 3.2, there for one loss.
    """
    sizes = expect(student.features_PD, "P D", name="features")
    words = expect(student.words_VD, "V D", name="words", D=sizes["D"])
    expect(targets_P, "P", name="targets", P=sizes["P"])
    if isinstance(teacher, TopWords):
        kept = expect(teacher.words_PK, "P K", name="teacher words", P=sizes["P"])
        expect(teacher.log_p_PK, "P K", name="teacher log p", P=sizes["P"], K=kept["K"])
    elif teacher is not None:
        expect(teacher.features_PD, "P E", name="teacher features", P=sizes["P"])
        expect(teacher.words_VD, "V E", name="teacher words", hint="one vocabulary", V=words["V"])
    kind = student.features_PD.device.type
    is_cast = torch.is_autocast_enabled(kind)
    dtype = torch.get_autocast_dtype(kind) if is_cast else student.words_VD.dtype
    with torch.autocast(kind, enabled=False):
        soft, hard = _InChunks.apply(  # type: ignore[no-untyped-call] # torch leaves it unannotated
            student.features_PD,
            student.words_VD,
            student.bias_V,
            targets_P,
            teacher,
            _How(temperature, chunk, dtype),
        )
    return soft, hard


@dataclass(frozen=True, slots=True)
class _How:
    temperature: float
    chunk: int
    dtype: torch.dtype  # of products


class _InChunks(torch.autograd.Function):
    """Both sums, and in the same pass the gradient of each."""

    @staticmethod
    def forward(  # noqa: PLR0913 - torch hands in each tensor by itself
        ctx: Any,
        features_PD: Tensor,
        words_VD: Tensor,
        bias_V: Tensor,
        targets_P: Tensor,
        teacher: Decoder | TopWords | None,
        how: _How,
    ) -> tuple[Tensor, Tensor]:
        student = Decoder(features_PD, words_VD.to(how.dtype), bias_V)
        if isinstance(teacher, Decoder):
            teacher = replace(teacher, words_VD=teacher.words_VD.to(how.dtype))
        is_trained = any(ctx.needs_input_grad[:3])
        soft = _Sum(student, how.dtype, has_gradient=is_trained and teacher is not None)
        hard = _Sum(student, how.dtype, has_gradient=is_trained)
        for start in range(0, len(features_PD), how.chunk):
            places = torch.arange(
                start, min(start + how.chunk, len(features_PD)), device=features_PD.device
            )
            logits_RV = student.logits(places, how.dtype)
            if isinstance(teacher, TopWords):
                words_RK, log_p_RK = teacher.words_PK[places], teacher.log_p_PK[places]
                soft.add(*_soft_top(logits_RV, words_RK, log_p_RK, how.temperature), places)
            elif teacher is not None:
                theirs_RV = teacher.logits(places, how.dtype)
                soft.add(*_soft(logits_RV, theirs_RV, how.temperature), places)
            known = torch.nonzero(targets_P[places] != NO_TARGET)[:, 0]
            if len(known):
                hard.add(*_hard(logits_RV[known], targets_P[places[known]]), places[known])
        # Gradients alone: a node that holds its own outputs is a ring, and its memory stays.
        ctx.gradients = soft.gradients, hard.gradients
        return soft.value, hard.value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, soft_scale: Tensor, hard_scale: Tensor) -> tuple[Tensor | None, ...]:
        soft, hard = ctx.gradients
        total = [gradient * hard_scale for gradient in hard]
        for gradient, more in zip(total, soft or (), strict=False):
            gradient.addcmul_(more, soft_scale)
        return (*total, None, None, None)


class _Sum:
    """A loss added up over positions, and its gradient."""

    def __init__(self, student: Decoder, dtype: torch.dtype, *, has_gradient: bool) -> None:
        self.student, self.dtype = student, dtype
        self.value = torch.zeros((), dtype=torch.float32, device=student.bias_V.device)
        self.gradients: list[Tensor] | None = None  # of features, words and bias, in fp32
        if has_gradient:
            of = (student.features_PD, student.words_VD, student.bias_V)
            self.gradients = [torch.zeros_like(each, dtype=torch.float32) for each in of]

    def add(self, losses_R: Tensor, slopes_RV: Tensor, places_R: Tensor) -> None:
        """Add some positions' losses, whose slopes by the logits are given."""
        self.value += losses_R.sum()
        if self.gradients is None:
            return
        features_PD, words_VD, bias_V = self.gradients
        bias_V += slopes_RV.sum(dim=0)
        slopes_RV = slopes_RV.to(self.dtype)
        features_PD[places_R] = (slopes_RV @ self.student.words_VD).float()
        words_VD += slopes_RV.T @ self.student.features_PD[places_R].to(self.dtype)


def _soft(student_RV: Tensor, teacher_RV: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return T^2 KL(teacher || student) of each position, and its slope by the student's logits.

    The teacher's logits are overwritten.
    """
    # What is this wide is written in place wherever it may be.
    student_log = log_softmax(student_RV / temperature, dim=-1)
    teacher_log = log_softmax(teacher_RV.div_(temperature), dim=-1)
    teacher = torch.exp(teacher_log, out=teacher_RV)
    losses_R = teacher_log.sub_(student_log).mul_(teacher).sum(dim=-1) * temperature**2
    return losses_R, student_log.exp_().sub_(teacher).mul_(temperature)


def _soft_top(
    student_RV: Tensor, words_RK: Tensor, log_p_RK: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Return T^2 KL over the words given and one outcome for all others, and its slope."""
    student_log = log_softmax(student_RV / temperature, dim=-1)
    slopes_RV = student_log.exp()
    p_RK = log_p_RK.exp()
    rest_R1 = (1.0 - p_RK.sum(dim=-1, keepdim=True)).clamp_min(_LEAST)
    own_RK = slopes_RV.gather(-1, words_RK)
    own_rest_R1 = (1.0 - own_RK.sum(dim=-1, keepdim=True)).clamp_min(_LEAST)
    divergence = (p_RK * (log_p_RK - student_log.gather(-1, words_RK))).sum(dim=-1)
    divergence += (rest_R1 * (rest_R1.log() - own_rest_R1.log()))[:, 0]
    slopes_RV *= 1.0 - rest_R1 / own_rest_R1  # of the words that are not given
    slopes_RV.scatter_(-1, words_RK, own_RK - p_RK)
    return divergence * temperature**2, slopes_RV * temperature


def _hard(student_RV: Tensor, targets_R: Tensor) -> tuple[Tensor, Tensor]:
    """Return -log p(target) of each position, and its slope by the logits."""
    logs_RV = log_softmax(student_RV, dim=-1)
    rows = torch.arange(len(targets_R), device=targets_R.device)
    losses_R = -logs_RV[rows, targets_R]
    slopes_RV = logs_RV.exp_()
    slopes_RV[rows, targets_R] -= 1.0
    return losses_R, slopes_RV
