"""What every training on a corpus is asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from potstill.errors import RecipeError
from potstill.recipe import TrainingRecipe, require_range, with_settings

Recipe = TypeVar("Recipe", bound="CorpusRecipe")

_PEAK = 5e-4  # Sanh et al. 2019
_TOKENS = 2**53  # all below are exact as floating-point numbers
LARGEST = 1e6  # of weights, temperatures and powers: far above sense, far below an overflow
_INSTEAD = {  # what a training on a corpus has in the place of settings of other trainings
    "rows_per_step": "set step_tokens, the tokens of a step",
    "length_pools": "leave it out: micro-batches are of equal tokens",
    "scores_per_epoch": "set scores, how often in the whole run",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusRecipe(TrainingRecipe):
    """How a training on a corpus runs: steps and budget in tokens, and what is hidden.

    Raises:
        RecipeError: a setting outside its range.
    """

    epochs: float = 1.0
    tokens: int = 0  # real tokens to train on, instead of epochs; 0: by epochs
    step_tokens: int = 8_192  # real tokens of an optimizer step, over all processes
    learning_rate: float = _PEAK
    warmup_share: float = 0.05
    weight_decay: float = 0.01
    adam_beta2: float = 0.98
    adam_epsilon: float = 1e-6
    scores: int = 10  # how often the held-out loss is taken in a run, whatever its epochs
    max_length: int = 128  # tokens of a passage, special ones included
    held_out_documents: int = 500  # whose loss is watched; never trained on
    held_out_tokens: int = 100_000  # of these documents at most are read at each score
    mask_share: float = 0.15  # of each passage's tokens are guessed
    mask_hidden: float = 0.8  # of these: [MASK] is shown
    mask_random: float = 0.1  # of these: another token is shown
    mask_smoothing: float = 0.0  # 0.7 chooses rare tokens more often, as XLM and DistilBERT
    whole_words: bool = False  # all tokens of a word are hidden together

    def __post_init__(self) -> None:
        """Refuse what cannot be run, with the setting's name."""
        TrainingRecipe.__post_init__(self)
        require_range("scores", self.scores, at_least=1)
        require_range("tokens", self.tokens, at_least=0, below=_TOKENS)
        require_range("max_length", self.max_length, at_least=16)
        for name in ("step_tokens", "batch_tokens"):
            require_range(name, getattr(self, name), at_least=self.max_length, below=_TOKENS)
        for name in ("held_out_documents", "held_out_tokens"):
            require_range(name, getattr(self, name), at_least=1)
        require_range("mask_smoothing", self.mask_smoothing, at_least=0.0, at_most=LARGEST)

    def idle_settings(self) -> Mapping[str, str]:
        """Return what nothing reads as the other settings stand, and what would make it read."""
        return {}


def require_meant(asked: Collection[str], recipe: CorpusRecipe) -> None:
    """Check that every setting that somebody asks for by its name means something on a corpus.

    The recipe itself cannot tell: it has a value for each.

    Raises:
        RecipeError: naming the first that does not, or two that say the same.
    """
    for name, instead in _INSTEAD.items():
        if name in asked:
            raise RecipeError(f"{name} means nothing for a training on a corpus", cure=instead)
    usual = type(recipe)()
    for name, cure in recipe.idle_settings().items():
        if name in asked and getattr(recipe, name) != getattr(usual, name):
            raise RecipeError(f"{name} means nothing with the other settings", cure=cure)
    if {"epochs", "tokens"} <= set(asked):
        raise RecipeError(
            "epochs and tokens are both asked for: each is the length of the run",
            allowed="one of the two",
        )


def with_meant_settings(recipe: Recipe, settings: Mapping[str, Any], *, where: str) -> Recipe:
    """Return the recipe with some settings replaced, as `with_settings` does.

    A whole recipe can be handed in, since a setting at its default is not one that is asked for.

    Raises:
        RecipeError: see `with_settings` and `require_meant`.
    """
    asked = with_settings(recipe, settings, where=where)
    differ = [name for name in settings if getattr(asked, name) != getattr(recipe, name)]
    require_meant(differ, asked)
    return asked


def settled(recipe: Recipe, *, corpus_tokens: int) -> Recipe:
    """Return the recipe with epochs for its budget."""
    epochs = recipe.tokens / corpus_tokens if recipe.tokens else recipe.epochs
    return replace(recipe, epochs=epochs)
