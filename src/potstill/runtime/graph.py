"""The encoder and its heads as a graph of operators: what engines without torch are built of.

It is the one twin of `models/` that is allowed: with it any folder runs without torch, and the
graph has the shape that serves best. All tokens of a call lie end to end, so that no product is
spent on padding; for attention alone they are laid into rows of several texts, where a mask, made
once, keeps them apart; the last layer is computed only where the head reads it. The graph is stated
here, once; what an operator is called is the library's matter.

A caller whose tokens lie in padded rows already, one text each, leaves the layout out.

Legend: R rows, T slots of a row, F texts of a row at most, Q queried slots of a row (T or F),
D hidden width, H heads, K head width, C outputs, V vocabulary. With a layout there is one row of
all tokens, R = 1, and attention has P rows of W slots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from potstill.architectures.config import EncoderConfig
from potstill.architectures.heads import HeadSpec
from potstill.runtime.engine import STATE_PREFIX

Weights = Mapping[str, NDArray[Any]]  # by our names
Node = Any  # the library's own

IDS, POSITIONS, TOKEN_TYPES = "ids", "positions", "token_types"  # (R, T) of each token
TEXTS = "texts"  # (R, T) number of each token's text in its row, from 1; 0: an empty slot
FIRSTS = "firsts"  # (R, F) slot of each text's first token; 0 where a row has fewer texts
TOKENS_OF_SLOTS = "tokens_of_slots"  # (P, W) which token lies in each slot; any in an empty one
TEXTS_OF_SLOTS = "texts_of_slots"  # (P, W) the number of its text; 0: an empty slot
SLOTS = "slots"  # (1, T) where each token lies among the P * W
LAYOUT = (TOKENS_OF_SLOTS, TEXTS_OF_SLOTS, SLOTS)
VECTORS = "vectors"

# Operators of an answer that have no weights; by these names quantization leaves them as they are.
POOLING, UNIT_LENGTH = "pooling", "unit_length"

HIDDEN = np.float32(-1e4)  # added to the score of another text's key: e^-10000 is 0 in any format


class Operators(Protocol):
    """A library's operators; each returns a node of its graph."""

    def constant(self, array: NDArray[Any], name: str) -> Node:
        """Return an array that stands in the graph."""
        ...

    def rows(self, table: Node, numbers_RT: Node) -> Node:
        """Return rows of a table, (R, T, D)."""
        ...

    def add(self, left: Node, right: Node) -> Node:
        """Return the sum."""
        ...

    def divided(self, left: Node, right: Node) -> Node:
        """Return the quotient."""
        ...

    def times(self, node: Node, factor: float) -> Node:
        """Return a node times a number."""
        ...

    def product(self, left: Node, right: Node, *, is_turned: bool = False, name: str = "") -> Node:
        """Return left times right, or times right with its last two axes exchanged."""
        ...

    def softmax(self, node: Node) -> Node:
        """Return shares over the last axis."""
        ...

    def norm(self, node: Node, scale: Node, shift: Node, epsilon: float) -> Node:
        """Return mean 0 and deviation 1 over the last axis, scaled and shifted."""
        ...

    def activated(self, node: Node, name: str) -> Node:
        """Return an activation: gelu, gelu_new, gelu_pytorch_tanh, relu or tanh."""
        ...

    def split(self, node_RQD: Node, heads: int, width: int) -> Node:
        """Split into heads: (R, Q, D) -> (R, H, Q, K)."""
        ...

    def joined(self, node_RHQK: Node) -> Node:
        """Join heads: (R, H, Q, K) -> (R, Q, D)."""
        ...

    def is_equal(self, queries_RQ: Node, keys_RT: Node) -> Node:
        """Tell where both numbers are the same, (R, Q, T)."""
        ...

    def bias(self, sees_RQT: Node) -> Node:
        """Return what is added to scores: 0 where a key is seen, else `HIDDEN`, (R, 1, Q, T)."""
        ...

    def as_numbers(self, is_true: Node) -> Node:
        """Return 1.0 and 0.0."""
        ...

    def total(self, node: Node) -> Node:
        """Return the sum over the last axis, which stays with one entry."""
        ...

    def picked(self, numbers_RT: Node, slots_RF: Node) -> Node:
        """Return the numbers at some slots of each row, (R, F)."""
        ...

    def at_slots(self, node_RTD: Node, slots_RF: Node) -> Node:
        """Return the states at some slots of each row, (R, F, D)."""
        ...

    def laid_out(self, node_1TD: Node, tokens_PW: Node, width: int) -> Node:
        """Lay tokens, vectors of width D, into rows, (P, W, D)."""
        ...

    def taken_back(self, node_PWD: Node, slots_1T: Node) -> Node:
        """Return tokens from rows to where they lay, (1, T, D)."""
        ...

    def of_length_1(self, node: Node, *, name: str) -> Node:
        """Return vectors of length 1."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How tokens that lie end to end are laid into rows for attention."""

    tokens_PW: Node
    texts_PW: Node
    slots_1T: Node


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphInputs:
    """The parameters of a graph."""

    ids_RT: Node
    positions_RT: Node
    texts_RT: Node
    firsts_RF: Node
    token_types_RT: Node | None
    layout: Layout | None = None

    @classmethod
    def of(cls, parameters: Mapping[str, Node]) -> GraphInputs:
        """Take the parameters that `input_names` names."""
        return cls(
            ids_RT=parameters[IDS],
            positions_RT=parameters[POSITIONS],
            texts_RT=parameters[TEXTS],
            firsts_RF=parameters[FIRSTS],
            token_types_RT=parameters.get(TOKEN_TYPES),
            layout=Layout(
                tokens_PW=parameters[TOKENS_OF_SLOTS],
                texts_PW=parameters[TEXTS_OF_SLOTS],
                slots_1T=parameters[SLOTS],
            ),
        )


