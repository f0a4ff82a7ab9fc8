"""The graph of `graph.py` in ONNX's operators.

Source: the operators' definitions at opset 20, onnx.ai.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.architectures.config import EncoderConfig
from potstill.architectures.heads import HeadSpec
from potstill.errors import MissingExtraError, ModelError
from potstill.runtime.graph import HIDDEN, GraphInputs, GraphWriter, Weights, input_names

OPSET = 20  # the first with Gelu
IR_VERSION = 10  # of the file format; what onnxruntime 1.18 and later read
MOST_BYTES = 2**31 - 2**24  # of numbers: a file, protobuf, ends below 2 GiB, its operators included

Axes = Sequence[str | int | None]  # a name: any length, the same wherever it stands
NamedAxes = Mapping[str, Axes]

_FORMS: Mapping[str, str] = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}


def onnx_model(
    config: EncoderConfig, head: HeadSpec, weights: Weights, outputs: Sequence[str]
) -> Any:
    """Return an `onnx.ModelProto` that gives these outputs; see `openvino_model`.

    Raises:
        MissingExtraError: onnx is not installed.
        ModelError: one file cannot hold it.
    """
    names = input_names(config)
    operators = OnnxOperators()
    inputs = GraphInputs.of({name: name for name in names})
    made = GraphWriter(config, head, weights, inputs, operators).outputs(outputs)
    rows: Axes = (None, None)
    texts: Axes = (None, None, None)
    return operators.model(dict.fromkeys(names, rows), "INT32", made, dict.fromkeys(made, texts))


class OnnxOperators:
    """See `graph.Operators`; a node is the name of its output."""

    def __init__(self) -> None:
        """Begin an empty graph.

        Raises:
            MissingExtraError: onnx is not installed.
        """
        self._onnx = onnx_library()
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._bytes = 0  # of these

    def model(
        self, parameters: Mapping[str, Axes], kind: str, outputs: Mapping[str, str], axes: NamedAxes
    ) -> Any:
        """Return the finished model.

        Args:
            parameters: the axes of each, by name.
            kind: their number format, INT32 or INT64.
            outputs: the node of each, by name.
            axes: the axes of each output.
        """
        helper, kinds = self._onnx.helper, self._onnx.TensorProto
        described = helper.make_tensor_value_info
        for name, node in outputs.items():
            self._nodes.append(helper.make_node("Identity", [node], [name]))
        graph = helper.make_graph(
            self._nodes,
            "potstill",
            [described(name, getattr(kinds, kind), axes) for name, axes in parameters.items()],
            [described(name, kinds.FLOAT, axes[name]) for name in outputs],
            list(self._constants.values()),
        )
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="potstill"
        )

    def constant(self, array: NDArray[Any], name: str) -> str:
        """Return an array that stands in the graph; of one name there is one.

        Raises:
            ModelError: with it the graph is larger than a file can be.
        """
        if name not in self._constants:
            self._bytes += array.nbytes
            if self._bytes > MOST_BYTES:
                raise _too_large()
            tensor = self._onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
            self._constants[name] = tensor
        return name

    def rows(self, table: str, numbers_RT: str) -> str:
        """Return rows of a table."""
        return self.made("Gather", table, numbers_RT, axis=0)

    def add(self, left: str, right: str) -> str:
        """Return the sum."""
        return self.made("Add", left, right)

    def divided(self, left: str, right: str) -> str:
        """Return the quotient."""
        return self.made("Div", left, right)

    def times(self, node: str, factor: float) -> str:
        """Return a node times a number."""
        return self.made("Mul", node, self._number(np.float32(factor)))

    def product(self, left: str, right: str, *, is_turned: bool = False, name: str = "") -> str:
        """Return left times right; a weight is turned here, once."""
        if is_turned and right in self._constants:
            right = self._turned(right)
        elif is_turned:
            right = self.made("Transpose", right, perm=[0, 1, 3, 2])
        return self.made("MatMul", left, right, name=name)

    def softmax(self, node: str) -> str:
        """Return shares over the last axis."""
        return self.made("Softmax", node, axis=-1)

    def norm(self, node: str, scale: str, shift: str, epsilon: float) -> str:
        """Return mean 0 and deviation 1, scaled and shifted."""
        return self.made("LayerNormalization", node, scale, shift, axis=-1, epsilon=epsilon)

    def activated(self, node: str, name: str) -> str:
        """Return an activation."""
        if name in _FORMS:
            return self.made("Gelu", node, approximate=_FORMS[name])
        return self.made("Relu" if name == "relu" else "Tanh", node)

    def split(self, node_RQD: str, heads: int, width: int) -> str:
        """Split into heads."""
        split = self.made("Reshape", node_RQD, self.whole_numbers([0, 0, heads, width]))
        return self.made("Transpose", split, perm=[0, 2, 1, 3])

    def joined(self, node_RHQK: str) -> str:
        """Join heads."""
        turned = self.made("Transpose", node_RHQK, perm=[0, 2, 1, 3])
        return self.made("Reshape", turned, self.whole_numbers([0, 0, -1]))

    def is_equal(self, queries_RQ: str, keys_RT: str) -> str:
        """Tell where both numbers are the same."""
        queries_RQ1 = self.made("Unsqueeze", queries_RQ, self.whole_numbers([2]))
        keys_R1T = self.made("Unsqueeze", keys_RT, self.whole_numbers([1]))
        return self.made("Equal", queries_RQ1, keys_R1T)

    def bias(self, sees_RQT: str) -> str:
        """Return what is added to scores."""
        seen, hidden = self._number(np.float32(0.0)), self._number(HIDDEN)
        return self.made(
            "Unsqueeze", self.made("Where", sees_RQT, seen, hidden), self.whole_numbers([1])
        )

    def as_numbers(self, is_true: str) -> str:
        """Return 1.0 and 0.0."""
        return self.made("Cast", is_true, to=self._onnx.TensorProto.FLOAT)

    def total(self, node: str) -> str:
        """Return the sum over the last axis."""
        return self.made("ReduceSum", node, self.whole_numbers([-1]), keepdims=1)

    def picked(self, numbers_RT: str, slots_RF: str) -> str:
        """Return the numbers at some slots of each row."""
        return self.made("GatherElements", numbers_RT, slots_RF, axis=1)

    def at_slots(self, node_RTD: str, slots_RF: str) -> str:
        """Return the states at some slots of each row."""
        slots = self.made("Cast", slots_RF, to=self._onnx.TensorProto.INT64)
        slots_RF1 = self.made("Unsqueeze", slots, self.whole_numbers([2]))
        return self.made("GatherND", node_RTD, slots_RF1, batch_dims=1)

    def laid_out(self, node_1TD: str, tokens_PW: str, width: int) -> str:
        """Lay tokens into rows."""
        tokens_TD = self.made("Reshape", node_1TD, self.whole_numbers([-1, width]))
        return self.made("Gather", tokens_TD, tokens_PW, axis=0)

    def taken_back(self, node_PWD: str, slots_1T: str) -> str:
        """Return tokens from rows to where they lay."""
        width = self.made("Shape", node_PWD, start=2)
        shape = self.made("Concat", self.whole_numbers([-1]), width, axis=0)
        return self.made("Gather", self.made("Reshape", node_PWD, shape), slots_1T, axis=0)

    def of_length_1(self, node: str, *, name: str) -> str:
        """Return vectors of length 1."""
        length = self.made("ReduceL2", node, self.whole_numbers([-1]), keepdims=1)
        least = self._number(np.float32(1e-12))
        return self.made("Div", node, self.made("Max", length, least), name=name)

    def made(self, kind: str, *inputs: str, name: str = "", **settings: Any) -> str:
        """Add an operator and return its output; a name tells it apart, its place is added."""
        output = f"{name or kind.lower()}.{len(self._nodes)}"
        node = self._onnx.helper.make_node(kind, list(inputs), [output], name=output, **settings)
        self._nodes.append(node)
        return output

    def _turned(self, name: str) -> str:
        """Return a weight with its axes exchanged; what nothing reads any more is dropped."""
        turned = f"{name}.turned"
        if turned not in self._constants:
            array = self._onnx.numpy_helper.to_array(self._constants[name])
            if not any(name in node.input for node in self._nodes):
                del self._constants[name]
                self._bytes -= array.nbytes
            self.constant(array.T, turned)
        return turned

    def _number(self, value: np.float32) -> str:
        return self.constant(np.asarray(value), f"number {value}")

    def whole_numbers(self, values: Sequence[int]) -> str:
        """Return int64 numbers that stand in the graph."""
        return self.constant(np.array(values, dtype=np.int64), f"numbers {list(values)}")


def _too_large() -> ModelError:
    return ModelError(
        "the model's numbers in fp32 take more than the 2 GiB that one ONNX file holds",
        cure="take the openvino or the torch engine, to quantize too (--engine openvino); to "
        "export, --format openvino or hf",
    )


def onnx_library() -> Any:
    """Return the module `onnx`.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise MissingExtraError("onnx", extra="onnx", needed_for="writing ONNX") from error
    return onnx
