"""The objective of general distillation: the teacher's guesses of hidden tokens, and its states.

Both see the same passages with the same tokens hidden. The vocabulary head runs at chosen positions
only: at the hidden ones, and for the soft targets at a share of the others. The teacher is run at
every step, or was run once and is read from disk.

Source: Sanh et al. 2019, arXiv 1910.01108, section 3 (soft targets, masked LM, cosine of the last
hidden state); Wang et al. 2020, arXiv 2012.15828 (MiniLMv2; relations).

Legend: B passages, N their tokens, P chosen positions (hidden ones first), D hidden width, E the
teacher's.
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
from potstill.distillation.stored_guesses import Guessed, Guesses
from potstill.losses.hidden_states import cosine_loss
from potstill.losses.vocabulary import NO_TARGET, Decoder, TopWords, vocabulary_losses
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
class StoredPlaces:
    """Where the answers of a teacher that was asked before stand on disk."""

    rows: Int64  # passages, in any order: they are read in that of their numbers
    order: Int64  # (P,) of the positions as they are read, hidden ones first


@dataclass(frozen=True, slots=True, eq=False)
class GeneralBatch:
    """Passages with hidden tokens, and at which positions the vocabulary is asked."""

    masked: Masked
    places: Int64  # (P,) hidden tokens first, then others
    targets: Int64  # (P,) the hidden token; NO_TARGET at the others
    stored: StoredPlaces | None = None  # what the teacher says; None: it is asked now


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What the teacher says of a batch."""

    words: Decoder | TopWords | None  # at the positions
    last_PD: Tensor | None  # the last hidden states at the positions
    states: Mapping[int, Tensor]  # (N, D) by index: i is the output after layer i


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneralObjective:
    """Soft targets and last states at chosen positions, hidden tokens, relations of all tokens.

    The last layer is computed at the chosen positions alone, on both sides; relations without any
    other term need the layers below theirs only.
    """

    passages: Passages
    masking: Masking
    teacher: TaskModel
    term_weights: Mapping[str, float]  # of `TERMS`; those of weight 0 are left out
    temperature: float = 2.0
    other_share: float = 1.0  # of the tokens that are not hidden: the teacher is heard there
    relation_layers: tuple[int, int] = (0, 0)  # of student and teacher, counted from 1
    relation_heads: int = 12
    precision: Precision = "fp32"  # of the teacher
    how: How = "auto"
    stored: Guesses | None = None  # instead of asking the teacher at every step

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
        """Take passages, hide their share and choose where else the teacher is heard.

        A whole step is prepared before its first batch is computed, so what a stored teacher says
        stays on disk until then.
        """
        if self.stored is not None:
            return batch_of_stored(rows, self.stored.read(rows, signals=False))
        return self.asked_of(self.masking.masked(self.passages.batch(rows), rng), rng)

    def asked_of(self, masked: Masked, rng: np.random.Generator) -> GeneralBatch:
        """Choose the positions of passages whose tokens are hidden already."""
        others = np.setdiff1d(np.arange(masked.texts.total_tokens), masked.places)
        if not {SOFT, COSINE} & set(self.weights):
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
        """Return chosen positions, hidden tokens, and for relations all tokens."""
        known = {
            SOFT: len(batch.places),
            MASKED_LM: len(batch.masked.places),
            COSINE: len(batch.places),
            RELATIONS: batch.masked.texts.total_tokens,
        }
        return {name: float(known[name]) for name in self.weights}

    def loss_sums(
        self,
        model: TaskModel,
        batch: GeneralBatch,
        noise: Noise | None,
        factors: Mapping[str, float] | None = None,
    ) -> Mapping[str, Tensor]:
        """Return each term summed over its positions."""
        device = next(model.parameters()).device
        layout = arrange(batch.masked.texts, model.config, device=device, how=self.how)
        places = torch.from_numpy(batch.places).to(device)
        theirs = self._heard(batch, places)
        own_depth, _ = self._depths
        ours = model.encode(
            layout,
            noise=noise,
            keep_states=RELATIONS in self.weights,
            at_P=places,
            depth=own_depth,
        )
        sums: dict[str, Tensor] = {}
        if SOFT in self.weights or MASKED_LM in self.weights:
            # Without soft targets the vocabulary is asked for the hidden tokens, the first ones.
            asked = len(batch.places if SOFT in self.weights else batch.masked.places)
            soft, hard = vocabulary_losses(
                decoder_at(model, ours.last[:asked], ours.words_VD),
                torch.from_numpy(batch.targets[:asked]).to(device),
                theirs.words,
                temperature=self.temperature,
                factors=_of_both(factors),
            )
            sums |= {SOFT: soft, MASKED_LM: hard}
        if COSINE in self.weights:
            assert theirs.last_PD is not None, "states are heard where they are compared"
            states_PE = _at_width_of_teacher(model, ours.last)
            sums[COSINE] = cosine_loss(states_PE, theirs.last_PD).sum()
        if RELATIONS in self.weights:
            sums[RELATIONS] = self._relations(model, ours, theirs, layout)
        return {name: sums[name] for name in self.weights}

    @property
    def states_heard(self) -> tuple[int, ...]:
        """Return which of the teacher's hidden states are compared with."""
        wanted = {self.teacher.config.layers} if COSINE in self.weights else set()
        if RELATIONS in self.weights:
            wanted.add(self.relation_layers[1] - 1)
        return tuple(sorted(wanted))

    @property
    def _depths(self) -> tuple[int | None, int | None]:
        """Return how many layers of student and teacher the terms read; None: all."""
        if set(self.weights) != {RELATIONS}:
            return None, None
        own, its = self.relation_layers
        return own - 1, its - 1

    def _heard(self, batch: GeneralBatch, places: Tensor) -> Heard:
        """Return what the teacher says: now, or as it was stored."""
        if batch.stored is not None:
            assert self.stored is not None, "of this objective"
            found = self.stored.read(batch.stored.rows)
            last = self.teacher.config.layers
            return _heard_of_stored(found, batch.stored.order, places, last=last)
        return self.ask(batch, places)

    @torch.no_grad()
    def ask(self, batch: GeneralBatch, places: Tensor, *, is_whole: bool = False) -> Heard:
        """Run the teacher on the same passages; return its last products and its states.

        Args:
            batch: the passages.
            places: where its last layer is heard.
            is_whole: give its last states at all tokens too.
        """
        with torch.autocast(
            places.device.type, dtype=DTYPES[self.precision], enabled=self.precision != "fp32"
        ):
            layout = arrange(
                batch.masked.texts, self.teacher.config, device=places.device, how=self.how
            )
            _, depth = self._depths
            output = self.teacher.encode(
                layout,
                keep_states=RELATIONS in self.weights or is_whole,
                at_P=None if is_whole else places,
                depth=depth,
            )
            last_PD, words = None, None
            if depth is None:
                last_PD = output.last[places] if is_whole else output.last
                words = decoder_at(self.teacher, last_PD) if SOFT in self.weights else None
        kept = [at for at in self.states_heard if is_whole or at < self.teacher.config.layers]
        return Heard(words, last_PD, {index: output.state(index) for index in kept})

    def _relations(
        self, model: TaskModel, ours: EncoderOutput, theirs: Heard, layout: TextLayout
    ) -> Tensor:
        own, its = self.relation_layers
        term = RelationTerm(self.teacher.encoder, self.relation_layers, self.relation_heads)
        state = theirs.states[its - 1]
        losses_N = term.losses(model.encoder, ours.state(own - 1), state, layout)
        return losses_N.sum()


