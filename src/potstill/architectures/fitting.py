"""Whether a batch fits a model: every engine asks this before it runs anything."""

from __future__ import annotations

from potstill.architectures.config import EncoderConfig
from potstill.errors import DataError
from potstill.text.ragged import RaggedBatch


def require_fitting(batch: RaggedBatch, config: EncoderConfig) -> None:
    """Check a batch of texts against the tables of a model.

    Raises:
        DataError: a text without a token, longer than the position table, or an id that the
            vocabulary does not have.
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
    lowest, highest = int(batch.ids.min()), int(batch.ids.max())
    if lowest < 0 or highest >= config.vocabulary_size:
        raise DataError(
            f"token id {highest if lowest >= 0 else lowest} is not in the model's vocabulary",
            allowed=f"0 to {config.vocabulary_size - 1}",
            cure="use the tokenizer of the same folder as the weights",
        )
