"""The encoder: post-norm BERT, which also is DistilBERT, RoBERTa, XLM-R and MiniLM.

What the families change: DistilBERT has no token types and no pooler; RoBERTa and XLM-R begin to
count positions at 2. Everything runs on the real tokens laid end to end; attention alone knows how
they are arranged (see layout.py).

Legend: B texts, N tokens of all texts, D hidden width, F feed-forward width, V vocabulary.
Sources: Devlin et al. 2018, arXiv 1810.04805; Sanh et al. 2019, arXiv 1910.01108.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import gelu, relu

from potstill.architectures.config import EncoderConfig
from potstill.models.attention import taken_out
from potstill.models.layout import TextLayout
from potstill.models.noise import Noise
from potstill.models.word_table import look_up

ACTIVATION_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": gelu,
    "gelu_new": partial(gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(gelu, approximate="tanh"),
    "relu": relu,
}


@dataclass(frozen=True, slots=True)
class EncoderOutput:
    """What an encoder gives."""

    last: Tensor  # (N, D), or (B, D) or (P, D) if only some positions were computed
    states: tuple[Tensor, ...] | None  # (N, D) each: 0 the embedding output, i after layer i
    is_first_only: bool
    words_VD: Tensor  # the word table, for a decoder that is tied to it, see word_table.py

    def state(self, index: int) -> Tensor:
        """Return a hidden state: 0 is the embedding output, i the output of layer i."""
        assert self.states is not None, "call the encoder with keep_states=True"
        assert 0 <= index < len(self.states), (
            f"hidden state {index} was not kept: 0 is the embedding output, "
            f"{len(self.states) - 1} the last that was"
        )
        return self.states[index]


class Encoder(nn.Module):
    """A stack of layers over embeddings, and BERT's pooler where the config has one."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size) if config.pooler else None

    def forward(
        self,
        layout: TextLayout,
        *,
        noise: Noise | None = None,
        keep_states: bool = False,
        first_only: bool = False,
        at_P: Tensor | None = None,
        depth: int | None = None,
    ) -> EncoderOutput:
        """Encode a batch.

        Args:
            layout: the texts.
            noise: where dropout comes from; None: no dropout.
            keep_states: return every hidden state.
            first_only: compute the last layer at each text's first position only; keys and values
                of all tokens are still used, so the result there is exact.
            at_P: compute the last layer at these tokens only, each of them once, after which the
                last state is not among the kept ones; exact for the same reason.
            depth: run the first so many layers only; None: all.
        """
        assert not (keep_states and first_only), "the last state needs all positions"
        assert not first_only or at_P is None, "one choice of positions"
        hidden_ND, words_VD = self.embeddings(layout, noise)
        states = [hidden_ND]
        last_index = len(self.layers) - 1
        for index, layer in enumerate(islice(self.layers, depth)):
            is_last = index == last_index
            hidden_ND = layer(
                hidden_ND,
                layout,
                noise,
                first_only=first_only and is_last,
                at_P=at_P if is_last else None,
            )
            if keep_states and not (is_last and at_P is not None):
                states.append(hidden_ND)
        kept = tuple(states) if keep_states else None
        return EncoderOutput(hidden_ND, kept, first_only, words_VD)

    def queries_keys_values(self, layer: int, input_ND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the attention of a layer (counted from 0) makes of the layer's input."""
        chosen = self.layers[layer]
        assert isinstance(chosen, Layer), "an encoder is a stack of layers"
        attention = chosen.attention
        return attention.query(input_ND), attention.key(input_ND), attention.value(input_ND)


class Embeddings(nn.Module):
    """Sum of word, position and token-type rows, normed."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.words = _table(config.vocabulary_size, width)
        self.positions = _table(config.max_positions, width)
        self.token_types = _table(config.token_types, width) if config.token_types else None
        self.norm = nn.LayerNorm(width, eps=config.norm_epsilon)
        self.dropout = config.dropout

    def forward(self, layout: TextLayout, noise: Noise | None) -> tuple[Tensor, Tensor]:
        """Return the embedding output, (N, D), and the word table as it is handed on, (V, D)."""
        words_ND, words_VD = look_up(self.words.weight, layout.ids_N)
        hidden_ND = words_ND + self.positions(layout.positions_N)
        if self.token_types is not None:
            if layout.token_types_N is None:
                hidden_ND = hidden_ND + self.token_types.weight[0]
            else:
                hidden_ND = hidden_ND + self.token_types(layout.token_types_N)
        normed_ND = _in_autocast_dtype(self.norm(hidden_ND))
        return dropped(normed_ND, self.dropout, noise), words_VD


class Layer(nn.Module):
    """Attention and feed-forward, each added to its input and normed."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_epsilon)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_epsilon)
        self.dropout = config.dropout

    def forward(
        self,
        hidden_ND: Tensor,
        layout: TextLayout,
        noise: Noise | None,
        *,
        first_only: bool,
        at_P: Tensor | None = None,
    ) -> Tensor:
        """Return the layer's output, (N, D); at the first positions (B, D), at others (P, D)."""
        mixed = self.attention(hidden_ND, layout, noise, first_only=first_only, at_P=at_P)
        if first_only:
            hidden_ND = hidden_ND.index_select(0, layout.first_B)
        elif at_P is not None:
            hidden_ND = taken_out(hidden_ND, at_P)
        hidden_ND = self.attention_norm(hidden_ND + dropped(mixed, self.dropout, noise))
        widened = self.feed_forward(hidden_ND)
        normed: Tensor = self.feed_forward_norm(hidden_ND + dropped(widened, self.dropout, noise))
        return normed


class SelfAttention(nn.Module):
    """Multi-head attention of each token to the tokens of its own text."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.heads
        self.dropout = config.attention_dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(
        self,
        hidden_ND: Tensor,
        layout: TextLayout,
        noise: Noise | None,
        *,
        first_only: bool,
        at_P: Tensor | None = None,
    ) -> Tensor:
        """Return (N, D), or (B, D) with queries of the first positions only, or (P, D)."""
        key_ND, value_ND = self.key(hidden_ND), self.value(hidden_ND)
        settings: Any = {"heads": self.heads, "noise": noise, "dropout": self.dropout}
        if first_only:
            query_BD = self.query(hidden_ND.index_select(0, layout.first_B))
            mixed = layout.first_attention.attend_first(query_BD, key_ND, value_ND, **settings)
        else:
            query_ND = self.query(hidden_ND)
            mixed = layout.attention.attend(query_ND, key_ND, value_ND, **settings)
        if at_P is not None:
            mixed = taken_out(mixed, at_P)
        output: Tensor = self.output(mixed)
        return output


class FeedForward(nn.Module):
    """Two dense layers with an activation between."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.hidden_size, config.feed_forward_size)
        self.down = nn.Linear(config.feed_forward_size, config.hidden_size)
        self.activation = ACTIVATION_FUNCTIONS[config.activation]

    def forward(self, hidden_ND: Tensor) -> Tensor:
        """Return (N, D) -> (N, D)."""
        widened_NF = self.up(hidden_ND)
        active_NF = self.activation(widened_NF)

        # The widest states of a layer: of the two only one waits for the backward pass.
        active = ref(active_NF)  # autograd keeps what puts away, and what that refers to

        def put_away(kept: Tensor) -> Tensor | None:
            return None if kept is active() else kept

        def taken_back(kept: Tensor | None) -> Tensor:
            return self.activation(widened_NF.detach()) if kept is None else kept

        with saved_tensors_hooks(put_away, taken_back):
            output: Tensor = self.down(active_NF)
        return output


def _table(rows: int, width: int) -> nn.Embedding:
    """Return an embedding table, drawn as torch does, but not where it has no storage.

    To draw numbers for a tensor on the meta device torch imports its compiler: over a second.
    """
    weight = torch.empty(rows, width)
    if weight.device.type != "meta":
        nn.init.normal_(weight)
    return nn.Embedding(rows, width, _weight=weight)


def _in_autocast_dtype(hidden_ND: Tensor) -> Tensor:
    """Begin the residual stream in autocast's dtype, so that no layer casts it again."""
    kind = hidden_ND.device.type
    if not torch.is_autocast_enabled(kind):
        return hidden_ND
    return hidden_ND.to(torch.get_autocast_dtype(kind))


def dropped(values: Tensor, probability: float, noise: Noise | None) -> Tensor:
    """Return the values after dropout, or as they are where there is no noise."""
    return values if noise is None else noise.drop(values, probability)
