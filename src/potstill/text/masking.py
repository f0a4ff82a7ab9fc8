"""Which tokens a masked-language model must guess, and what it is shown in their place.

Each text has its share of chosen tokens, so that no text of a batch goes without (the original
DistilBERT code drew over the flattened batch). Drawing is dynamic: other tokens at every step.

Source: Devlin et al. 2018, arXiv 1810.04805, section 3.1 (15 %; 80 % of them are hidden, 10 %
replaced, 10 % kept); Lample and Conneau 2019, arXiv 1901.07291, section 3.2 (rare words more);
Sanh et al. 2019, arXiv 1910.01108 (smoothing 0.7).

Legend: B texts, N tokens of a batch, P chosen tokens, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from potstill.errors import RecipeError
from potstill.recipe import require_range
from potstill.text.ragged import RaggedBatch
from potstill.text.tokenizer import Tokenizer

Int64 = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskingShares:
    """How much is chosen, and what becomes of it.

    Raises:
        RecipeError: shares that cannot be.
    """

    chosen: float = 0.15  # of the tokens of each text
    hidden: float = 0.8  # of the chosen: [MASK] is shown
    random: float = 0.1  # of the chosen: another token is shown; the rest is shown as it is
    smoothing: float = 0.0  # chosen in proportion to a token's count to the power of minus this
    whole_words: bool = False  # all tokens of a word are chosen together

    def __post_init__(self) -> None:
        """Refuse shares outside 0 to 1."""
        require_range("mask_share", self.chosen, above=0.0, below=1.0)
        require_range("mask_hidden", self.hidden, at_least=0.0, at_most=1.0)
        require_range("mask_random", self.random, at_least=0.0, at_most=1.0)
        if self.hidden + self.random > 1.0:
            raise RecipeError(
                f"mask_hidden is {self.hidden:g} and mask_random {self.random:g}",
                allowed="shares that add up to 1 at most; the rest is kept",
            )


@dataclass(frozen=True, slots=True, eq=False)
class Masked:
    """A batch as the model is shown it, and what it must guess."""

    texts: RaggedBatch  # with [MASK] and random tokens in the chosen places
    places: Int64  # (P,) chosen tokens, rising
    targets: Int64  # (P,) what stood there


@dataclass(frozen=True, slots=True, eq=False)
class Masking:
    """Draws what is hidden, for one vocabulary."""

    shares: MaskingShares
    mask_id: int
    is_maskable_V: Bools  # no special token
    continues_word_V: Bools  # tokens that go on with the word before them
    log_weight_V: Floats = field(repr=False)  # how often a token is chosen, in logarithms

    def masked(self, batch: RaggedBatch, rng: np.random.Generator) -> Masked:
        """Choose tokens of every text and hide them."""
        places = self.chosen(batch, rng)
        ids = batch.ids.copy()
        targets = ids[places].astype(np.int64)
        draw_P = rng.random(len(places))
        is_hidden = draw_P < self.shares.hidden
        is_random = ~is_hidden & (draw_P < self.shares.hidden + self.shares.random)
        ids[places[is_hidden]] = self.mask_id
        words = np.flatnonzero(self.is_maskable_V)
        ids[places[is_random]] = words[rng.integers(0, len(words), int(is_random.sum()))]
        return Masked(RaggedBatch(ids, batch.offsets, batch.token_types), places, targets)

    def chosen(self, batch: RaggedBatch, rng: np.random.Generator) -> Int64:
        """Return the places of the chosen tokens, (P,), rising; at least one of every text.

        Drawn without replacement in proportion to the weights: the greatest of logarithms plus
        Gumbel noise are such a draw (Efraimidis and Spirakis 2006).
        """
        places = np.flatnonzero(self.is_maskable_V[batch.ids])
        if not len(places):
            return places
        unit_P = self._units(batch, places)
        text_U, size_U, first_U = _units_of(unit_P, places, batch)
        key_U = self.log_weight_V[batch.ids[first_U]] + rng.gumbel(size=len(first_U))
        wanted_B = self._wanted(_sums(text_U, size_U, len(batch)), rng)
        is_taken_U = _taken(text_U, key_U, size_U, wanted_B)
        return places[is_taken_U[unit_P]]

    def _wanted(self, maskable_B: Int64, rng: np.random.Generator) -> Int64:
        """Return how many tokens of each text are chosen: its share, rounded at random."""
        drawn = np.floor(self.shares.chosen * maskable_B + rng.random(len(maskable_B)))
        return np.asarray(np.clip(drawn, 1, None), dtype=np.int64)

    def _units(self, batch: RaggedBatch, places: Int64) -> Int64:
        """Return for each maskable token the number of what is drawn together: itself, or its word.

        A word begins at a token that continues none, and after anything that is not maskable.
        """
        if not self.shares.whole_words:
            return np.arange(len(places))
        goes_on = self.continues_word_V[batch.ids[places]]
        goes_on[0] = False
        goes_on[1:] &= np.diff(places) == 1
        goes_on &= ~np.isin(places, batch.offsets)  # nor across texts without special tokens
        return np.asarray(np.cumsum(~goes_on) - 1, dtype=np.int64)


def masking_for(
    tokenizer: Tokenizer, shares: MaskingShares, counts_V: Int64 | None = None
) -> Masking:
    """Return the masking for a vocabulary.

    Args:
        tokenizer: of the model.
        shares: how much is chosen.
        counts_V: how often each token stands in the corpus, for smoothing; None: all alike.

    Raises:
        ModelError: the tokenizer has no mask token.
        RecipeError: smoothing without counts.
    """
    if shares.smoothing and counts_V is None:
        raise RecipeError("smoothing needs the counts of a corpus")
    size = tokenizer.vocabulary_size
    is_maskable = np.ones(size, dtype=bool)
    is_maskable[list(tokenizer.special_ids)] = False
    counts = np.ones(size) if counts_V is None else np.maximum(counts_V[:size], 1)
    return Masking(
        shares,
        tokenizer.mask_id,
        is_maskable,
        tokenizer.continues_word(),
        -shares.smoothing * np.log(counts),
    )


def _units_of(unit_P: Int64, places: Int64, batch: RaggedBatch) -> tuple[Int64, Int64, Int64]:
    """Return of each unit its text, its tokens and the place of its first token."""
    starts = np.flatnonzero(np.diff(unit_P, prepend=-1))
    sizes = np.diff(starts, append=len(unit_P))
    first = places[starts]
    return batch.text_index()[first].astype(np.int64), sizes, first


def _sums(text_U: Int64, size_U: Int64, texts: int) -> Int64:
    """Return the maskable tokens of each text, (B,)."""
    return np.bincount(text_U, size_U, minlength=texts).astype(np.int64)


def _taken(text_U: Int64, key_U: Floats, size_U: Int64, wanted_B: Int64) -> Bools:
    """Take in each text the units of the greatest keys until its wanted tokens are reached."""
    order = np.lexsort((-key_U, text_U))
    before = np.cumsum(size_U[order]) - size_U[order]  # tokens of all units before, of all texts
    texts = text_U[order]
    is_first = np.diff(texts, prepend=-1) != 0
    before -= np.maximum.accumulate(np.where(is_first, before, 0))
    is_taken = np.empty(len(order), dtype=bool)
    is_taken[order] = before < wanted_B[texts]
    return is_taken
