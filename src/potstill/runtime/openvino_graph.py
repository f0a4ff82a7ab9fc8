"""The encoder and its heads as an OpenVINO graph, written from config and weights; torch-free.

It is the one twin of `models/` that is allowed: with it any folder runs without torch, and the
graph has the shape that serves best. Texts lie packed in rows; attention stays inside each text by
a mask that is built once; the last layer is computed only where the head reads it.

Legend: R rows, T slots of a row, F texts of a row at most, Q queried slots of a row (T or F),
D hidden width, H heads, K head width, C outputs, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.architectures.config import EncoderConfig
from potstill.architectures.heads import HeadSpec
from potstill.runtime.engine import STATE_PREFIX
from potstill.runtime.openvino_library import openvino

ops: Any = openvino("the openvino engine").opset13

Weights = Mapping[str, NDArray[Any]]  # by our names
Node = Any  # openvino's own; its Python classes are untyped

IDS, POSITIONS, TOKEN_TYPES = "ids", "positions", "token_types"  # (R, T) of each token
TEXTS = "texts"  # (R, T) number of each token's text in its row, from 1; 0: an empty slot
FIRSTS = "firsts"  # (R, F) slot of each text's first token; 0 where a row has fewer texts
VECTORS = "vectors"

_HIDDEN = np.float32(-1e4)  # added to the score of another text's key: e^-10000 is 0 in any format


@dataclass(frozen=True, slots=True)
class GraphInputs:
    """The parameters of a graph."""

    ids_RT: Node
    positions_RT: Node
    texts_RT: Node
    firsts_RF: Node
    token_types_RT: Node | None

    @property
    def all(self) -> list[Node]:
        """Return those that there are."""
        given = (self.ids_RT, self.positions_RT, self.texts_RT, self.firsts_RF)
        return [*given, *([] if self.token_types_RT is None else [self.token_types_RT])]


def build_graph(
    config: EncoderConfig, head: HeadSpec, weights: Weights, outputs: Sequence[str]
) -> Node:
    """Write the graph that gives these outputs.

    Where the head gives one number, its last layer is left to the caller: a class stands beside
    others and bf16 leaves their order, but a number stands for itself, and bf16 would leave it
    three digits. Its logits are then that layer's input, (R, F, D).

    Args:
        config: sizes of the encoder.
        head: what stands on it.
        weights: all of both, by our names, in fp32.
        outputs: names as engines know them; logits of whole texts are (R, F, C), of tokens
            (R, T, C), vectors (R, F, D), states (R, T, D).
    """
    inputs = _parameters(config)
    results = _Writer(config, head, weights, inputs).results(outputs)
    return openvino("the openvino engine").Model(results, inputs.all, "potstill")


def leaves_last_layer(head: HeadSpec) -> bool:
    """Tell whether the head gives one number."""
    return head.kind == "classification" and len(head.labels) == 1


def has_token_types(config: EncoderConfig) -> bool:
    """Tell whether the graph reads token types: a table of one row says the same of every token."""
    return config.token_types > 1


def _parameters(config: EncoderConfig) -> GraphInputs:
    def parameter(name: str) -> Node:
        made = ops.parameter([-1, -1], np.int32, name=name)
        made.output(0).get_tensor().set_names({name})
        return made

    return GraphInputs(
        ids_RT=parameter(IDS),
        positions_RT=parameter(POSITIONS),
        texts_RT=parameter(TEXTS),
        firsts_RF=parameter(FIRSTS),
        token_types_RT=parameter(TOKEN_TYPES) if has_token_types(config) else None,
    )


class _Writer:
    """Writes one graph; each method is a block and returns its node."""

    def __init__(
        self, config: EncoderConfig, head: HeadSpec, weights: Weights, inputs: GraphInputs
    ) -> None:
        self.config, self.head, self.weights, self.inputs = config, head, weights, inputs

    def results(self, outputs: Sequence[str]) -> list[Node]:
        """Return the graph's results by name."""
        has_states = any(name.startswith(STATE_PREFIX) for name in outputs)
        is_pruned = self.head.reads_first_position_only and not has_states
        is_pruned = is_pruned and not (VECTORS in outputs and self.head.kind != "embedding")
        states = self.encoder(is_pruned=is_pruned)
        made = {name: self._output(name, states, is_pruned=is_pruned) for name in outputs}
        return [_named(ops.result(node), name) for name, node in made.items()]

    def encoder(self, *, is_pruned: bool) -> list[Node]:
        """Return all hidden states; the last at the first positions only, (R, F, D), if pruned."""
        same_text_RTT = _is_equal(self.inputs.texts_RT, self.inputs.texts_RT)
        states = [self.embeddings()]
        last = self.config.layers - 1
        for index in range(self.config.layers):
            is_cut = is_pruned and index == last
            mask = _bias(self._first_sees() if is_cut else same_text_RTT)
            states.append(self.layer(states[-1], f"layers.{index}", mask, is_cut=is_cut))
        return states

    def embeddings(self) -> Node:
        """Return the sum of word, position and token-type rows, normed, (R, T, D)."""
        types, name = self.inputs.token_types_RT, "embeddings.token_types.weight"
        positions = self.weights["embeddings.positions.weight"]
        if types is None and self.config.token_types:
            positions = positions + self.weights[name][0]
        hidden = ops.add(
            self._rows(self.weights["embeddings.words.weight"], self.inputs.ids_RT),
            self._rows(positions, self.inputs.positions_RT),
        )
        if types is not None:
            hidden = ops.add(hidden, self._rows(self.weights[name], types))
        return self.norm(hidden, "embeddings.norm")

    def layer(self, hidden_RTD: Node, name: str, mask: Node, *, is_cut: bool) -> Node:
        """Return attention and feed-forward, each added to its input and normed, (R, Q, D)."""
        asking_RQD = self._at_firsts(hidden_RTD) if is_cut else hidden_RTD
        mixed = self.attention(asking_RQD, hidden_RTD, f"{name}.attention", mask)
        hidden = self.norm(ops.add(asking_RQD, mixed), f"{name}.attention_norm")
        widened = self.activation(self.dense(hidden, f"{name}.feed_forward.up"))
        narrowed = self.dense(widened, f"{name}.feed_forward.down")
        return self.norm(ops.add(hidden, narrowed), f"{name}.feed_forward_norm")

    def attention(self, asking_RQD: Node, hidden_RTD: Node, name: str, mask: Node) -> Node:
        """Return the attention of some slots to those of their row that the mask leaves."""
        query = self._heads(self.dense(asking_RQD, f"{name}.query"))
        key = self._heads(self.dense(hidden_RTD, f"{name}.key"))
        value = self._heads(self.dense(hidden_RTD, f"{name}.value"))
        scores = _product(query, key, is_turned=True)
        scores = ops.multiply(scores, np.float32(self.config.head_size**-0.5))
        shares = ops.softmax(ops.add(scores, mask), axis=-1)
        mixed = ops.transpose(_product(shares, value), _numbers([0, 2, 1, 3]))
        return self.dense(_reshaped(mixed, [0, 0, -1]), f"{name}.output")

    def dense(self, features: Node, name: str) -> Node:
        """Return features times the layer's weights, plus its bias."""
        product = _product(features, self._constant(f"{name}.weight"), is_turned=True)
        return ops.add(product, self._constant(f"{name}.bias"))

    def norm(self, features: Node, name: str) -> Node:
        """Return features of mean 0 and deviation 1, scaled and shifted."""
        epsilon = self.config.norm_epsilon
        normed = ops.mvn(
            features,
            _numbers([-1]),
            normalize_variance=True,
            eps=epsilon,
            eps_mode="inside_sqrt",
        )
        scaled = ops.multiply(normed, self._constant(f"{name}.weight"))
        return ops.add(scaled, self._constant(f"{name}.bias"))

    def activation(self, features: Node) -> Node:
        """Return the feed-forward's activation."""
        return ACTIVATIONS[self.config.activation](features)

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
        else:
            features = states[-1] if is_pruned else self._at_firsts(states[-1])
        return self._vectors(features) if is_embedding else self._classes(features)

    def _classes(self, features_RFD: Node) -> Node:
        """Return logits in the form of the family, (R, F, C); see `models.heads`."""
        if self.head.pooling == "mean" or self.config.family == "distilbert":
            features_RFD = ops.relu(self.dense(features_RFD, "head.dense"))
        elif self.config.family == "bert":
            features_RFD = ops.tanh(self.dense(features_RFD, "pooler"))
        else:
            features_RFD = ops.tanh(self.dense(features_RFD, "head.dense"))
        is_left = leaves_last_layer(self.head)
        return features_RFD if is_left else self.dense(features_RFD, "head.output")

    def _of_tokens(self, hidden_RTD: Node) -> Node:
        if self.head.kind != "masked-lm":
            return self.dense(hidden_RTD, "head.output")
        features = self.activation(self.dense(hidden_RTD, "head.transform"))
        features = self.norm(features, "head.norm")
        table = self._constant("embeddings.words.weight")
        return ops.add(
            _product(features, table, is_turned=True), self._constant("head.decoder.bias")
        )

    def _vectors(self, features_RFD: Node) -> Node:
        if self.head.width:
            features_RFD = self.dense(features_RFD, "head.output")
        if not self.head.normalize:
            return features_RFD
        return ops.normalize_l2(features_RFD, _numbers([-1]), 1e-12, "max")

    def _mean(self, hidden_RTD: Node) -> Node:
        """Return the mean over each text's tokens, (R, F, D)."""
        is_of_RFT = ops.convert(self._first_sees(), "f32")
        tokens_RF1 = ops.reduce_sum(is_of_RFT, _numbers([-1]), keep_dims=True)
        return ops.divide(_product(is_of_RFT, hidden_RTD), tokens_RF1)

    def _first_sees(self) -> Node:
        """Tell which slots are of the same text as each text's first token, (R, F, T)."""
        texts_RF = ops.gather_elements(self.inputs.texts_RT, self.inputs.firsts_RF, 1)
        return _is_equal(texts_RF, self.inputs.texts_RT)

    def _at_firsts(self, hidden_RTD: Node) -> Node:
        """Return the states of the first tokens, (R, F, D)."""
        return ops.gather(hidden_RTD, self.inputs.firsts_RF, np.int32(1), 1)

    def _heads(self, features_RQD: Node) -> Node:
        """Split into heads: (R, Q, D) -> (R, H, Q, K)."""
        shape = [0, 0, self.config.heads, self.config.head_size]
        return ops.transpose(_reshaped(features_RQD, shape), _numbers([0, 2, 1, 3]))

    def _rows(self, table: NDArray[Any], numbers_RT: Node) -> Node:
        return ops.gather(ops.constant(table), numbers_RT, np.int32(0))

    def _constant(self, name: str) -> Node:
        return ops.constant(self.weights[name], name=name)


