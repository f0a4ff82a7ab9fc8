"""What a model can be asked for, and how large each answer is: the same for every engine.

Legend: B texts, N tokens, D hidden width, C outputs of the head, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from potstill.architectures.config import EncoderConfig
from potstill.architectures.heads import HeadSpec
from potstill.errors import RecipeError
from potstill.runtime.engine import STATE_PREFIX, Outputs


@dataclass(frozen=True, slots=True)
class OutputShapes:
    """The outputs of one model."""

    config: EncoderConfig
    head: HeadSpec

    @property
    def names(self) -> list[str]:
        """Return all that can be asked for."""
        states = [f"{STATE_PREFIX}{index}" for index in range(self.config.layers + 1)]
        return [*(["logits"] if self.head.kind != "none" else []), "vectors", *states]

    def require_known(self, outputs: Sequence[str]) -> None:
        """Check what is asked for.

        Raises:
            RecipeError: the model gives no such output.
        """
        names = self.names
        for name in outputs:
            if name not in names:
                raise RecipeError(f"this model gives no output {name!r}", allowed=", ".join(names))

    def is_per_text(self, output: str) -> bool:
        """Tell whether there is one row a text, (B, ...), not one a token, (N, ...)."""
        return output == "vectors" or (output == "logits" and self.head.answers_whole_texts)

    def width(self, output: str) -> int:
        """Return the numbers of a row: C or V of logits, D of states and of most vectors."""
        if output != "logits" or self.head.kind == "embedding":
            gives_vectors = not output.startswith(STATE_PREFIX)
            return (self.head.width if gives_vectors else None) or self.config.hidden_size
        return len(self.head.labels) or self.config.vocabulary_size

    def of_nothing(self, outputs: Sequence[str]) -> Outputs:
        """Return the outputs of a batch without a text."""
        return {name: np.zeros((0, self.width(name)), dtype=np.float32) for name in outputs}
