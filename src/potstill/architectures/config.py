"""What an encoder is: its family and its sizes, as Hugging Face's config.json tells them.

One encoder runs four families. They differ in names, in the token-type table, in the pooler and in
where positions begin, not in the mathematics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, cast, get_args

from potstill.errors import ModelError

Family = Literal["bert", "distilbert", "roberta", "xlm-roberta"]
FAMILIES: tuple[Family, ...] = get_args(Family)

ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")

# Ours -> theirs. What a family does not write has a fixed value: see _FIXED.
_BERT_KEYS = {
    "vocabulary_size": "vocab_size",
    "layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "heads": "num_attention_heads",
    "feed_forward_size": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "token_types": "type_vocab_size",
    "activation": "hidden_act",
    "norm_epsilon": "layer_norm_eps",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "pad_id": "pad_token_id",
    "initializer_range": "initializer_range",
}
_DISTILBERT_KEYS = {
    "vocabulary_size": "vocab_size",
    "layers": "n_layers",
    "hidden_size": "dim",
    "heads": "n_heads",
    "feed_forward_size": "hidden_dim",
    "max_positions": "max_position_embeddings",
    "activation": "activation",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "pad_id": "pad_token_id",
    "initializer_range": "initializer_range",
}
CONFIG_KEYS: Mapping[Family, Mapping[str, str]] = {
    "bert": _BERT_KEYS,
    "distilbert": _DISTILBERT_KEYS,
    "roberta": _BERT_KEYS,
    "xlm-roberta": _BERT_KEYS,
}
_FIXED: Mapping[Family, Mapping[str, Any]] = {
    "bert": {},
    "distilbert": {"token_types": 0, "norm_epsilon": 1e-12, "pooler": False},
    "roberta": {},
    "xlm-roberta": {},
}
# What transformers assumes where config.json is silent; sizes have no such default here.
_DEFAULTS: Mapping[Family, Mapping[str, Any]] = {
    "bert": {},
    "distilbert": {"heads": 12},
    "roberta": {"pad_id": 1},
    "xlm-roberta": {"pad_id": 1},
}
# Fields that would change the mathematics, and the one value that is computed here.
_ONLY: Mapping[str, Any] = {
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}
_SIZES = (
    "vocabulary_size",
    "layers",
    "hidden_size",
    "heads",
    "feed_forward_size",
    "max_positions",
)
_TYPES: Mapping[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,)}
_LARGEST_SIZE = 2**31 - 1
LARGEST_DROPOUT = 0.99
_MOST_LAYERS = 1_000  # each layer's names are written out before a weight is looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """The sizes of one encoder.

    Raises:
        ModelError: a size that no encoder can have.
    """

    family: Family
    vocabulary_size: int  # rows of the word table
    layers: int
    hidden_size: int  # D; a multiple of heads
    heads: int
    feed_forward_size: int
    max_positions: int  # rows of the position table, the unused ones of RoBERTa included
    token_types: int = 2  # rows of the token-type table; 0: there is none
    pooler: bool = False  # dense + tanh on the first position, part of BERT's bare encoder
    activation: str = "gelu"
    norm_epsilon: float = 1e-12
    dropout: float = 0.1
    attention_dropout: float = 0.1
    pad_id: int = 0
    initializer_range: float = 0.02  # standard deviation of fresh weights

    def __post_init__(self) -> None:
        """Refuse what cannot be built, with the field's name."""
        for name in _SIZES:
            most = _MOST_LAYERS if name == "layers" else _LARGEST_SIZE
            _require_within(name, getattr(self, name), 1, most)
        for name in ("token_types", "pad_id"):
            _require_within(name, getattr(self, name), 0, _LARGEST_SIZE)
        for name in ("dropout", "attention_dropout"):
            _require_within(name, getattr(self, name), 0, LARGEST_DROPOUT)
        for name in ("norm_epsilon", "initializer_range"):
            _require_within(name, getattr(self, name), 0, 1)
        if self.hidden_size % self.heads:
            raise _refusal(
                f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}"
            )
        if self.activation not in ACTIVATIONS:
            raise _refusal(f"activation is {self.activation!r}", allowed=", ".join(ACTIVATIONS))
        if self.max_length < 1:
            raise _refusal(f"max_positions {self.max_positions} leaves no position for a token")
        for name, only in _FIXED[self.family].items():
            if getattr(self, name) != only:
                raise _refusal(
                    f"{name} is {getattr(self, name)}", allowed=f"{only} in {self.family}"
                )

    @property
    def head_size(self) -> int:
        """Return K, the width of one attention head."""
        return self.hidden_size // self.heads

    @property
    def position_offset(self) -> int:
        """Return the row of the position table that the first token reads.

        RoBERTa and XLM-R count from the padding id on: rows 0 and 1 are never read.
        """
        return self.pad_id + 1 if self.family in {"roberta", "xlm-roberta"} else 0

    @property
    def max_length(self) -> int:
        """Return the tokens of the longest text that fits."""
        return self.max_positions - self.position_offset