def input_names(config: EncoderConfig) -> list[str]:
    """Return the names of the parameters that a model has."""
    types = [TOKEN_TYPES] if has_token_types(config) else []
    return [IDS, POSITIONS, TEXTS, FIRSTS, *LAYOUT, *types]


def has_token_types(config: EncoderConfig) -> bool:
    """Tell whether the graph reads token types: a table of one row says the same of every token."""
    return config.token_types > 1


def leaves_last_layer(head: HeadSpec) -> bool:
    """Tell whether the head gives one number, whose last layer is then left to the caller.

    A class stands beside others and bf16 leaves their order; a number stands for itself, and bf16
    would leave it three digits. The graph's logits are that layer's input, (R, F, D).
    """
    return head.answers_one_number


@dataclass(frozen=True, slots=True)
class GraphWriter:
    """Writes the graph of one model; each method is a block and returns its node."""

    config: EncoderConfig
    head: HeadSpec
    weights: Weights  # of encoder and head, in fp32
    inputs: GraphInputs
    ops: Operators
    is_whole: bool = False  # the last layer of a head that gives one number stands in it too

    def outputs(self, names: Sequence[str]) -> dict[str, Node]:
        """Return the nodes of what is asked for, by the names that engines know.

        Logits of whole texts are (R, F, C), of tokens (R, T, C), vectors (R, F, D), states
        (R, T, D).
        """
        has_states = any(name.startswith(STATE_PREFIX) for name in names)
        is_pruned = self.head.reads_first_position_only and not has_states
        is_pruned = is_pruned and not (VECTORS in names and self.head.kind != "embedding")
        states = self.encoder(is_pruned=is_pruned)
        return {name: self._output(name, states, is_pruned=is_pruned) for name in names}

    def encoder(self, *, is_pruned: bool) -> list[Node]:
        """Return all hidden states; the last at the first positions only, (R, F, D), if pruned."""
        ops, layout = self.ops, self.inputs.layout
        texts = self.inputs.texts_RT if layout is None else layout.texts_PW
        mask = ops.bias(ops.is_equal(texts, texts))
        states = [self.embeddings()]
        for index in range(self.config.layers):
            is_cut = is_pruned and index == self.config.layers - 1
            if is_cut:
                mask = ops.bias(self._first_sees())
            states.append(self.layer(states[-1], f"layers.{index}", mask, is_cut=is_cut))
        return states

    def embeddings(self) -> Node:
        """Return the sum of word, position and token-type rows, normed, (R, T, D)."""
        ops, types, name = self.ops, self.inputs.token_types_RT, "embeddings.token_types.weight"
        positions = self.weights["embeddings.positions.weight"]
        if types is None and self.config.token_types:
            positions = positions + self.weights[name][0]
        positions = ops.constant(positions, "embeddings.positions.weight")
        words = self._constant("embeddings.words.weight")
        hidden = ops.add(
            ops.rows(words, self.inputs.ids_RT), ops.rows(positions, self.inputs.positions_RT)
        )
        if types is not None:
            hidden = ops.add(hidden, ops.rows(self._constant(name), types))
        return self.norm(hidden, "embeddings.norm")

    def layer(self, hidden_RTD: Node, name: str, mask: Node, *, is_cut: bool) -> Node:
        """Return attention and feed-forward, each added to its input and normed, (R, Q, D)."""
        ops = self.ops
        asking_RQD = ops.at_slots(hidden_RTD, self.inputs.firsts_RF) if is_cut else hidden_RTD
        layout = None if is_cut else self.inputs.layout  # few slots ask: they may see all tokens
        mixed = self.attention(asking_RQD, hidden_RTD, f"{name}.attention", mask, layout)
        hidden = self.norm(ops.add(asking_RQD, mixed), f"{name}.attention_norm")
        widened = self.dense(hidden, f"{name}.feed_forward.up")
        widened = ops.activated(widened, self.config.activation)
        narrowed = self.dense(widened, f"{name}.feed_forward.down")
        return self.norm(ops.add(hidden, narrowed), f"{name}.feed_forward_norm")

    def attention(
        self, asking_RQD: Node, hidden_RTD: Node, name: str, mask: Node, layout: Layout | None
    ) -> Node:
        """Return the attention of some slots to those of their row that the mask leaves."""
        ops = self.ops
        query = self._heads(self.dense(asking_RQD, f"{name}.query"), layout)
        key = self._heads(self.dense(hidden_RTD, f"{name}.key"), layout)
        value = self._heads(self.dense(hidden_RTD, f"{name}.value"), layout)
        scores = ops.product(query, key, is_turned=True, name=f"{name}.scores")
        shares = ops.softmax(ops.add(ops.times(scores, self.config.head_size**-0.5), mask))
        mixed = ops.joined(ops.product(shares, value, name=f"{name}.mixed"))
        if layout is not None:
            mixed = ops.taken_back(mixed, layout.slots_1T)
        return self.dense(mixed, f"{name}.output")

    def _heads(self, features_RTD: Node, layout: Layout | None) -> Node:
        if layout is not None:
            width = self.config.hidden_size
            features_RTD = self.ops.laid_out(features_RTD, layout.tokens_PW, width)
        return self.ops.split(features_RTD, self.config.heads, self.config.head_size)

    def dense(self, features: Node, name: str) -> Node:
        """Return features times the layer's weights, plus its bias."""
        weight = self._constant(f"{name}.weight")
        product = self.ops.product(features, weight, is_turned=True, name=name)
        return self.ops.add(product, self._constant(f"{name}.bias"))

    def norm(self, features: Node, name: str) -> Node:
        """Return features of mean 0 and deviation 1, scaled and shifted."""
        scale, shift = self._constant(f"{name}.weight"), self._constant(f"{name}.bias")
        return self.ops.norm(features, scale, shift, self.config.norm_epsilon)

    def _output(self, name: str, states: list[Node], *, is_pruned: bool) -> Node:
        if name.startswith(STATE_PREFIX):
            return states[int(name.removeprefix(STATE_PREFIX))]
        is_embedding = self.head.kind == "embedding"
        if name == VECTORS and not is_embedding:  # a model that declares none
            return self._mean(states[-1])
        if not self.head.answers_whole_texts:
            return self._of_tokens(states[-1])
        if self.head.pooling == "mean":
            features = self._mean(states[-1])
        elif is_pruned:
            features = states[-1]
        else:
            features = self.ops.at_slots(states[-1], self.inputs.firsts_RF)
        return self._vectors(features) if is_embedding else self._classes(features)

    def _classes(self, features_RFD: Node) -> Node:
        """Return logits in the form of the family, (R, F, C); see `models.heads`."""
        if self.head.pooling == "mean" or self.config.family == "distilbert":
            layer, activation = "head.dense", "relu"
        elif self.config.family == "bert":
            layer, activation = "pooler", "tanh"
        else:
            layer, activation = "head.dense", "tanh"
        features_RFD = self.ops.activated(self.dense(features_RFD, layer), activation)
        is_left = leaves_last_layer(self.head) and not self.is_whole
        return features_RFD if is_left else self.dense(features_RFD, "head.output")

    def _of_tokens(self, hidden_RTD: Node) -> Node:
        ops = self.ops
        if self.head.kind != "masked-lm":
            return self.dense(hidden_RTD, "head.output")
        features = ops.activated(self.dense(hidden_RTD, "head.transform"), self.config.activation)
        words = self._constant("embeddings.words.weight")
        features = self.norm(features, "head.norm")
        product = ops.product(features, words, is_turned=True, name="head.decoder")
        return ops.add(product, self._constant("head.decoder.bias"))

    def _vectors(self, features_RFD: Node) -> Node:
        if self.head.width:
            features_RFD = self.dense(features_RFD, "head.output")
        if not self.head.normalize:
            return features_RFD
        return self.ops.of_length_1(features_RFD, name=UNIT_LENGTH)

    def _mean(self, hidden_RTD: Node) -> Node:
        """Return the mean over each text's tokens, (R, F, D)."""
        is_of_RFT = self.ops.as_numbers(self._first_sees())
        sums_RFD = self.ops.product(is_of_RFT, hidden_RTD, name=POOLING)
        return self.ops.divided(sums_RFD, self.ops.total(is_of_RFT))

    def _first_sees(self) -> Node:
        """Tell which slots are of the same text as each text's first token, (R, F, T)."""
        texts_RF = self.ops.picked(self.inputs.texts_RT, self.inputs.firsts_RF)
        return self.ops.is_equal(texts_RF, self.inputs.texts_RT)

    def _constant(self, name: str) -> Node:
        return self.ops.constant(self.weights[name], name)
