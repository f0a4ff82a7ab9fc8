"""Texts on which activations are calibrated, as calls of a graph.

Legend: B texts.
"""

from __future__ import annotations

import numpy as np

from potstill.architectures.config import EncoderConfig
from potstill.errors import DataError
from potstill.runtime.packed_engine import Inputs, graph_inputs
from potstill.runtime.packed_rows import RowSize, packed_requests
from potstill.text.ragged import RaggedBatch

_MOST_TEXTS = 300
FEW_TEXTS = 100  # from here on ranges of other texts are met (docs/lab-log.md, 2026-11-29)
_CALL = RowSize(request_tokens=256)


def calibration_calls(
    texts: RaggedBatch, config: EncoderConfig, *, source: str, seed: int
) -> list[Inputs]:
    """Return some hundred texts, chosen by the seed, packed in rows as they are answered.

    Raises:
        DataError: there is no text.
    """
    if not len(texts):
        raise DataError(
            "there is no text to calibrate on",
            where=source,
            allowed=f"one or more; {FEW_TEXTS} or more serve well",
        )
    order = np.random.default_rng(seed).permutation(len(texts))[:_MOST_TEXTS]
    chosen = texts.take(np.sort(order))
    return [graph_inputs(rows, config) for rows in packed_requests(chosen, _CALL)]
