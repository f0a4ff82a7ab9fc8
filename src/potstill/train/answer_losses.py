"""What the head of each kind of task learns: from what is true, and from what a teacher says.

Each loss gives one value a position: a text, a token that counts, or a window. How many positions a
batch has is known before anything is computed, see `train.objective`.

Legend: B texts, N tokens, P positions, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cosine_similarity, log_softmax, logsigmoid

from potstill.errors import RecipeError
from potstill.losses.bernoulli import bernoulli_soft_target_loss, yes_or_no_loss
from potstill.losses.hard_labels import hard_label_loss
from potstill.losses.soft_targets import soft_target_loss
from potstill.losses.spans import span_label_loss, span_soft_target_loss
from potstill.tasks.regression import Regression
from potstill.tasks.task import Task
from potstill.train.learnable import Learnable, known_targets

Int64 = NDArray[np.int64]


class AnswerLoss(Protocol):
    """How a head's outputs are held against labels and against a teacher's outputs."""

    def label_count(self, batch: Learnable) -> float:
        """Return the positions with a label, or the sum of their weights."""
        ...

    def labels(self, outputs: Tensor, batch: Learnable) -> Tensor:
        """Return the loss of each position with a label."""
        ...

    def soft_count(self, batch: Learnable) -> float:
        """Return the positions of which a teacher speaks."""
        ...

    def soft(
        self, outputs: Tensor, teacher: Tensor, batch: Learnable, *, temperature: float
    ) -> Tensor:
        """Return the loss against the teacher's outputs at each position."""
        ...

    def average(self, teachers: Sequence[Tensor], *, temperature: float) -> Tensor:
        """Return outputs that stand for several teachers'."""
        ...


@dataclass(frozen=True, slots=True)
class ClassLoss:
    """One class a text or, where a batch says which tokens count, one a token."""

    class_weights: NDArray[np.float32] | None = None  # (C,) what a position of each class counts

    def label_count(self, batch: Learnable) -> float:
        """Return the positions with a class, or the sum of their weights."""
        targets = batch.targets[_labelled(batch)]
        if self.class_weights is None:
            return float(len(targets))
        return float(self.class_weights[targets].sum())

    def labels(self, outputs: Tensor, batch: Learnable) -> Tensor:
        """Return cross-entropy, (P,)."""
        places = _labelled(batch)
        targets = batch.targets[places]
        losses = hard_label_loss(_at(outputs, places), torch.from_numpy(targets).to(outputs.device))
        if self.class_weights is None:
            return losses
        return losses * torch.from_numpy(self.class_weights[targets]).to(outputs.device)

    def soft_count(self, batch: Learnable) -> float:
        """Return the positions."""
        return float(len(_counted(batch)))

    def soft(
        self, outputs: Tensor, teacher: Tensor, batch: Learnable, *, temperature: float
    ) -> Tensor:
        """Return KL to the teacher's distribution, (P,)."""
        places = _counted(batch)
        return soft_target_loss(_at(outputs, places), _at(teacher, places), temperature=temperature)

    def average(self, teachers: Sequence[Tensor], *, temperature: float) -> Tensor:
        """Return logits whose softmax at the temperature is the teachers' mean."""
        return average_logits(teachers, temperature=temperature)


@dataclass(frozen=True, slots=True)
class BernoulliLoss:
    """Classes that do not exclude each other, and scores from 0 to 1 as one of them."""

    def label_count(self, batch: Learnable) -> float:
        """Return the texts with labels."""
        return float(known_targets(batch.targets).sum())

    def labels(self, outputs: Tensor, batch: Learnable) -> Tensor:
        """Return binary cross-entropy, the mean over classes, (P,)."""
        places = np.flatnonzero(known_targets(batch.targets))
        targets = torch.from_numpy(batch.targets[places]).to(outputs.device)
        return yes_or_no_loss(_at(outputs, places), targets)

    def soft_count(self, batch: Learnable) -> float:
        """Return the texts."""
        return float(len(batch))

    def soft(
        self, outputs: Tensor, teacher: Tensor, batch: Learnable, *, temperature: float
    ) -> Tensor:
        """Return KL of each class's yes and no, the mean over classes, (B,)."""
        del batch
        return bernoulli_soft_target_loss(outputs, teacher, temperature=temperature)

    def average(self, teachers: Sequence[Tensor], *, temperature: float) -> Tensor:
        """Return logits whose sigmoid at the temperature is the teachers' mean."""
        if len(teachers) == 1:
            return teachers[0]
        scaled = torch.stack(list(teachers)) / temperature
        yes, no = logsigmoid(scaled).logsumexp(dim=0), logsigmoid(-scaled).logsumexp(dim=0)
        return temperature * (yes - no)


