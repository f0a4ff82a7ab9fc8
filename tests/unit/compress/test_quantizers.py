"""Quantized graphs: near their source, the nearer the more stays in full precision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("nncf", reason="pip install 'potstill[quantize]'")
pytest.importorskip("onnxruntime", reason="pip install 'potstill[onnx]'")

from potstill.architectures.counting import weight_shapes
from potstill.architectures.heads import HeadSpec
from potstill.bundle.runtime_files import STORED
from potstill.compress.calibration import calibration_calls
from potstill.compress.quantized_tables import scale_taken_rows
from potstill.compress.quantizer import Smaller, output_error
from potstill.compress.quantizers import (
    gains_by_texts,
    is_calibrated,
    quantizer_of,
    require_precision,
)
from potstill.errors import DataError, RecipeError
from potstill.runtime.openvino_library import openvino
from tests.tiny import random_batch, tiny_config, tiny_head

HEAD = tiny_head("classification")
VECTORS = tiny_head("embedding", labels=(), pooling="mean", normalize=True)
OF_FIRST = replace(VECTORS, pooling="first", width=16)
MEAN_POOLED = replace(HEAD, pooling="mean")
CONFIG = tiny_config()
WAYS = [(engine, precision) for engine in STORED for precision in STORED[engine]]


def tiny_quantizer(engine: str, head: HeadSpec):
    rng = np.random.default_rng(0)
    weights = {
        name: rng.normal(0.0, 0.3, shape).astype(np.float32)
        for name, shape in weight_shapes(CONFIG, head).items()
    }
    return quantizer_of(engine, CONFIG, head, weights)


@pytest.fixture(scope="module")
def quantizers():
    return {engine: tiny_quantizer(engine, HEAD) for engine in STORED}


@pytest.fixture(scope="module")
def calls():
    texts = random_batch([3, 9, 20, 5, 30, 12] * 10)
    return calibration_calls(texts, CONFIG, source="rows", seed=0)


def test_there_are_four_ways() -> None:
    assert len(WAYS) == 4
    assert [way for way in WAYS if is_calibrated(*way)] == [("openvino", "int8")]
    gaining = [way for way in WAYS if gains_by_texts(*way)]
    assert gaining == [("openvino", "int8"), ("openvino", "int4")]


def test_int4_gets_nearer_by_texts_whatever_is_put_back(quantizers, calls) -> None:
    quantizer = quantizers["openvino"]

    def error(calls_to_fit, kept=()) -> float:
        asked = Smaller(precision="int4", calls=calls_to_fit, kept=kept)
        return output_error(quantizer, quantizer.quantized(asked), others)

    others = calibration_calls(random_batch([11, 4, 25] * 9, seed=3), CONFIG, source="s", seed=0)
    for kept in ([], *quantizer.parts().values()):
        assert error(calls, kept) < 0.3 * error((), kept)


def test_weights_put_back_are_those_that_a_library_told_to_leave_them_leaves(
    quantizers, calls
) -> None:
    quantizer, nncf = quantizers["openvino"], pytest.importorskip("nncf")
    kept = quantizer.parts()["layers.1.feed_forward"]
    left = nncf.compress_weights(
        quantizer.graph.clone(),
        mode=nncf.CompressWeightsMode.INT8_SYM,
        ignored_scope=nncf.IgnoredScope(names=kept),
    )
    ours = quantizer.quantized(Smaller(precision="int8-weights", kept=kept))
    for one, other in zip(
        quantizer.outputs(ours, calls), quantizer.outputs(left, calls), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_parts_are_attention_and_feed_forward_of_each_layer_and_the_head(quantizers) -> None:
    found = {engine: each.parts() for engine, each in quantizers.items()}
    for parts in found.values():
        assert list(parts) == [
            *("layers.0.attention", "layers.0.feed_forward"),
            *("layers.1.attention", "layers.1.feed_forward"),
            "head",
        ]
    assert found["openvino"]["layers.1.feed_forward"] == [
        "layers.1.feed_forward.up",
        "layers.1.feed_forward.down",
    ]
    assert {"layers.0.attention.scores", "layers.0.attention.mixed"} < {
        *found["openvino"]["layers.0.attention"]
    }
    assert found["openvino"]["head"] == ["pooler", "head.output"]
    # Nodes of ONNX carry their place behind the layer's name.
    assert [name.rpartition(".")[0] for name in found["onnx"]["head"]] == ["pooler", "head.output"]


@pytest.mark.parametrize(("engine", "precision"), WAYS)
def test_outputs_stay_near_and_get_nearer_with_parts_put_back(
    quantizers, calls, engine: str, precision: str
) -> None:
    quantizer = quantizers[engine]
    every = [layer for layers in quantizer.parts().values() for layer in layers]
    errors = []
    for kept in ([], every):
        asked = Smaller(precision=precision, calls=calls, kept=kept)
        errors.append(output_error(quantizer, quantizer.quantized(asked), calls))
    assert 0.0 <= errors[1] < errors[0] < 0.2


@pytest.mark.parametrize("precision", STORED["openvino"])
@pytest.mark.parametrize("head", [HEAD, MEAN_POOLED, VECTORS, OF_FIRST])
def test_with_every_part_put_back_the_tables_alone_are_quantized(
    calls, head: HeadSpec, precision: str
) -> None:
    quantizer = tiny_quantizer("openvino", head)
    every = [layer for layers in quantizer.parts().values() for layer in layers]
    small = quantizer.quantized(Smaller(precision=precision, calls=calls, kept=every))
    for node in small.get_ordered_ops():
        assert node.get_type_name() != "FakeQuantize", node.get_friendly_name()
    assert 0.0 < output_error(quantizer, small, calls) < 0.05


@pytest.mark.parametrize("head", [VECTORS, OF_FIRST])
def test_vectors_are_not_rounded_behind_the_last_product(calls, head: HeadSpec) -> None:
    """All layers are rounded; what is made of their states is not."""
    small = tiny_quantizer("openvino", head).quantized(Smaller(precision="int8", calls=calls))
    (node,) = small.get_results()
    kinds = []
    while node.get_type_name() != "MVN" and node.get_friendly_name() != "head.output":
        node = node.input_value(1 if node.get_friendly_name() == "pooling" else 0).get_node()
        kinds.append(node.get_type_name())
    assert "FakeQuantize" not in kinds, kinds
    assert "NormalizeL2" in kinds
    assert "FakeQuantize" in {each.get_type_name() for each in small.get_ordered_ops()}


def test_attention_put_back_takes_its_products_of_tokens_with_it(quantizers, calls) -> None:
    quantizer = quantizers["openvino"]
    kept = quantizer.parts()["layers.0.attention"]
    small = quantizer.quantized(Smaller(precision="int8", calls=calls, kept=kept))
    products = {node.get_friendly_name(): node for node in small.get_ordered_ops()}
    for layer, is_exact in (("layers.0", True), ("layers.1", False)):
        node, kinds = products[f"{layer}.attention.scores"], []
        while not kinds or kinds[-1] != "MatMul":  # back to the product of the query
            node = node.input_value(0).get_node()
            kinds.append(node.get_type_name())
        assert ("FakeQuantize" not in kinds) is is_exact, kinds


@pytest.mark.parametrize("engine", STORED)
def test_the_source_is_left_as_it_is(quantizers, calls, engine: str) -> None:
    quantizer = quantizers[engine]
    before = quantizer.outputs(quantizer.graph, calls)
    quantizer.quantized(Smaller(precision="int8", calls=calls))
    for one, other in zip(before, quantizer.outputs(quantizer.graph, calls), strict=True):
        np.testing.assert_array_equal(one, other)
    assert output_error(quantizer, quantizer.graph, calls) == 0.0


def test_the_same_words_of_onnx_are_written_twice(quantizers) -> None:
    asked = Smaller(precision="int8")
    one, other = (quantizers["onnx"].quantized(asked).SerializeToString() for _ in range(2))
    assert one == other


def weights_of_8_bits(model) -> dict[str, np.ndarray]:
    from onnx import TensorProto, numpy_helper

    return {
        each.name: numpy_helper.to_array(each)
        for each in model.graph.initializer
        if each.data_type == TensorProto.INT8 and len(each.dims) == 2
    }


def test_for_avx2_no_sum_of_two_products_leaves_16_bits(quantizers) -> None:
    """255 times two weights of the largest size is what saturates there."""
    quantizer = quantizers["onnx"]
    largest = {}
    for processor in ("vnni", "arm", "avx2"):
        asked = Smaller(precision="int8", processor=processor)
        arrays = weights_of_8_bits(quantizer.quantized(asked))
        assert len(arrays) >= 14
        largest[processor] = max(int(np.abs(each.astype(int)).max()) for each in arrays.values())
    assert 255 * 2 * largest["avx2"] < 2**15
    assert largest["vnni"] == largest["arm"] == 127


def largest_weights(graph) -> list[int]:
    """Return the largest size of each dense layer's weights, found behind scale and conversion."""
    found = []
    for node in graph.get_ordered_ops():
        name = node.get_friendly_name()
        is_of_tokens = name.endswith((".scores", ".mixed"))  # products without weights
        if node.get_type_name() == "MatMul" and name.startswith("layers.") and not is_of_tokens:
            weight = node.input_value(1).get_node()
            while weight.get_type_name() != "Constant":
                weight = weight.input_value(0).get_node()
            assert weight.get_element_type().get_type_name() == "i8"
            found.append(int(np.abs(weight.data.astype(int)).max()))
    return found


