"""How a student is cut and taught: the settings of `distill`, checked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from potstill.distillation.layer_map import EVEN
from potstill.distillation.layers import CHOICES
from potstill.distillation.objective import COSINE, HARD, RELATIONS, SOFT, SQUARED
from potstill.distillation.student import ARCHITECTURES
from potstill.errors import RecipeError
from potstill.recipe import TrainingRecipe, require_choice, require_range, settings_named
from potstill.workflows.task_rows import require_lengths

SEARCH = "search"
SIGNALS = ("stored", "live")


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillRecipe(TrainingRecipe):
    """How a student is cut and taught.

    Raises:
        RecipeError: a setting outside its range.
    """

    epochs: float = 0.0  # 0: by the number of rows, 3 to 15
    learning_rate: float = 0.0  # 0: by the width of the model, 4e-5 to 2e-4
    learning_rates: str = ""  # "1e-4,2e-4": each is tried whole, the best on dev is kept
    control_learning_rates: str = ""  # the control's; empty: those of the student
    layers: int = 0  # of the student; 0: half of the teacher's
    choose: str = "even"  # even, distilbert, bottom, top, search
    keep: str = ""  # layers by number, counted from 0: "0,2,4"; instead of layers and choose
    width: int = 0  # hidden size of a student of vectors, with a map back; 0: the teacher's
    architecture: str = "auto"  # auto, teacher, distilbert
    soft_targets: float | None = (
        None  # weight of the teacher's answers; none: by the task, 0.5 to 1
    )
    hard_labels: float | None = (
        None  # weight of the labels, where rows have them; none: by the task
    )
    similarity: float = 0.0  # of embeddings: weight of KL between similarities inside a batch
    hidden_cosine: float = 0.0  # weight of 1 - cosine of hidden states
    hidden_mse: float = 0.0  # weight of their mean squared difference
    relations: float = 0.0  # weight of KL of query, key and value relations of the last layers
    layer_map: str = EVEN  # which hidden states are aligned: even, last, or 1:2,2:4,3:6
    temperature: float = 2.0
    signals: str = "stored"  # the teacher's: stored on disk once, or live at every step
    augment_copies: int = 1  # of each row, where there is a model that makes them
    augment_share: float = 0.4  # of a copy's words are replaced
    primary: str = ""  # metric to choose by on dev; empty: as the teacher's
    max_length: int = 0  # tokens of a text, or of a window; 0: as the teacher's
    long_texts: str = ""  # cut, windows; empty: as the teacher's
    overlap: int = 0  # tokens that two windows share; 0: as the teacher's
    dev_share: float = 0.1  # of the training rows, where no dev file is given

    def __post_init__(self) -> None:
        """Refuse what cannot be run, with the setting's name."""
        TrainingRecipe.__post_init__(self)
        require_range("layers", self.layers, at_least=0)
        require_range("width", self.width, at_least=0)
        require_range("temperature", self.temperature, above=0.0)
        require_range("augment_copies", self.augment_copies, at_least=1)
        require_range("augment_share", self.augment_share, above=0.0, below=1.0)
        require_choice("choose", self.choose, (*CHOICES, SEARCH))
        require_choice("architecture", self.architecture, ARCHITECTURES)
        require_choice("signals", self.signals, SIGNALS)
        require_range("dev_share", self.dev_share, above=0.0, below=1.0)
        for name in (SOFT, HARD, COSINE, SQUARED, RELATIONS, "similarity"):
            if getattr(self, name) is not None:
                require_range(name, getattr(self, name), at_least=0.0)
        require_lengths(self.long_texts, self.overlap, self.max_length)
        if self.max_length:
            require_range("max_length", self.max_length, at_least=3)
        for words in (self.learning_rates, self.control_learning_rates):
            learning_rates(words, 1.0, has_control=False)


# By name for --recipe; what they leave out is the default.
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "standard": {},
    # Hidden states pull the student too: for deep cuts and little data (Jiao et al. 2019).
    "aligned": {"hidden_cosine": 0.5},
    # Wang et al. 2020 (MiniLMv2): relations of the last layers beside the soft targets.
    "relations": {"relations": 0.5},
    # Labels are noisy or absent: the teacher alone speaks.
    "teacher-only": {"soft_targets": 1.0, "hard_labels": 0.0},
}


def named_recipe(name: str) -> Mapping[str, Any]:
    """Return the settings of a recipe that --recipe names; see `settings_named`."""
    return settings_named(name, RECIPES)


def learning_rates(words: str, peak: float, *, has_control: bool) -> tuple[float, ...]:
    """Return the learning rates to try; beside a control, two by default: it may like another."""
    if not words:
        return (peak / 2, peak) if has_control else (peak,)
    try:
        rates = tuple(float(word) for word in words.split(","))
    except ValueError as error:
        raise RecipeError(
            f"learning_rates is {words!r}", allowed="numbers such as 1e-4,2e-4"
        ) from error
    for rate in rates:
        require_range("learning_rates", rate, above=0.0, below=1.0)
    return rates