@dataclass(frozen=True, slots=True)
class SquaredLoss:
    """Numbers; the network is trained on them as deviations of `scale` around `center`.

    Source: Jiao et al. 2019, arXiv 1909.10351, for the mean squared error to teacher and label.
    """

    center: float = 0.0
    scale: float = 1.0

    def label_count(self, batch: Learnable) -> float:
        """Return the texts with a number."""
        return float(known_targets(batch.targets).sum())

    def labels(self, outputs: Tensor, batch: Learnable) -> Tensor:
        """Return the squared error of the deviations, (P,)."""
        places = np.flatnonzero(known_targets(batch.targets))
        targets = torch.from_numpy(batch.targets[places]).to(outputs.device)
        return (_at(outputs, places)[:, 0].float() - self._deviation(targets)).square()

    def soft_count(self, batch: Learnable) -> float:
        """Return the texts."""
        return float(len(batch))

    def soft(
        self, outputs: Tensor, teacher: Tensor, batch: Learnable, *, temperature: float
    ) -> Tensor:
        """Return the squared error to the teacher's number, (B,); there is no temperature."""
        del batch, temperature
        return (outputs[:, 0].float() - self._deviation(teacher[:, 0])).square()

    def average(self, teachers: Sequence[Tensor], *, temperature: float) -> Tensor:
        """Return the mean."""
        del temperature
        return torch.stack(list(teachers)).mean(dim=0)

    def _deviation(self, numbers: Tensor) -> Tensor:
        return (numbers.float() - self.center) / self.scale


@dataclass(frozen=True, slots=True)
class SpanLoss:
    """Start and end of an answer in each window."""

    def label_count(self, batch: Learnable) -> float:
        """Return the windows with an answer, "none here" included."""
        return float(known_targets(batch.targets).sum())

    def labels(self, outputs: Tensor, batch: Learnable) -> Tensor:
        """Return cross-entropy of both ends, their mean, (P,)."""
        places = np.flatnonzero(known_targets(batch.targets))
        if not len(places):
            return outputs[:0, 0]
        # A window without a target is answered "none here", and then left out.
        targets = torch.from_numpy(np.maximum(batch.targets, 0)).to(outputs.device)
        lengths, readable = _window_parts(batch, outputs.device)
        losses = span_label_loss(outputs, lengths, readable, targets)
        return _at(losses, places)

    def soft_count(self, batch: Learnable) -> float:
        """Return the windows."""
        return float(len(batch))

    def soft(
        self, outputs: Tensor, teacher: Tensor, batch: Learnable, *, temperature: float
    ) -> Tensor:
        """Return KL of both ends, their mean, (B,)."""
        lengths, readable = _window_parts(batch, outputs.device)
        return span_soft_target_loss(outputs, teacher, lengths, readable, temperature=temperature)

    def average(self, teachers: Sequence[Tensor], *, temperature: float) -> Tensor:
        """Return the one teacher's; several read different tokens, so there is no mean of theirs.

        Raises:
            RecipeError: several teachers.
        """
        del temperature
        if len(teachers) > 1:
            raise RecipeError("several teachers cannot be averaged for question answering")
        return teachers[0]


