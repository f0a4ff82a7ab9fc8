"""Quantized graphs: near their source, the nearer the more stays in full precision."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("nncf", reason="pip install 'potstill[quantize]'")

from potstill.architectures.counting import weight_shapes
from potstill.compress.calibration import calibration_calls
from potstill.compress.quantized_graph import PRECISIONS, output_error, parts_of, quantized
from potstill.compress.quantized_tables import scale_taken_rows
from potstill.errors import DataError
from potstill.runtime.openvino_library import openvino
from potstill.runtime.openvino_operators import openvino_model
from tests.tiny import random_batch, tiny_config, tiny_head

HEAD = tiny_head("classification")
CONFIG = tiny_config()


@pytest.fixture(scope="module")
def graph():
    rng = np.random.default_rng(0)
    weights = {
        name: rng.normal(0.0, 0.3, shape).astype(np.float32)
        for name, shape in weight_shapes(CONFIG, HEAD).items()
    }
    return openvino_model(CONFIG, HEAD, weights, ["logits"])


@pytest.fixture(scope="module")
def calls():
    texts = random_batch([3, 9, 20, 5, 30, 12] * 10)
    return calibration_calls(texts, CONFIG, source="rows", seed=0)


def test_the_parts_are_attention_and_feed_forward_of_each_layer_and_the_head(graph) -> None:
    parts = parts_of(graph)
    assert list(parts) == [
        *("layers.0.attention", "layers.0.feed_forward"),
        *("layers.1.attention", "layers.1.feed_forward"),
        "head",
    ]
    assert parts["layers.1.feed_forward"] == [
        "layers.1.feed_forward.up",
        "layers.1.feed_forward.down",
    ]
    assert parts["head"] == ["pooler", "head.output"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_outputs_stay_near_and_get_nearer_with_parts_put_back(graph, calls, precision) -> None:
    width = CONFIG.hidden_size
    every = [layer for layers in parts_of(graph).values() for layer in layers]
    errors = [
        output_error(graph, quantized(graph, precision, calls, kept, width=width), calls)
        for kept in ([], every)
    ]
    assert 0.0 <= errors[1] < errors[0] < 0.2


def test_the_source_is_left_as_it_is(graph, calls) -> None:
    quantized(graph, "int8", calls, [], width=CONFIG.hidden_size)
    assert output_error(graph, graph, calls) == 0.0


def test_of_a_small_table_only_the_rows_that_are_taken_are_scaled(graph, calls) -> None:
    small = quantized(graph, "int8", calls, [], width=CONFIG.hidden_size)
    words = f"[{CONFIG.vocabulary_size},{CONFIG.hidden_size}]"
    tables = [
        gather.input_value(0).get_node()
        for gather in small.get_ordered_ops()
        if gather.get_type_name() == "Gather"
        and gather.get_input_partial_shape(0).to_string() == words
    ]
    assert [
        (each.get_type_name(), each.get_output_element_type(0).to_string()) for each in tables
    ] == [("Constant", "i8")]


def test_rows_scaled_after_they_are_taken_are_the_same() -> None:
    ops = openvino("a test").opset13
    table = np.arange(-6, 6, dtype=np.int8).reshape(4, 3)
    scales = np.array([[0.5], [0.25], [2.0], [3.0]], dtype=np.float32)
    numbers = ops.parameter([-1, -1], np.int32, name="numbers")
    scaled = ops.multiply(ops.convert(ops.constant(table), "f32"), ops.constant(scales))
    model = openvino("a test").Model([ops.gather(scaled, numbers, 0)], [numbers])
    scale_taken_rows(model)
    compiled = openvino("a test").Core().compile_model(model, "CPU")
    asked = np.array([[3, 0, 0], [1, 2, 3]], dtype=np.int32)
    np.testing.assert_array_equal(compiled(asked)[0], (table * scales)[asked])


def test_no_text_to_calibrate_on_is_told() -> None:
    with pytest.raises(
        DataError, match=r"empty.jsonl.*no text to calibrate on|no text.*empty.jsonl"
    ):
        calibration_calls(random_batch([]), CONFIG, source="empty.jsonl", seed=0)
