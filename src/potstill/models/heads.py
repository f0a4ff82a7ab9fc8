"""Heads: what turns hidden states into logits. Each is one small module.

Legend: B texts, N tokens, D hidden width, C outputs, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize, relu

from potstill.architectures.config import EncoderConfig
from potstill.architectures.heads import HeadSpec
from potstill.models.encoder import ACTIVATION_FUNCTIONS, Encoder, EncoderOutput, dropped
from potstill.models.layout import TextLayout
from potstill.models.noise import Noise


def build_head(encoder: Encoder, spec: HeadSpec) -> nn.Module | None:
    """Return the head that `spec` names, in the form of the encoder's family."""
    config = encoder.config
    if spec.kind == "none":
        return None
    if spec.kind == "masked-lm":
        return MaskedLMHead(config, encoder.embeddings.words)
    if spec.kind == "classification":
        return build_classifier(config, spec)
    if spec.kind == "embedding":
        return VectorHead(config, spec)
    return PerTokenClassifier(config, spec)


def build_classifier(config: EncoderConfig, spec: HeadSpec) -> nn.Module:
    """Return a head that reads one vector a text."""
    if spec.pooling == "mean" or config.family == "distilbert":
        return DenseClassifier(config, spec, activation=relu)
    if config.family == "bert":
        return PooledClassifier(config, spec)
    return DenseClassifier(config, spec, activation=torch.tanh, drops_input=True)


class PooledClassifier(nn.Module):
    """BERT's form: the pooler's tanh vector, dropout, one dense layer."""

    def __init__(self, config: EncoderConfig, spec: HeadSpec) -> None:
        super().__init__()
        self.output = nn.Linear(config.hidden_size, len(spec.labels))
        self.dropout = _dropout(config, spec)

    def forward(self, pooled_BD: Tensor, noise: Noise | None) -> Tensor:
        """Return logits: (B, D) -> (B, C)."""
        return last_layer(self.output, dropped(pooled_BD, self.dropout, noise))


class DenseClassifier(nn.Module):
    """Dense, activation, dropout, dense: DistilBERT's, RoBERTa's and the mean-pooled form."""

    def __init__(
        self,
        config: EncoderConfig,
        spec: HeadSpec,
        *,
        activation: Callable[[Tensor], Tensor],
        drops_input: bool = False,
    ) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.output = nn.Linear(config.hidden_size, len(spec.labels))
        self.activation = activation
        self.dropout = _dropout(config, spec)
        self.drops_input = drops_input

    def forward(self, pooled_BD: Tensor, noise: Noise | None) -> Tensor:
        """Return logits: (B, D) -> (B, C)."""
        if self.drops_input:
            pooled_BD = dropped(pooled_BD, self.dropout, noise)
        dense_BD = self.activation(self.dense(pooled_BD))
        return last_layer(self.output, dropped(dense_BD, self.dropout, noise))


class VectorHead(nn.Module):
    """From the pooled hidden state to a text's vector: a dense map if there is one, length 1."""

    def __init__(self, config: EncoderConfig, spec: HeadSpec) -> None:
        super().__init__()
        self.output = nn.Linear(config.hidden_size, spec.width) if spec.width else None
        self.normalize = spec.normalize

    def forward(self, pooled_BD: Tensor, noise: Noise | None) -> Tensor:
        """Return vectors in fp32: (B, D) -> (B, D or width). There is no dropout here."""
        del noise
        vectors: Tensor = (self.output(pooled_BD) if self.output else pooled_BD).float()
        return normalize(vectors, dim=-1) if self.normalize else vectors


