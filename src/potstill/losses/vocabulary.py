"""Losses over the whole vocabulary, in chunks of positions, so that memory stays bounded.

The logits of a masked-LM head are by far the widest thing of a training: 30,522 numbers a position.
They are never kept. Each chunk's logits are made, turned into losses and at once into the gradient
of what they were made of, and dropped before the next chunk; the backward pass only scales. The
gradient is as large as the word table: where it is known beforehand how both losses will be
weighed, one is enough for both.

Two losses share the same logits: soft targets at every position given (the teacher's distribution,
or the words it finds likeliest), hard targets where one is known (the hidden token).

Legend: P positions, R those of a chunk, B those of a block of it, D the student's width, E the
teacher's, V vocabulary, K likeliest words.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import log_softmax, softmax

from potstill.shapes import expect

NO_TARGET = -1
_LEAST = 1e-6  # probability that is left to all other words
_CHUNK = 512  # positions at once: 31 MB of products in bf16 at 30,522 words
_ROWS = 32  # of them, whose logits are handled at once on a CPU: 4 MB in fp32
_BLOCK = 2_048  # words whose gradient is added at once


@dataclass(frozen=True, slots=True)
class Decoder:
    """The last products of a masked-LM head: features times a word table, plus a bias."""

    features_PD: Tensor  # what the table is multiplied with
    words_VD: Tensor
    bias_V: Tensor

    def logits(self, places_R: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the logits of some positions, (R, V), in fp32."""
        return self.with_bias(self.products(places_R, dtype))

    def products(self, places_R: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the logits of some positions less the bias, (R, V), in the dtype of products."""
        return self.features_PD[places_R].to(dtype) @ self.words_VD.T

    def with_bias(self, products_BV: Tensor) -> Tensor:
        """Return the logits of such products in fp32; products in fp32 are overwritten."""
        return products_BV.float().add_(self.bias_V)


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
        sums = _Sums(student, teacher, how, has_gradient=any(ctx.needs_input_grad[:3]))
        places_P = torch.arange(len(features_PD), device=features_PD.device)
        if teacher is None:  # nobody speaks at the other positions
            places_P = places_P[targets_P != NO_TARGET]
        for places_R in torch.split(places_P, how.chunk):
            sums.add(places_R, targets_P[places_R])
        # Gradients alone: a node that holds its own outputs is a ring, and its memory stays.
        ctx.gradients, ctx.factors = sums.gradients, how.factors
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


Scored = tuple[Tensor, Tensor]  # losses of some positions, and their slopes by the logits, (B, V)


class _Sums:
    """Both losses added up over positions, and their gradients: one for both if factors say how."""

    def __init__(
        self,
        student: Decoder,
        teacher: Decoder | TopWords | None,
        how: _How,
        *,
        has_gradient: bool,
    ) -> None:
        self.student, self.teacher, self.how = student, teacher, how
        zero = torch.zeros((), dtype=torch.float32, device=student.bias_V.device)
        self.soft, self.hard = zero, zero.clone()
        is_apart = teacher is not None and how.factors is None
        self._of_soft = _Gradient(student, how.dtype) if has_gradient and is_apart else None
        self._of_hard = _Gradient(student, how.dtype) if has_gradient else None  # or of both

    @property
    def gradients(self) -> tuple[list[Tensor] | None, list[Tensor] | None]:
        """Return those of the soft and of the hard loss, or of their total in the second place."""
        soft, hard = self._of_soft, self._of_hard
        return soft.tensors if soft else None, hard.tensors if hard else None

    def add(self, places_R: Tensor, targets_R: Tensor) -> None:
        """Add some positions: soft targets if a teacher speaks, hard ones where they are known.

        Products are of all of them at once; what is done with each logit goes in blocks that stay
        in the processor's cache.
        """
        gradient = self._of_soft or self._of_hard  # of the slopes that take the products' place
        own_RV, theirs_RV = self._products(places_R)
        for rows in _blocks(len(places_R), own_RV.device):
            logits_BV = self.student.with_bias(own_RV[rows])
            known = torch.nonzero(targets_R[rows] != NO_TARGET)[:, 0]
            hard = _hard(logits_BV[known], targets_R[rows][known]) if len(known) else None
            soft = None  # of the logits from here on nothing is left
            if isinstance(self.teacher, TopWords):
                soft = _soft_top(logits_BV, self.teacher, places_R[rows], self.how.temperature)
            elif self.teacher is not None:
                theirs_BV = self.teacher.with_bias(theirs_RV[rows])
                soft = _soft(logits_BV, theirs_BV, self.how.temperature)
            self._count(soft, hard)
            if gradient is None:
                continue
            if self._of_soft and self._of_hard and hard:  # each has its own
                self._of_hard.add(places_R[rows][known], hard[1])
                hard = None
            slopes_BV = self._joined(soft, known, hard)
            gradient.add_to_bias(slopes_BV)
            own_RV[rows] = slopes_BV
        if gradient is not None:
            gradient.add_products(places_R, own_RV)

    def _products(self, places_R: Tensor) -> tuple[Tensor, Tensor]:
        """Return the student's products and the teacher's, or nothing where it is not asked."""
        own_RV = self.student.products(places_R, self.how.dtype)
        if isinstance(self.teacher, Decoder):
            return own_RV, self.teacher.products(places_R, self.how.dtype)
        return own_RV, own_RV[:, :0]

    def _count(self, soft: Scored | None, hard: Scored | None) -> None:
        if soft is not None:
            self.soft += soft[0].sum()
        if hard is not None:
            self.hard += hard[0].sum()

    def _joined(self, soft: Scored | None, known: Tensor, hard: Scored | None) -> Tensor:
        """Return the slopes of a block, of both losses by the factors that were promised."""
        if self.how.factors is not None:
            for scored, factor in zip((soft, hard), self.how.factors, strict=True):
                if scored is not None:
                    scored[1].mul_(factor)
        if soft is None:
            assert hard is not None, "without a teacher every position has a target"
            return hard[1]
        return soft[1] if hard is None else soft[1].index_add_(0, known, hard[1])


class _Gradient:
    """What a loss says of a decoder's features, words and bias, in fp32."""

    def __init__(self, student: Decoder, dtype: torch.dtype) -> None:
        self.student, self.dtype = student, dtype
        of = (student.features_PD, student.words_VD, student.bias_V)
        self.tensors = [torch.zeros_like(each, dtype=torch.float32) for each in of]

    def add(self, places_R: Tensor, slopes_RV: Tensor) -> None:
        """Add the slopes of a loss by the logits of some positions."""
        self.add_to_bias(slopes_RV)
        self.add_products(places_R, slopes_RV.to(self.dtype))

    def add_to_bias(self, slopes_RV: Tensor) -> None:
        """Add what slopes say of the bias; they are in fp32."""
        self.tensors[2] += slopes_RV.sum(dim=0)

    def add_products(self, places_R: Tensor, slopes_RV: Tensor) -> None:
        """Add what slopes say of features and words; they are in the dtype of products."""
        features_PD, words_VD, _ = self.tensors
        features_PD[places_R] = (slopes_RV @ self.student.words_VD).float()
        features_RD = self.student.features_PD[places_R].to(self.dtype)
        for start in range(0, len(words_VD), _BLOCK):  # small ones are turned to fp32 in the cache
            block = slice(start, start + _BLOCK)
            words_VD[block] += slopes_RV[:, block].T @ features_RD


def _blocks(rows: int, device: torch.device) -> list[slice]:
    """Return rows whose logits are handled at once: few on a CPU; on a card each call costs."""
    at_once = _ROWS if device.type == "cpu" else max(rows, 1)
    return [slice(start, start + at_once) for start in range(0, rows, at_once)]


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


def _soft(student_BV: Tensor, teacher_BV: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return T^2 KL(teacher || student) of each position, and its slope by the student's logits.

    Both logits are overwritten. KL is the mean of the logits' difference under the teacher, less
    the difference of what norms them: so each exponential is taken once.
    """
    own_BV, own_norm_B = _distribution(student_BV.div_(temperature))
    its_BV, its_norm_B = _distribution(teacher_BV.div_(temperature))
    apart_BV = teacher_BV.sub_(student_BV)
    losses_B = torch.linalg.vecdot(its_BV, apart_BV) - its_norm_B + own_norm_B
    return losses_B * temperature**2, own_BV.sub_(its_BV).mul_(temperature)


def _distribution(logits_BV: Tensor) -> tuple[Tensor, Tensor]:
    """Return probabilities, and log sum exp of the logits, which are first moved to 0 at most."""
    logits_BV.sub_(logits_BV.amax(dim=-1, keepdim=True))  # small numbers lose less in a difference
    p_BV = softmax(logits_BV, dim=-1)
    return p_BV, -p_BV.amax(dim=-1).log()  # the likeliest word's logit is 0


def _soft_top(
    student_BV: Tensor, teacher: TopWords, places_B: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Return T^2 KL over the words given and one outcome for all others, and its slope."""
    words_BK, log_p_BK = teacher.words_PK[places_B], teacher.log_p_PK[places_B]
    student_log = log_softmax(student_BV / temperature, dim=-1)
    slopes_BV = student_log.exp()
    p_BK = log_p_BK.exp()
    rest_B1 = (1.0 - p_BK.sum(dim=-1, keepdim=True)).clamp_min(_LEAST)
    own_BK = slopes_BV.gather(-1, words_BK)
    own_rest_B1 = (1.0 - own_BK.sum(dim=-1, keepdim=True)).clamp_min(_LEAST)
    divergence = (p_BK * (log_p_BK - student_log.gather(-1, words_BK))).sum(dim=-1)
    divergence += (rest_B1 * (rest_B1.log() - own_rest_B1.log()))[:, 0]
    slopes_BV *= 1.0 - rest_B1 / own_rest_B1  # of the words that are not given
    slopes_BV.scatter_(-1, words_BK, own_BK - p_BK)
    return divergence * temperature**2, slopes_BV * temperature


def _hard(student_BV: Tensor, targets_B: Tensor) -> tuple[Tensor, Tensor]:
    """Return -log p(target) of each position, and its slope by the logits."""
    logs_BV = log_softmax(student_BV, dim=-1)
    rows = torch.arange(len(targets_B), device=targets_B.device)
    losses_B = -logs_BV[rows, targets_B]
    slopes_BV = logs_BV.exp_()
    slopes_BV[rows, targets_B] -= 1.0
    return losses_B, slopes_BV
