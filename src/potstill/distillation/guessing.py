"""Ask a masked-LM teacher of passages so that its answers can be stored.

Legend: P positions at which the vocabulary is asked, R those of a chunk, K likeliest words.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import log_softmax

from potstill.distillation.general_objective import GeneralBatch, GeneralObjective
from potstill.distillation.objective import COSINE, SOFT
from potstill.distillation.stored_guesses import Guessed, GuessShape
from potstill.losses.vocabulary import Decoder
from potstill.models.precision import DTYPES
from potstill.train.objective import Int64

_CHUNK = 256  # positions at once: their logits are not kept


@dataclass(frozen=True, slots=True)
class Guesser:
    """A live teacher, asked in the passages' own order."""

    objective: GeneralObjective
    top_words: int

    def shape(self) -> GuessShape:
        """Return what is kept of each passage."""
        config = self.objective.teacher.config
        has_soft = SOFT in self.objective.weights
        return GuessShape(
            words=min(self.top_words, config.vocabulary_size) if has_soft else 0,
            states=self.objective.states_heard,
            width=config.hidden_size,
            vocabulary_size=config.vocabulary_size,
        )

    def expected_places(self, tokens: int) -> int:
        """Return at how many positions of so many tokens the vocabulary is asked, about."""
        hidden = self.objective.masking.shares.chosen
        is_heard = {SOFT, COSINE} & set(self.objective.weights)
        others = self.objective.other_share if is_heard else 0.0
        return round(tokens * (hidden + others * (1.0 - hidden)))

    @torch.no_grad()
    def ask(self, rows: Int64, rng: np.random.Generator) -> Guessed:
        """Hide tokens of some passages and return what the teacher says of them."""
        batch = replace(self.objective, stored=None).prepare(rows, rng)
        device = next(self.objective.teacher.parameters()).device
        order = np.argsort(batch.places)  # as they stand in the passages
        places = torch.from_numpy(batch.places[order]).to(device)
        heard = self.objective.ask(batch, places, is_whole=True)
        words, log_p = None, None
        if heard.words is not None:
            assert isinstance(heard.words, Decoder), "a live teacher gives all words"
            words, log_p = self._likeliest(heard.words)
        return Guessed(
            batch.masked.texts,
            _counts(batch, order),
            batch.places[order],
            batch.targets[order],
            words,
            log_p,
            {index: _half(state) for index, state in heard.states.items()},
        )

    def _likeliest(self, teacher: Decoder) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
        """Return the likeliest words at each position and their log p, (P, K) each."""
        precision, kept = self.objective.precision, self.shape().words
        dtype = torch.float32 if precision == "fp32" else DTYPES[precision]
        teacher = replace(teacher, words_VD=teacher.words_VD.to(dtype))
        words, log_p = [], []
        count = len(teacher.features_PD)
        for start in range(0, count, _CHUNK):
            places_R = torch.arange(start, min(start + _CHUNK, count), device=teacher.bias_V.device)
            logits_RV = teacher.logits(places_R, dtype) / self.objective.temperature
            found = log_softmax(logits_RV, dim=-1).topk(kept, dim=-1)
            words.append(found.indices.cpu().numpy())
            log_p.append(found.values.cpu().numpy())
        if not words:
            return np.zeros((0, kept), dtype=np.int64), np.zeros((0, kept), dtype=np.float32)
        return np.concatenate(words), np.concatenate(log_p)


@dataclass(slots=True)
class ClockedGuesses:
    """A teacher that is asked where a stored one would be read, its time apart: for a forecast."""

    guesser: Guesser
    seconds: float = 0.0  # of asking
    _asked: dict[bytes, Guessed] = field(default_factory=dict)  # not heard yet, by passages

    def begin(self) -> None:
        """Forget the time until now: a warm-up's."""
        self.seconds = 0.0

    def read(self, rows: Int64, *, signals: bool = True) -> Guessed:
        """Ask of some passages, as they would be asked before the first step, and clock it.

        A step reads what was asked first and what was said later: the teacher is asked once.
        """
        rows = np.sort(rows)
        key = rows.tobytes()
        if signals and key in self._asked:
            return self._asked.pop(key)
        began = time.perf_counter()
        found = self.guesser.ask(rows, np.random.default_rng(rows))
        self.seconds += time.perf_counter() - began
        if not signals:
            self._asked[key] = found
        return found

    def disk_bytes(self, lengths: NDArray[np.integer]) -> int:
        """Return what the answers take on disk, of passages of these lengths."""
        tokens = int(lengths.sum(dtype=np.int64))
        places = self.guesser.expected_places(tokens)
        return self.guesser.shape().size_bytes(tokens, places, len(lengths))


def _counts(batch: GeneralBatch, order: Int64) -> Int64:
    texts = batch.masked.texts
    return np.bincount(texts.text_index()[batch.places[order]], minlength=len(texts))


def _half(state: Tensor) -> NDArray[np.generic]:
    """Return a state in fp16; what would overflow is cut off at its ends."""
    ends = torch.finfo(torch.float16)
    half: NDArray[np.generic] = state.float().clamp(ends.min, ends.max).half().cpu().numpy()
    return half