def config_from_hf(hf: Mapping[str, Any], *, where: str = "config.json") -> EncoderConfig:
    """Read an encoder's sizes from the content of a Hugging Face config.json.

    The pooler is not told there: the reader of the weights adds it.

    Raises:
        ModelError: another model type, remote code, a missing or impossible value.
    """
    _refuse_remote_code(hf, where)
    family = _family_of(hf, where)
    _refuse_other_mathematics(hf, where)
    values = dict(_DEFAULTS[family])
    for ours, theirs in CONFIG_KEYS[family].items():
        if hf.get(theirs) is not None:
            values[ours] = hf[theirs]
    missing = [CONFIG_KEYS[family][name] for name in _SIZES if name not in values]
    if missing:
        raise ModelError(f"the fields {', '.join(missing)} are missing", where=where)
    _require_types(values, CONFIG_KEYS[family], where)
    try:
        return EncoderConfig(family=family, **(values | dict(_FIXED[family])))
    except ModelError as error:
        raise ModelError(error.what, where=where, allowed=error.allowed) from None


def config_to_hf(config: EncoderConfig) -> dict[str, Any]:
    """Write an encoder's sizes as the fields of a Hugging Face config.json.

    `config_from_hf` of the result gives the same config, but for the pooler.
    """
    hf: dict[str, Any] = {"model_type": config.family}
    for ours, theirs in CONFIG_KEYS[config.family].items():
        hf[theirs] = getattr(config, ours)
    if config.family == "distilbert":
        hf |= {"sinusoidal_pos_embds": False, "tie_weights_": True}
    else:
        hf |= {"position_embedding_type": "absolute"}
    return hf


def _family_of(hf: Mapping[str, Any], where: str) -> Family:
    name = hf.get("model_type")
    if name not in FAMILIES:
        found = "missing" if name is None else repr(name)
        raise ModelError(
            f"model_type is {found}",
            where=where,
            allowed=", ".join(FAMILIES) + " (MiniLM-type models call themselves bert)",
        )
    return cast("Family", name)


def _refuse_remote_code(hf: Mapping[str, Any], where: str) -> None:
    if hf.get("auto_map"):
        raise ModelError(
            "auto_map asks to run code that lies in the model folder; potstill never does",
            where=where,
            cure="if the weights are of a plain BERT-family model, remove auto_map from a copy",
        )


def _refuse_other_mathematics(hf: Mapping[str, Any], where: str) -> None:
    for name, only in _ONLY.items():
        if hf.get(name, only) not in (only, None):
            raise ModelError(f"{name} is {hf[name]!r}", where=where, allowed=str(only).lower())


def _require_types(values: Mapping[str, Any], keys: Mapping[str, str], where: str) -> None:
    kinds = {field.name: str(field.type) for field in fields(EncoderConfig)}
    for name, value in values.items():
        if type(value) not in _TYPES[kinds[name]]:
            raise ModelError(
                f"{keys[name]} is {value!r}, which is not of type {kinds[name]}", where=where
            )


def _require_within(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise _refusal(f"{name} is {value}", allowed=f"{least} to {most}")


def _refusal(what: str, *, allowed: str | None = None) -> ModelError:
    return ModelError(what, where="config.json", allowed=allowed)
