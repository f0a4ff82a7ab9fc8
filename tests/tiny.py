"""Tiny models in memory, shared by the tests: two layers of width 32 over 64 words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from potstill.architectures.config import EncoderConfig, Family
from potstill.architectures.heads import HeadSpec
from potstill.text.ragged import RaggedBatch

_REAL_WORDS = "the a film movie good bad great awful was is not very plot actor boring fun"
WORDS = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *_REAL_WORDS.split(),
    *[f"word{number}" for number in range(43)],
]


def tiny_config(family: Family = "bert", **changes: object) -> EncoderConfig:
    """Return a tiny configuration; dropout is off unless asked for."""
    is_roberta = family in {"roberta", "xlm-roberta"}
    base = EncoderConfig(
        family=family,
        vocabulary_size=len(WORDS),
        layers=2,
        hidden_size=32,
        heads=4,
        feed_forward_size=64,
        max_positions=42 if is_roberta else 40,
        token_types={"bert": 2, "distilbert": 0}.get(family, 1),
        pooler=family != "distilbert",
        norm_epsilon=1e-5 if is_roberta else 1e-12,
        dropout=0.0,
        attention_dropout=0.0,
        pad_id=1 if is_roberta else 0,
    )
    return replace(base, **changes)


def tiny_head(kind: str, **changes: object) -> HeadSpec:
    """Return a head of three labels where the kind has labels."""
    labels = {"none": (), "masked-lm": (), "question-answering": ("start", "end")}
    return replace(HeadSpec(kind=kind, labels=labels.get(kind, ("a", "b", "c"))), **changes)


def random_batch(
    lengths: list[int], *, vocabulary: int = len(WORDS), seed: int = 0, token_types: bool = False
) -> RaggedBatch:
    """Return texts of random ids (never the padding id of any family)."""
    rng = np.random.default_rng(seed)
    rows = [rng.integers(2, vocabulary, length) for length in lengths]
    types = [(np.arange(length) > length // 2).astype(int) for length in lengths]
    return RaggedBatch.from_lists(rows, types if token_types else None)


def write_tiny_tokenizer(folder: Path) -> None:
    """Write a WordPiece vocabulary of the tiny words."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
