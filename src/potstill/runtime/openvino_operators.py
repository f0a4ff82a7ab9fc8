"""The graph of `graph.py` in OpenVINO's operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.architectures.config import EncoderConfig
from potstill.architectures.heads import HeadSpec
from potstill.runtime.graph import (
    HIDDEN,
    GraphInputs,
    GraphWriter,
    Node,
    Weights,
    input_names,
)
from potstill.runtime.openvino_library import openvino

_FORMS: Mapping[str, str] = {"gelu": "erf", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}


def openvino_model(
    config: EncoderConfig, head: HeadSpec, weights: Weights, outputs: Sequence[str]
) -> Any:
    """Return an `openvino.Model` that gives these outputs.

    Args:
        config: sizes of the encoder.
        head: what stands on it.
        weights: of both, by our names, in fp32.
        outputs: names as engines know them.
    """
    parameters = {name: _parameter(name) for name in input_names(config)}
    writer = GraphWriter(config, head, weights, GraphInputs.of(parameters), OpenVinoOperators())
    results = [_result(node, name) for name, node in writer.outputs(outputs).items()]
    return openvino("the openvino engine").Model(results, list(parameters.values()), "potstill")


class OpenVinoOperators:
    """See `graph.Operators`."""

    def constant(self, array: NDArray[Any], name: str) -> Node:
        """Return an array that stands in the graph."""
        return _ops().constant(array, name=name)

    def rows(self, table: Node, numbers_RT: Node) -> Node:
        """Return rows of a table."""
        return _ops().gather(table, numbers_RT, np.int32(0))

    def add(self, left: Node, right: Node) -> Node:
        """Return the sum."""
        return _ops().add(left, right)

    def divided(self, left: Node, right: Node) -> Node:
        """Return the quotient."""
        return _ops().divide(left, right)

    def times(self, node: Node, factor: float) -> Node:
        """Return a node times a number."""
        return _ops().multiply(node, np.float32(factor))

    def product(self, left: Node, right: Node, *, is_turned: bool = False, name: str = "") -> Node:
        """Return left times right."""
        made = _ops().matmul(left, right, transpose_a=False, transpose_b=is_turned)
        return _named(made, name) if name else made

    def softmax(self, node: Node) -> Node:
        """Return shares over the last axis."""
        return _ops().softmax(node, axis=-1)

    def norm(self, node: Node, scale: Node, shift: Node, epsilon: float) -> Node:
        """Return mean 0 and deviation 1, scaled and shifted."""
        normed = _ops().mvn(
            node, _numbers([-1]), normalize_variance=True, eps=epsilon, eps_mode="inside_sqrt"
        )
        return _ops().add(_ops().multiply(normed, scale), shift)

    def activated(self, node: Node, name: str) -> Node:
        """Return an activation."""
        if name in _FORMS:
            return _ops().gelu(node, _FORMS[name])
        return _ops().relu(node) if name == "relu" else _ops().tanh(node)

    def split(self, node_RQD: Node, heads: int, width: int) -> Node:
        """Split into heads."""
        split = _ops().reshape(node_RQD, _numbers([0, 0, heads, width]), special_zero=True)
        return _ops().transpose(split, _numbers([0, 2, 1, 3]))

    def joined(self, node_RHQK: Node) -> Node:
        """Join heads."""
        turned = _ops().transpose(node_RHQK, _numbers([0, 2, 1, 3]))
        return _ops().reshape(turned, _numbers([0, 0, -1]), special_zero=True)

    def is_equal(self, queries_RQ: Node, keys_RT: Node) -> Node:
        """Tell where both numbers are the same."""
        queries_RQ1, keys_R1T = (
            _ops().unsqueeze(queries_RQ, np.int32(2)),
            _ops().unsqueeze(keys_RT, np.int32(1)),
        )
        return _ops().equal(queries_RQ1, keys_R1T)

    def bias(self, sees_RQT: Node) -> Node:
        """Return what is added to scores."""
        bias = _ops().select(sees_RQT, _ops().constant(np.float32(0.0)), _ops().constant(HIDDEN))
        return _ops().unsqueeze(bias, np.int32(1))

    def as_numbers(self, is_true: Node) -> Node:
        """Return 1.0 and 0.0."""
        return _ops().convert(is_true, "f32")

    def total(self, node: Node) -> Node:
        """Return the sum over the last axis."""
        return _ops().reduce_sum(node, _numbers([-1]), keep_dims=True)

    def picked(self, numbers_RT: Node, slots_RF: Node) -> Node:
        """Return the numbers at some slots of each row."""
        return _ops().gather_elements(numbers_RT, slots_RF, 1)

    def at_slots(self, node_RTD: Node, slots_RF: Node) -> Node:
        """Return the states at some slots of each row."""
        return _ops().gather(node_RTD, slots_RF, np.int32(1), 1)

    def laid_out(self, node_1TD: Node, tokens_PW: Node, width: int) -> Node:
        """Lay tokens into rows; quantization looks through a reshape, not through a squeeze."""
        tokens_TD = _ops().reshape(node_1TD, _numbers([-1, width]), special_zero=False)
        return _ops().gather(tokens_TD, tokens_PW, np.int32(0))

    def taken_back(self, node_PWD: Node, slots_1T: Node) -> Node:
        """Return tokens from rows to where they lay."""
        width = node_PWD.get_output_partial_shape(0)[2].get_length()
        slots_SD = _ops().reshape(node_PWD, _numbers([-1, width]), special_zero=False)
        return _ops().gather(slots_SD, slots_1T, np.int32(0))

    def of_length_1(self, node: Node, *, name: str) -> Node:
        """Return vectors of length 1."""
        return _named(_ops().normalize_l2(node, _numbers([-1]), 1e-12, "max"), name)


def _ops() -> Any:
    # Not when this module is imported: a thread that waits for both imports could wait for ever.
    return openvino("the openvino engine").opset13


def _named(node: Node, name: str) -> Node:
    """Name a node, so that quantization can leave it out."""
    node.set_friendly_name(name)
    return node


def _parameter(name: str) -> Node:
    made = _ops().parameter([-1, -1], np.int32, name=name)
    made.output(0).get_tensor().set_names({name})
    return made


def _result(node: Node, name: str) -> Node:
    result = _ops().result(node)
    result.output(0).get_tensor().set_names({name})
    return result


def _numbers(values: Sequence[int]) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)
