"""Settings that follow from the data and the model, where the user left them open (0).

Measured on all-MiniLM-L6-v2 (docs/lab-log.md); the values for wider models are the usual ones
(Devlin et al. 2018, appendix A.3).
"""

from __future__ import annotations

import math
from typing import TypeVar

from potstill.recipe import TrainingRecipe, with_settings

Recipe = TypeVar("Recipe", bound=TrainingRecipe)

_FEWEST_EPOCHS, _MOST_EPOCHS = 3, 15
_PEAK_BY_WIDTH = ((512, 1e-4), (768, 5e-5))  # up to this width; above the last: _PEAK_OF_WIDE
_PEAK_OF_WIDE = 2e-5


def settle(recipe: Recipe, *, rows: int, width: int, texts_seen: int, rate_factor: float) -> Recipe:
    """Return the recipe with epochs and learning rate filled in where they are 0.

    Args:
        recipe: as the user gave it.
        rows: training rows.
        width: hidden size of the model that is trained.
        texts_seen: texts that a run should see in all: many passes over few rows, few over many.
        rate_factor: times the usual learning rate of that width.
    """
    epochs = min(max(math.ceil(texts_seen / rows), _FEWEST_EPOCHS), _MOST_EPOCHS)
    peak = next((peak for most, peak in _PEAK_BY_WIDTH if width <= most), _PEAK_OF_WIDE)
    found: dict[str, float] = {}
    if not recipe.epochs:
        found["epochs"] = float(epochs)
    if not recipe.learning_rate:
        found["learning_rate"] = peak * rate_factor
    return with_settings(recipe, found)
