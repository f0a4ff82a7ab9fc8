"""The objective of general distillation: the teacher's guesses of hidden tokens, and its states.

Both see the same passages with the same tokens hidden. The vocabulary head runs at chosen positions
only: at the hidden ones, and for the soft targets at a share of the others.

Source: Sanh et al. 2019, arXiv 1910.01108, section 3 (soft targets, masked LM, cosine of the last
hidden state); Wang et al. 2020, arXiv 2012.15828 (MiniLMv2; relations).

Legend: B passages, N their tokens, P chosen positions (hidden ones first), D hidden width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potstill.distillation.narrow import StudentBesideMap
from potstill.distillation.objective import COSINE, RELATIONS, SOFT, require_terms
from potstill.distillation.relation_term import RelationTerm
from potstill.losses.hidden_states import cosine_loss
from potstill.losses.vocabulary import NO_TARGET, Decoder, vocabulary_losses
from potstill.models.encoder import EncoderOutput
from potstill.models.layout import How, TextLayout, arrange
from potstill.models.noise import Noise
from potstill.models.precision import DTYPES, Precision
from potstill.models.task_model import TaskModel
from potstill.text.masking import Masked, Masking
from potstill.train.masked_lm_objective import NAME as MASKED_LM
from potstill.train.masked_lm_objective import Passages, decoder_at
from potstill.train.objective import Int64

TERMS = (SOFT, MASKED_LM, COSINE, RELATIONS)


@dataclass(frozen=True, slots=True, eq=False)
class GeneralBatch:
    """Passages with hidden tokens, and at which positions the vocabulary is asked."""

    masked: Masked
    places: Int64  # (P,) hidden tokens first, then others
    targets: Int64  # (P,) the hidden token; NO_TARGET at the others


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneralObjective:
    """Soft targets at chosen positions, the hidden tokens, states and relations of all tokens."""

    passages: Passages
    masking: Masking
    teacher: TaskModel
    term_weights: Mapping[str, float]  # of `TERMS`; those of weight 0 are left out
    temperature: float = 2.0
    other_share: float = 1.0  # of the tokens that are not hidden: soft targets are learned there
    relation_layers: tuple[int, int] = (0, 0)  # of student and teacher, counted from 1
    relation_heads: int = 12
    precision: Precision = "fp32"  # of the teacher
    how: How = "auto"

    def __post_init__(self) -> None:
        """Refuse an objective without a term."""
        require_terms(self.term_weights)

    @property
    def weights(self) -> Mapping[str, float]:
        """Return the weights of the terms in use."""
        return {name: self.term_weights[name] for name in TERMS if self.term_weights.get(name)}

    @property
    def lengths(self) -> NDArray[np.integer]:
        """Return the tokens of each passage."""
        return self.passages.lengths

    def prepare(self, rows: Int64, rng: np.random.Generator) -> GeneralBatch:
        """Take passages, hide their share and choose where else the teacher is heard."""
        return self.asked_of(self.masking.masked(self.passages.batch(rows), rng), rng)

    def asked_of(self, masked: Masked, rng: np.random.Generator) -> GeneralBatch:
        """Choose the positions of passages whose tokens are hidden already."""
        others = np.setdiff1d(np.arange(masked.texts.total_tokens), masked.places)
        if SOFT not in self.weights:
            others = others[:0]
        elif self.other_share < 1.0:
            count = round(self.other_share * len(others))
            others = np.sort(rng.choice(others, count, replace=False))
        unknown = np.full(len(others), NO_TARGET, dtype=np.int64)
        return GeneralBatch(
            masked,
            np.concatenate([masked.places, others]),
            np.concatenate([masked.targets, unknown]),
        )

    def counts(self, batch: GeneralBatch) -> Mapping[str, float]:
        """Return chosen positions, hidden tokens, and for the others all tokens."""
        known = {SOFT: len(batch.places), MASKED_LM: len(batch.masked.places)}
        tokens = batch.masked.texts.total_tokens
        return {name: float(known.get(name, tokens)) for name in self.weights}

    def loss_sums(
        self, model: TaskModel, batch: GeneralBatch, noise: Noise | None
    ) -> Mapping[str, Tensor]:
        """Return each term summed over its positions."""
        device = next(model.parameters()).device
        layout = arrange(batch.masked.texts, model.config, device=device, how=self.how)
        places = torch.from_numpy(batch.places).to(device)
        theirs, its_words = self._heard(batch, places)
        ours = model.encode(layout, noise=noise, keep_states=RELATIONS in self.weights)
        sums: dict[str, Tensor] = {}
        if SOFT in self.weights or MASKED_LM in self.weights:
            soft, hard = vocabulary_losses(
                decoder_at(model, ours.last[places]),
                torch.from_numpy(batch.targets).to(device),
                its_words,
                temperature=self.temperature,
            )
            sums |= {SOFT: soft, MASKED_LM: hard}
        if COSINE in self.weights:
            sums[COSINE] = cosine_loss(_at_width_of_teacher(model, ours.last), theirs.last).sum()
        if RELATIONS in self.weights:
            sums[RELATIONS] = self._relations(model, ours, theirs, layout)
        return {name: sums[name] for name in self.weights}

    @torch.no_grad()
    def _heard(self, batch: GeneralBatch, places: Tensor) -> tuple[EncoderOutput, Decoder | None]:
        """Run the teacher on the same passages; return its states and its last products."""
        with torch.autocast(
            places.device.type, dtype=DTYPES[self.precision], enabled=self.precision != "fp32"
        ):
            layout = arrange(
                batch.masked.texts, self.teacher.config, device=places.device, how=self.how
            )
            output = self.teacher.encode(layout, keep_states=RELATIONS in self.weights)
            words = decoder_at(self.teacher, output.last[places]) if SOFT in self.weights else None
        return output, words

    def _relations(
        self, model: TaskModel, ours: EncoderOutput, theirs: EncoderOutput, layout: TextLayout
    ) -> Tensor:
        own, its = self.relation_layers
        term = RelationTerm(self.teacher.encoder, self.relation_layers, self.relation_heads)
        losses_N = term.losses(model.encoder, ours.state(own - 1), theirs.state(its - 1), layout)
        return losses_N.sum()


def _at_width_of_teacher(model: TaskModel, states_ND: Tensor) -> Tensor:
    """Return the student's states as they are, or through its map if it is narrower."""
    if not isinstance(model, StudentBesideMap):
        return states_ND
    mapped: Tensor = model.to_teacher(states_ND)
    return mapped
