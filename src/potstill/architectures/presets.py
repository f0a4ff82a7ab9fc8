"""The well-known encoders by name, at their exact sizes."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches

from potstill.architectures.config import EncoderConfig, Family
from potstill.errors import RecipeError

UNCASED_VOCABULARY = 30_522
CASED_VOCABULARY = 28_996
ROBERTA_VOCABULARY = 50_265
XLM_R_VOCABULARY = 250_002


def preset(name: str) -> EncoderConfig:
    """Return the configuration of a well-known encoder.

    Raises:
        RecipeError: no such preset; the message lists them.
    """
    if name not in PRESETS:
        close = get_close_matches(name, PRESETS, n=1)
        raise RecipeError(
            f"there is no preset {name!r}",
            allowed=", ".join(sorted(PRESETS)),
            cure=f"did you mean {close[0]}?" if close else None,
        )
    return PRESETS[name]()


def bert_base(vocabulary_size: int = UNCASED_VOCABULARY) -> EncoderConfig:
    """BERT-base: 109,482,240 parameters uncased (Devlin et al. 2018, arXiv 1810.04805)."""
    return _bert(layers=12, hidden_size=768, heads=12, vocabulary_size=vocabulary_size)


def bert_large(vocabulary_size: int = UNCASED_VOCABULARY) -> EncoderConfig:
    """BERT-large: 335,141,888 parameters uncased (Devlin et al. 2018, arXiv 1810.04805)."""
    return _bert(layers=24, hidden_size=1024, heads=16, vocabulary_size=vocabulary_size)


def minilm_l6() -> EncoderConfig:
    """all-MiniLM-L6: 22,713,216 parameters (Wang et al. 2020, arXiv 2002.10957)."""
    return _bert(layers=6, hidden_size=384, heads=12)


def minilm_l12() -> EncoderConfig:
    """MiniLM-L12-H384: 33,360,000 parameters (Wang et al. 2020, arXiv 2002.10957)."""
    return _bert(layers=12, hidden_size=384, heads=12)


def distilbert_base(vocabulary_size: int = UNCASED_VOCABULARY) -> EncoderConfig:
    """DistilBERT: 66,362,880 parameters uncased (Sanh et al. 2019, arXiv 1910.01108)."""
    return EncoderConfig(
        family="distilbert",
        vocabulary_size=vocabulary_size,
        layers=6,
        hidden_size=768,
        heads=12,
        feed_forward_size=3072,
        max_positions=512,
        token_types=0,
    )


def roberta_base() -> EncoderConfig:
    """RoBERTa-base: 124,645,632 parameters (Liu et al. 2019, arXiv 1907.11692)."""
    return _roberta(layers=12, hidden_size=768, heads=12)


def roberta_large() -> EncoderConfig:
    """RoBERTa-large: 355,359,744 parameters (Liu et al. 2019, arXiv 1907.11692)."""
    return _roberta(layers=24, hidden_size=1024, heads=16)


def distilroberta_base() -> EncoderConfig:
    """DistilRoBERTa: 82,118,400 parameters."""
    return _roberta(layers=6, hidden_size=768, heads=12)


def xlm_roberta_base() -> EncoderConfig:
    """XLM-R base: 278,043,648 parameters (Conneau et al. 2019, arXiv 1911.02116)."""
    return _roberta(
        layers=12,
        hidden_size=768,
        heads=12,
        family="xlm-roberta",
        vocabulary_size=XLM_R_VOCABULARY,
    )


PRESETS: dict[str, Callable[[], EncoderConfig]] = {
    "bert-base": bert_base,
    "bert-base-uncased": bert_base,
    "bert-base-cased": lambda: bert_base(CASED_VOCABULARY),
    "bert-large": bert_large,
    "bert-large-uncased": bert_large,
    "bert-large-cased": lambda: bert_large(CASED_VOCABULARY),
    "distilbert-base": distilbert_base,
    "distilbert-base-uncased": distilbert_base,
    "distilbert-base-cased": lambda: distilbert_base(CASED_VOCABULARY),
    "all-minilm-l6": minilm_l6,
    "minilm-l12": minilm_l12,
    "roberta-base": roberta_base,
    "roberta-large": roberta_large,
    "distilroberta-base": distilroberta_base,
    "xlm-roberta-base": xlm_roberta_base,
}


def _bert(
    *, layers: int, hidden_size: int, heads: int, vocabulary_size: int = UNCASED_VOCABULARY
) -> EncoderConfig:
    return EncoderConfig(
        family="bert",
        vocabulary_size=vocabulary_size,
        layers=layers,
        hidden_size=hidden_size,
        heads=heads,
        feed_forward_size=4 * hidden_size,
        max_positions=512,
        pooler=True,
    )


def _roberta(
    *,
    layers: int,
    hidden_size: int,
    heads: int,
    family: Family = "roberta",
    vocabulary_size: int = ROBERTA_VOCABULARY,
) -> EncoderConfig:
    return EncoderConfig(
        family=family,
        vocabulary_size=vocabulary_size,
        layers=layers,
        hidden_size=hidden_size,
        heads=heads,
        feed_forward_size=4 * hidden_size,
        max_positions=514,
        token_types=1,
        pooler=True,
        norm_epsilon=1e-5,
        pad_id=1,
    )