def _product(left: Node, right: Node, *, is_turned: bool = False) -> Node:
    """Return left times right, or times right with its last two axes exchanged."""
    return ops.matmul(left, right, transpose_a=False, transpose_b=is_turned)


def _reshaped(node: Node, shape: Sequence[int]) -> Node:
    """Return a node in another shape; 0 keeps an axis."""
    return ops.reshape(node, _numbers(shape), special_zero=True)


def _numbers(values: Sequence[int]) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


def _is_equal(queries_RQ: Node, keys_RT: Node) -> Node:
    """Return where both numbers are the same, (R, Q, T)."""
    return ops.equal(ops.unsqueeze(queries_RQ, np.int32(2)), ops.unsqueeze(keys_RT, np.int32(1)))


def _bias(sees_RQT: Node) -> Node:
    """Return what is added to scores: 0 where a key is seen, (R, 1, Q, T)."""
    bias = ops.select(sees_RQT, ops.constant(np.float32(0.0)), ops.constant(_HIDDEN))
    return ops.unsqueeze(bias, np.int32(1))


def _named(result: Node, name: str) -> Node:
    result.output(0).get_tensor().set_names({name})
    return result


ACTIVATIONS: Mapping[str, Callable[[Node], Node]] = {
    "gelu": lambda node: ops.gelu(node, "erf"),
    "gelu_new": lambda node: ops.gelu(node, "tanh"),
    "gelu_pytorch_tanh": lambda node: ops.gelu(node, "tanh"),
    "relu": ops.relu,
}