class PerTokenClassifier(nn.Module):
    """Dropout and one dense layer at each token: entities (C tags) and answers (start, end)."""

    def __init__(self, config: EncoderConfig, spec: HeadSpec) -> None:
        super().__init__()
        self.output = nn.Linear(config.hidden_size, len(spec.labels))
        # Of the question-answering heads only DistilBERT's drops anything.
        drops = spec.kind == "token-classification" or config.family == "distilbert"
        self.dropout = _dropout(config, spec) if drops else 0.0

    def forward(self, hidden_ND: Tensor, noise: Noise | None) -> Tensor:
        """Return logits: (N, D) -> (N, C)."""
        logits: Tensor = self.output(dropped(hidden_ND, self.dropout, noise))
        return logits


class MaskedLMHead(nn.Module):
    """Dense, activation, norm, then products with the word table itself (tied) plus a bias."""

    def __init__(self, config: EncoderConfig, words: nn.Embedding) -> None:
        super().__init__()
        self.transform = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.norm_epsilon)
        self.decoder = TiedDecoder(words)
        self.activation = ACTIVATION_FUNCTIONS[config.activation]

    def forward(self, hidden_ND: Tensor, noise: Noise | None) -> Tensor:
        """Return logits: (N, D) -> (N, V). Hand in only the positions that are needed."""
        del noise
        logits: Tensor = self.decoder(self.features(hidden_ND))
        return logits

    def features(self, hidden_ND: Tensor) -> Tensor:
        """Return what the word table is multiplied with, (N, D) -> (N, D)."""
        features: Tensor = self.norm(self.activation(self.transform(hidden_ND)))
        return features


class TiedDecoder(nn.Module):
    """A dense layer whose weight is the word table; only the bias is its own."""

    def __init__(self, words: nn.Embedding) -> None:
        super().__init__()
        self._words = (words,)  # in a tuple, so that the table is not registered twice
        self.bias = nn.Parameter(torch.zeros(words.num_embeddings))
        self._products: Tensor | None = None

    def forward(self, hidden_ND: Tensor) -> Tensor:
        """Return (N, D) -> (N, V)."""
        return linear(hidden_ND, self.weight, self.bias)

    @property
    def weight(self) -> Tensor:
        """Return the word table, (V, D)."""
        return self._words[0].weight if self._products is None else self._products

    def keep_products_in(self, dtype: torch.dtype) -> None:
        """Keep a copy of the table, whose rows are looked up too, as it is multiplied."""
        self._products = self._words[0].weight.detach().to(dtype)


def last_layer(layer: nn.Linear, features_BD: Tensor) -> Tensor:
    """Return the outputs of a classifier, (B, D) -> (B, C); a single one is computed in fp32.

    Classes are compared with each other, and bf16 leaves their order; a number stands for itself,
    and bf16 would leave it three digits.
    """
    if layer.out_features > 1:
        logits: Tensor = layer(features_BD)
        return logits
    with torch.autocast(features_BD.device.type, enabled=False):
        return linear(features_BD.float(), layer.weight.float(), layer.bias.float())


def pooled(encoder: Encoder, output: EncoderOutput, layout: TextLayout, spec: HeadSpec) -> Tensor:
    """Return one vector a text, (B, D): the first position's (BERT: pooled) or the mean."""
    if spec.pooling == "mean":
        return mean_of_texts(output.last, layout).to(output.last.dtype)
    first_BD = output.last if output.is_first_only else output.last[layout.first_B]
    if encoder.pooler is None or spec.kind == "embedding":
        return first_BD
    return torch.tanh(encoder.pooler(first_BD))


def mean_of_texts(hidden_ND: Tensor, layout: TextLayout) -> Tensor:
    """Return the mean over each text's tokens, special ones included, (B, D), summed in fp32."""
    texts = layout.lengths_B.shape[0]
    sums_BD = hidden_ND.new_zeros(texts, hidden_ND.shape[-1], dtype=torch.float32)
    sums_BD = sums_BD.index_add(0, layout.text_N, hidden_ND.float())
    return sums_BD / layout.lengths_B[:, None]


def _dropout(config: EncoderConfig, spec: HeadSpec) -> float:
    return config.dropout if spec.dropout is None else spec.dropout