def _of_both(factors: Mapping[str, float] | None) -> tuple[float, float] | None:
    """Return by what soft and hard targets are multiplied, where that is known."""
    return None if factors is None else (factors.get(SOFT, 0.0), factors.get(MASKED_LM, 0.0))


def batch_of_stored(rows: Int64, found: Guessed) -> GeneralBatch:
    """Return stored passages as a batch: hidden tokens first, then the others.

    Args:
        rows: their numbers.
        found: what was asked of them, as `StoredGuesses.read` gives it.
    """
    is_hidden = found.targets != NO_TARGET
    order = np.argsort(~is_hidden, kind="stable")
    hidden = found.places[is_hidden], found.targets[is_hidden]
    return GeneralBatch(
        Masked(found.texts, *hidden),
        found.places[order],
        found.targets[order],
        StoredPlaces(rows, order),
    )


def _heard_of_stored(found: Guessed, order: Int64, places: Tensor, *, last: int) -> Heard:
    """Return stored signals on the positions' device, in fp32 and in the order of the positions."""
    device, words = places.device, None
    if found.words is not None and found.log_p is not None:
        words = TopWords(
            torch.from_numpy(found.words[order].astype(np.int64)).to(device),
            torch.from_numpy(found.log_p[order].astype(np.float32)).to(device),
        )
    states = {
        index: torch.from_numpy(state.astype(np.float32)).to(device)
        for index, state in found.states.items()
    }
    last_PD = states[last][places] if last in states else None
    return Heard(words, last_PD, states)


def _at_width_of_teacher(model: TaskModel, states_ND: Tensor) -> Tensor:
    """Return the student's states as they are, or through its map if it is narrower."""
    if not isinstance(model, StudentBesideMap):
        return states_ND
    mapped: Tensor = model.to_teacher(states_ND)
    return mapped
