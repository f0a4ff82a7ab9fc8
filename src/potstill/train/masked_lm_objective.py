"""Masked language modelling: guess the tokens that are hidden.

The head runs at the hidden positions alone, and its logits are never kept whole, see
`losses.vocabulary`.

Legend: B passages, N their tokens, P hidden tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potstill.losses.vocabulary import Decoder, vocabulary_losses
from potstill.models.heads import MaskedLMHead
from potstill.models.layout import How, arrange
from potstill.models.noise import Noise
from potstill.models.task_model import TaskModel
from potstill.text.masking import Masked, Masking
from potstill.text.ragged import RaggedBatch
from potstill.train.objective import Int64

NAME = "masked_lm"


class Passages(Protocol):
    """Pieces of documents, each with its special tokens; where they lie is theirs to know."""

    @property
    def lengths(self) -> NDArray[np.integer]:
        """Return the tokens of each passage."""
        ...

    def batch(self, rows: Int64) -> RaggedBatch:
        """Return some passages, in the order given."""
        ...


@dataclass(frozen=True, slots=True)
class MaskedLMObjective:
    """-log p(hidden token), averaged over hidden tokens."""

    passages: Passages
    masking: Masking
    how: How = "auto"

    @property
    def weights(self) -> Mapping[str, float]:
        """Return the one term's weight."""
        return {NAME: 1.0}

    @property
    def lengths(self) -> NDArray[np.integer]:
        """Return the tokens of each passage."""
        return self.passages.lengths

    def prepare(self, rows: Int64, rng: np.random.Generator) -> Masked:
        """Take passages and hide their share."""
        return self.masking.masked(self.passages.batch(rows), rng)

    def counts(self, batch: Masked) -> Mapping[str, float]:
        """Return the hidden tokens."""
        return {NAME: float(len(batch.places))}

    def loss_sums(
        self, model: TaskModel, batch: Masked, noise: Noise | None, factors: object = None
    ) -> Mapping[str, Tensor]:
        """Return the summed loss of the hidden tokens."""
        del factors
        device = next(model.parameters()).device
        layout = arrange(batch.texts, model.config, device=device, how=self.how)
        places = torch.from_numpy(batch.places).to(device)
        output = model.encode(layout, noise=noise, at_P=places)
        targets = torch.from_numpy(batch.targets).to(device)
        _, losses = vocabulary_losses(decoder_at(model, output.last, output.words_VD), targets)
        return {NAME: losses}


def decoder_at(model: TaskModel, hidden_PD: Tensor, words_VD: Tensor | None = None) -> Decoder:
    """Return the last products of a model's masked-LM head at some positions.

    Args:
        model: the model.
        hidden_PD: its last states there.
        words_VD: the word table as the encoder handed it on; None: of a model that only speaks.
    """
    head = model.head
    assert isinstance(head, MaskedLMHead), "a masked-LM head was asked for"
    words_VD = head.decoder.weight if words_VD is None else words_VD
    return Decoder(head.features(hidden_PD), words_VD, head.decoder.bias)
