"""Whether a batch fits a model: every engine asks this before it runs anything."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from potstill.architectures.config import EncoderConfig
from potstill.errors import DataError
from potstill.text.ragged import RaggedBatch


def require_fitting(batch: RaggedBatch, config: EncoderConfig) -> None:
    """Check a batch of texts against the tables of a model.

    Raises:
        DataError: a text without a token, longer than the position table, or an id or a segment
            that the model has no vector for.
    """
    lengths = batch.lengths
    if not lengths.size or int(lengths.min()) == 0:
        raise DataError("a text has no token, not even a special one")
    longest = int(lengths.max())
    if longest > config.max_length:
        raise DataError(
            f"a text has {longest} tokens",
            allowed=f"at most {config.max_length}, the model's position table",
            cure="cut it with --max-length",
        )
    _require_rows(batch.ids, config.vocabulary_size, "token id", "vocabulary")
    if batch.token_types is not None and config.token_types > 1:  # one row is added to every token
        _require_rows(batch.token_types, config.token_types, "token type", "table")


def _require_rows(numbers: NDArray[np.int32], rows: int, name: str, table: str) -> None:
    lowest, highest = int(numbers.min()), int(numbers.max())
    if lowest < 0 or highest >= rows:
        raise DataError(
            f"{name} {lowest if lowest < 0 else highest} is not in the model's {table}",
            allowed=f"0 to {rows - 1}",
            cure="use the tokenizer of the same folder as the weights",
        )