def test_for_avx2_openvino_takes_half_the_range_too(quantizers, calls) -> None:
    largest = {}
    for processor in ("vnni", "avx2"):
        asked = Smaller(precision="int8", calls=calls, processor=processor)
        largest[processor] = largest_weights(quantizers["openvino"].quantized(asked))
        assert len(largest[processor]) == 12
    assert max(largest["avx2"]) <= 64
    assert max(largest["vnni"]) == 127


@pytest.mark.parametrize("engine", STORED)
def test_half_the_range_costs_what_a_step_twice_as_wide_costs(
    quantizers, calls, engine: str
) -> None:
    quantizer = quantizers[engine]
    full, half = (
        output_error(
            quantizer,
            quantizer.quantized(Smaller(precision="int8", calls=calls, processor=processor)),
            calls,
        )
        for processor in ("vnni", "avx2")
    )
    assert half < 2**2 * 1.5 * full + 1e-3  # errors are squares


def test_what_a_library_does_not_make_is_told_with_the_other_engine() -> None:
    with pytest.raises(
        RecipeError,
        match=r"precision is 'int4'; allowed: int8 with the onnx engine, or bf16; .*--engine open",
    ):
        require_precision("onnx", "int4")
    with pytest.raises(RecipeError, match=r"precision is 'int3'; allowed: int8, int8-weights"):
        require_precision("openvino", "int3")
    with pytest.raises(RecipeError, match=r"engine is 'torch'; allowed: openvino, onnx"):
        require_precision("torch", "int8")


def test_of_a_small_table_only_the_rows_that_are_taken_are_scaled(quantizers, calls) -> None:
    small = quantizers["openvino"].quantized(Smaller(precision="int8", calls=calls))
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
