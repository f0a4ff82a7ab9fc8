"""Losses over the whole vocabulary, in chunks of positions, so that memory stays bounded.

The logits of a masked-LM head are by far the widest thing of a training: 30,522 numbers a position.
They are never kept. Each chunk's logits are made, turned into losses and at once into the gradient
of what they were made of, and dropped before the next chunk; the backward pass only scales. The
gradient is as large as the word table: where it is known beforehand how both losses will be
weighed, one is enough for both.

Two losses share the same logits: soft targets at every position given (the teacher's distribution,
or the words it finds likeliest), hard targets where one is known (the hidden token).

Legend: P positions, R those of a chunk, D the student's width, E the teacher's, V vocabulary,
K likeliest words.
"""

from __future__ import annotations

import math
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
_BLOCK = 2_048  # words whose gradient is added at once


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
    factors: tuple[float, float] | None = None,
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
        factors: promise that the total is the sum of both times these, times anything that they
            share. Half of the work and memory of the gradient; the same gradient.
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
            _How(temperature, chunk, dtype, factors),
        )
    return soft, hard


@dataclass(frozen=True, slots=True)
class _How:
    temperature: float
    chunk: int
    dtype: torch.dtype  # of products
    factors: tuple[float, float] | None  # of the soft and the hard loss in the total


class _InChunks(torch.autograd.Function):
    """Both sums, and in the same pass the gradient of each, or of their weighed total."""

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
        sums = _Sums(student, how, has_gradient=any(ctx.needs_input_grad[:3]))
        for start in range(0, len(features_PD), how.chunk):
            places = torch.arange(
                start, min(start + how.chunk, len(features_PD)), device=features_PD.device
            )
            logits_RV = student.logits(places, how.dtype)
            known = torch.nonzero(targets_P[places] != NO_TARGET)[:, 0]
            hard = _hard(logits_RV[known], targets_P[places[known]]) if len(known) else None
            soft = None  # of the logits from here on nothing is left
            if isinstance(teacher, TopWords):
                words_RK, log_p_RK = teacher.words_PK[places], teacher.log_p_PK[places]
                soft = _soft_top(logits_RV, words_RK, log_p_RK, how.temperature)
            elif teacher is not None:
                soft = _soft(logits_RV, teacher.logits(places, how.dtype), how.temperature)
            sums.add(places, soft, known, hard)
        # Gradients alone: a node that holds its own outputs is a ring, and its memory stays.
        ctx.gradients, ctx.factors = (sums.soft_gradient, sums.hard_gradient), how.factors
        return sums.soft, sums.hard

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, soft_scale: Tensor, hard_scale: Tensor) -> tuple[Tensor | None, ...]:
        soft, hard = ctx.gradients
        if ctx.factors is not None:
            shared = _shared(soft_scale, hard_scale, ctx.factors)
            total = hard if shared is None else [gradient * shared for gradient in hard]
            return (*total, None, None, None)
        total = [gradient * hard_scale for gradient in hard]
        for gradient, more in zip(total, soft or (), strict=False):
            gradient.addcmul_(more, soft_scale)
        return (*total, None, None, None)


Scored = tuple[Tensor, Tensor]  # losses of some positions, and their slopes by the logits, (R, V)


class _Sums:
    """Both losses added up over positions, and their gradients: one for both if factors say how."""

    def __init__(self, student: Decoder, how: _How, *, has_gradient: bool) -> None:
        self.student, self.how, self.has_gradient = student, how, has_gradient
        zero = torch.zeros((), dtype=torch.float32, device=student.bias_V.device)
        self.soft, self.hard = zero, zero.clone()
        self.soft_gradient: list[Tensor] | None = None  # of features, words and bias, in fp32
        self.hard_gradient = self._nothing() if has_gradient else None  # of both with factors

    def add(
        self, places_R: Tensor, soft: Scored | None, known_K: Tensor, hard: Scored | None
    ) -> None:
        """Add a chunk: soft targets at its places, hard ones where they are known among them."""
        if soft is not None:
            self.soft += soft[0].sum()
        if hard is not None:
            self.hard += hard[0].sum()
        if self.hard_gradient is None:
            return
        if self.how.factors is not None:
            self._add_joined(places_R, soft, known_K, hard)
            return
        if soft is not None:
            self.soft_gradient = self.soft_gradient or self._nothing()
            self._add_slopes(self.soft_gradient, places_R, soft[1])
        if hard is not None:
            self._add_slopes(self.hard_gradient, places_R[known_K], hard[1])

    def _add_joined(
        self, places_R: Tensor, soft: Scored | None, known_K: Tensor, hard: Scored | None
    ) -> None:
        assert self.how.factors is not None, "joined by factors"
        assert self.hard_gradient is not None, "joined where something is trained"
        for_soft, for_hard = self.how.factors
        if hard is not None:
            hard[1].mul_(for_hard)
        if soft is not None:
            slopes_RV = soft[1].mul_(for_soft)
            if hard is not None:
                slopes_RV.index_add_(0, known_K, hard[1])
            self._add_slopes(self.hard_gradient, places_R, slopes_RV)
        elif hard is not None:
            self._add_slopes(self.hard_gradient, places_R[known_K], hard[1])

    def _add_slopes(self, gradient: list[Tensor], places_R: Tensor, slopes_RV: Tensor) -> None:
        features_PD, words_VD, bias_V = gradient
        bias_V += slopes_RV.sum(dim=0)
        slopes_RV = slopes_RV.to(self.how.dtype)
        features_PD[places_R] = (slopes_RV @ self.student.words_VD).float()
        features_RD = self.student.features_PD[places_R].to(self.how.dtype)
        for start in range(0, len(words_VD), _BLOCK):  # small ones are turned to fp32 in the cache
            block = slice(start, start + _BLOCK)
            words_VD[block] += slopes_RV[:, block].T @ features_RD

    def _nothing(self) -> list[Tensor]:
        of = (self.student.features_PD, self.student.words_VD, self.student.bias_V)
        return [torch.zeros_like(each, dtype=torch.float32) for each in of]


def _shared(soft_scale: Tensor, hard_scale: Tensor, factors: tuple[float, float]) -> Tensor | None:
    """Return by what the promised total is multiplied, None if by 1.

    On a card, which would have to wait, neither that nor the promise is looked at.
    """
    scales = (soft_scale, hard_scale)
    leading = 0 if factors[0] else 1
    shared = scales[leading] / factors[leading]
    if soft_scale.device.type != "cpu":
        return shared
    for scale, factor in zip(scales, factors, strict=True):
        is_kept = math.isclose(float(scale), float(shared) * factor, rel_tol=1e-4, abs_tol=1e-12)
        assert is_kept, f"the total was promised to be {factors} of both losses, and is {scales}"
    return None if float(shared) == 1.0 else shared


def _soft(student_RV: Tensor, teacher_RV: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return T^2 KL(teacher || student) of each position, and its slope by the student's logits.

    Both logits are overwritten.
    """
    # What is this wide is written in place wherever it may be.
    student_log = log_softmax(student_RV.div_(temperature), dim=-1)
    del student_RV
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