@dataclass(frozen=True, slots=True)
class VectorLoss:
    """A vector a text: made to lie where the teacher's lies, so that its index stays valid.

    Source: Vujanic, Rueckstiess 2025, arXiv 2509.12539 (LEAF), section 3: L2 to normed vectors.
    """

    similarity: float = 0.0  # weight of KL between the similarities inside a batch
    similarity_temperature: float = 0.05

    def label_count(self, batch: Learnable) -> float:
        """Return 0: nothing but a teacher says where a vector lies."""
        del batch
        return 0.0

    def labels(self, outputs: Tensor, batch: Learnable) -> Tensor:
        """Return nothing."""
        del batch
        return outputs[:0, 0]  # of these outputs, so that a step of nothing else has a gradient

    def soft_count(self, batch: Learnable) -> float:
        """Return the texts."""
        return float(len(batch))

    def soft(
        self, outputs: Tensor, teacher: Tensor, batch: Learnable, *, temperature: float
    ) -> Tensor:
        """Return 1 - cosine and, if asked, KL of similarities to the other texts, (B,)."""
        del batch, temperature
        losses = 1.0 - cosine_similarity(outputs.float(), teacher.float(), dim=-1)
        if self.similarity and len(outputs) > 2:  # one other text is no choice
            losses = losses + self.similarity * self._similarity_loss(outputs, teacher)
        return losses

    def average(self, teachers: Sequence[Tensor], *, temperature: float) -> Tensor:
        """Return the mean of the teachers' vectors."""
        del temperature
        return torch.stack(list(teachers)).mean(dim=0)

    def _similarity_loss(self, outputs: Tensor, teacher: Tensor) -> Tensor:
        """Return KL between the distributions of a text's similarity to the others, (B,)."""
        own = torch.eye(len(outputs), dtype=torch.bool, device=outputs.device)

        def logs(vectors: Tensor) -> Tensor:
            normed = torch.nn.functional.normalize(vectors.float(), dim=-1)
            scores = normed @ normed.T / self.similarity_temperature
            return log_softmax(scores.masked_fill(own, torch.finfo(scores.dtype).min), dim=-1)

        with torch.autocast(outputs.device.type, enabled=False):  # products in fp32 too
            ours, theirs = logs(outputs), logs(teacher)
        return (theirs.exp() * (theirs - ours)).sum(dim=-1)


_PLAIN: Mapping[str, Callable[[], AnswerLoss]] = {
    "classes": ClassLoss,
    "yes-or-no": BernoulliLoss,
    "spans": SpanLoss,
    "vectors": VectorLoss,
}


def loss_of(task: Task) -> AnswerLoss:
    """Return the loss of a task's head."""
    if isinstance(task, Regression):
        return SquaredLoss(task.center, task.scale)
    return _PLAIN[task.loss]()


def average_logits(logits: Sequence[Tensor], *, temperature: float) -> Tensor:
    """Return logits whose softmax at the temperature is the mean of the teachers', (…, C).

    One teacher's come back as they are.
    """
    if len(logits) == 1:
        return logits[0]
    log_shares = torch.stack([log_softmax(each / temperature, dim=-1) for each in logits])
    return temperature * (log_shares.logsumexp(dim=0) - math.log(len(logits)))


def _counted(batch: Learnable) -> Int64:
    """Return the positions whose answers count."""
    if batch.readable_N is None:
        return np.arange(len(batch.targets))
    return np.flatnonzero(batch.readable_N)


def _labelled(batch: Learnable) -> Int64:
    places = _counted(batch)
    return places[known_targets(batch.targets[places])]


def _at(values: Tensor, places: Int64) -> Tensor:
    if len(places) == len(values):
        return values
    return values[torch.from_numpy(places).to(values.device)]


def _window_parts(batch: Learnable, device: torch.device) -> tuple[Tensor, Tensor]:
    assert batch.readable_N is not None, "answers are read at some tokens only"
    lengths = torch.from_numpy(batch.texts.lengths.astype(np.int64)).to(device)
    return lengths, torch.from_numpy(batch.readable_N).to(device)
