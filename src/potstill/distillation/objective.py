"""The objective of task distillation: what the teacher says, and the labels where there are any.

Legend: B rows of a micro-batch, N their tokens, D hidden width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potstill.distillation.layer_map import LayerMap
from potstill.distillation.relation_term import RelationTerm
from potstill.distillation.signals import Signals, Teacher
from potstill.errors import RecipeError
from potstill.losses.hidden_states import cosine_loss, squared_error_loss
from potstill.models.encoder import Encoder, EncoderOutput
from potstill.models.layout import How, TextLayout, arrange
from potstill.models.noise import Noise
from potstill.models.task_model import TaskModel
from potstill.train.answer_losses import AnswerLoss, ClassLoss
from potstill.train.learnable import Learnable
from potstill.train.objective import Int64

SOFT, HARD, COSINE, SQUARED, RELATIONS = (
    "soft_targets",
    "hard_labels",
    "hidden_cosine",
    "hidden_mse",
    "relations",
)
OF_STATES = (COSINE, SQUARED)


@dataclass(frozen=True, slots=True)
class TransferBatch:
    """Rows of a micro-batch."""

    numbers: Int64  # of the rows, for the teacher
    rows: Learnable


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillObjective:
    """Soft targets over all rows, hard labels over the labelled ones, hidden states over tokens.

    Hidden states and relations are of real tokens only: there is no padding in a ragged batch.
    """

    rows: Learnable
    teacher: Teacher
    term_weights: Mapping[str, float]  # of the terms above; those of weight 0 are left out
    temperature: float
    loss: AnswerLoss = field(default_factory=ClassLoss)  # of the task's head
    layer_map: LayerMap = ()  # for hidden_cosine and hidden_mse
    relation_layers: tuple[int, int] = (0, 0)  # of student and teacher, counted from 1
    teacher_encoder: Encoder | None = None  # its dense layers make queries, keys, values of states
    relation_heads: int = 12
    how: How = "auto"

    def __post_init__(self) -> None:
        """Refuse an objective without a term."""
        require_terms(self.term_weights)

    @property
    def weights(self) -> Mapping[str, float]:
        """Return the weights of the terms in use."""
        return {name: weight for name, weight in self.term_weights.items() if weight}

    @property
    def lengths(self) -> NDArray[np.integer]:
        """Return the tokens of each row."""
        return self.rows.texts.lengths

    def prepare(self, rows: Int64, rng: np.random.Generator) -> TransferBatch:
        """Take rows; nothing here is random."""
        del rng
        return TransferBatch(rows, self.rows.take(rows))

    def counts(self, batch: TransferBatch) -> Mapping[str, float]:
        """Return the positions of soft targets and of hard labels, tokens for the others."""
        known = {SOFT: self.loss.soft_count, HARD: self.loss.label_count}
        return {
            name: known[name](batch.rows) if name in known else float(batch.rows.texts.total_tokens)
            for name in self.weights
        }

    def loss_sums(
        self, model: TaskModel, batch: TransferBatch, noise: Noise, factors: object = None
    ) -> Mapping[str, Tensor]:
        """Return each term summed over its positions."""
        del factors
        signals = self.teacher.signals(batch.numbers)
        layout = arrange(batch.rows.texts, model.config, device=noise.device, how=self.how)
        outputs, encoded = model(layout, noise=noise, keep_states=self._needs_states)
        return {
            name: self._term(name, model, outputs, encoded, layout, signals, batch).sum()
            for name in self.weights
        }

    @property
    def _needs_states(self) -> bool:
        return any(name in self.weights for name in (*OF_STATES, RELATIONS))

    def _term(  # noqa: PLR0913 - all that a term may read
        self,
        name: str,
        model: TaskModel,
        outputs: Tensor,
        encoded: EncoderOutput,
        layout: TextLayout,
        signals: Signals,
        batch: TransferBatch,
    ) -> Tensor:
        if name == SOFT:
            return self.loss.soft(
                outputs, signals.outputs, batch.rows, temperature=self.temperature
            )
        if name == HARD:
            return self.loss.labels(outputs, batch.rows)
        if name == RELATIONS:
            return self._relations(model.encoder, encoded, layout, signals)
        loss = cosine_loss if name == COSINE else squared_error_loss
        pairs = [loss(encoded.state(own), signals.states[its]) for own, its in self.layer_map]
        return torch.stack(pairs).mean(dim=0)

    def _relations(
        self, encoder: Encoder, output: EncoderOutput, layout: TextLayout, signals: Signals
    ) -> Tensor:
        """Return the loss of each token, (N,)."""
        own, theirs = self.relation_layers
        assert self.teacher_encoder is not None, "relations need the teacher's dense layers"
        term = RelationTerm(self.teacher_encoder, self.relation_layers, self.relation_heads)
        return term.losses(encoder, output.state(own - 1), signals.states[theirs - 1], layout)


def require_terms(weights: Mapping[str, float]) -> None:
    """Check that there is something to learn from.

    Raises:
        RecipeError: every term has weight 0.
    """
    if not any(weights.values()):
        raise RecipeError(
            "all losses have weight 0",
            allowed=f"{', '.join(weights)}: at least one above 0",
            cure=f"--set {next(iter(weights), SOFT)}=0.9",
        )


def needed_states(
    weights: Mapping[str, float], layer_map: LayerMap, relation_layers: tuple[int, int]
) -> tuple[int, ...]:
    """Return the teacher's hidden states that the terms in use read."""
    indices: set[int] = set()
    if any(weights.get(name) for name in OF_STATES):
        indices.update(theirs for _, theirs in layer_map)
    if weights.get(RELATIONS):
        indices.add(relation_layers[1] - 1)
    return tuple(sorted(indices))
