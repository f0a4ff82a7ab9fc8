"""ONNX files that point elsewhere are found, wherever the pointer stands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.bundle.onnx_files import (
    DATA_LOCATION,
    EXTERNAL_DATA,
    PATHS,
    require_self_contained,
)
from potstill.errors import ModelError

onnx = pytest.importorskip("onnx", reason="pip install 'potstill[onnx]'")

ELSEWHERE = r"takes numbers from another file; allowed: ONNX files that hold all their numbers"


def plain_model():
    helper = onnx.helper
    tensor = helper.make_tensor("weight", onnx.TensorProto.FLOAT, [300], [0.5] * 300)
    graph = helper.make_graph([helper.make_node("Identity", ["weight"], ["y"])], "g", [], [])
    graph.initializer.append(tensor)
    return helper.make_model(graph)


def tensor_elsewhere():
    tensor = onnx.TensorProto(name="elsewhere", data_type=1, dims=[1])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")
    return tensor


def in_an_initializer(model) -> None:
    model.graph.initializer.append(tensor_elsewhere())


def in_a_sparse_one(model) -> None:
    model.graph.sparse_initializer.add().values.CopyFrom(tensor_elsewhere())


def in_an_attribute(model) -> None:
    model.graph.node[0].attribute.add(name="value").t.CopyFrom(tensor_elsewhere())


def in_a_list_of_an_attribute(model) -> None:
    model.graph.node[0].attribute.add(name="value").tensors.append(tensor_elsewhere())


def in_a_branch(model) -> None:
    model.graph.node[0].attribute.add(name="then").g.initializer.append(tensor_elsewhere())


def in_a_function(model) -> None:
    node = model.functions.add().node.add()
    node.attribute.add(name="value").t.CopyFrom(tensor_elsewhere())


def in_training(model) -> None:
    model.training_info.add().algorithm.initializer.append(tensor_elsewhere())


def only_said_to_be(model) -> None:
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL


def only_named(model) -> None:
    model.graph.initializer[0].external_data.add(key="location", value="../weights")


PLACES: list[Callable[..., None]] = [
    *(in_an_initializer, in_a_sparse_one, in_an_attribute, in_a_list_of_an_attribute),
    *(in_a_branch, in_a_function, in_training, only_said_to_be, only_named),
]


def written(folder: Path, content: bytes) -> Path:
    file = folder / "model.onnx"
    file.write_bytes(content)
    return file


def test_a_file_that_holds_all_its_numbers_passes(tmp_path: Path) -> None:
    require_self_contained(written(tmp_path, plain_model().SerializeToString()))


@pytest.mark.parametrize("put", PLACES)
def test_what_points_elsewhere_is_refused(tmp_path: Path, put: Callable[..., None]) -> None:
    model = plain_model()
    put(model)
    with pytest.raises(ModelError, match=ELSEWHERE):
        require_self_contained(written(tmp_path, model.SerializeToString()))


def test_a_second_graph_behind_the_first_is_read_too(tmp_path: Path) -> None:
    """Protobuf merges what stands twice, so a pointer may follow in a part of its own."""
    addition = onnx.ModelProto()
    addition.graph.initializer.append(tensor_elsewhere())
    content = plain_model().SerializeToString() + addition.SerializeToString()
    assert len(onnx.load_from_string(content).graph.initializer) == 2
    with pytest.raises(ModelError, match=ELSEWHERE):
        require_self_contained(written(tmp_path, content))


@given(st.data())
def test_bytes_that_are_cut_or_altered_are_told_or_pass_but_never_break(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(plain_model().SerializeToString())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    file = written(tmp_path_factory.getbasetemp(), bytes(content))
    complaint = complaint_of(file)
    assert complaint is None or str(file) in complaint


def complaint_of(file: Path) -> str | None:
    """Return what is told of a file; any other error than ours goes on."""
    try:
        require_self_contained(file)
    except ModelError as error:
        return str(error)
    return None


@given(st.binary(max_size=200))
def test_any_bytes_are_read_to_their_end_or_told(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = written(tmp_path_factory.getbasetemp(), content)
    complaint = complaint_of(file)
    assert complaint is None or "to mend it" in complaint


def test_messages_inside_of_each_other_have_an_end(tmp_path: Path) -> None:
    graph = b""
    for _ in range(100):  # a graph in an attribute of a node of a graph
        graph = field(1, field(5, field(6, graph)))
    with pytest.raises(ModelError, match="this is no ONNX file"):
        require_self_contained(written(tmp_path, field(7, graph)))


def field(number: int, content: bytes) -> bytes:
    length, count = b"", len(content)
    while count > 0x7F:
        length += bytes([count & 0x7F | 0x80])
        count >>= 7
    return bytes([number << 3 | 2]) + length + bytes([count]) + content


def test_the_numbers_of_fields_are_those_of_the_package() -> None:
    """Every way from a model to a tensor stands in the table."""
    found: dict[str, dict[int, str]] = {}
    waiting = [onnx.ModelProto.DESCRIPTOR]
    while waiting:
        message = waiting.pop()
        if message.name in found:
            continue
        found[message.name] = {}
        for each in message.fields:
            if each.message_type is not None and leads_to_tensor(each.message_type, set()):
                found[message.name][each.number] = each.message_type.name
                waiting.append(each.message_type)
    assert found == {name: dict(fields) for name, fields in PATHS.items()}
    numbers = onnx.TensorProto.DESCRIPTOR.fields_by_name
    assert numbers["external_data"].number == EXTERNAL_DATA
    assert numbers["data_location"].number == DATA_LOCATION


def leads_to_tensor(message, seen: set[str]) -> bool:
    if message.name == "TensorProto":
        return True
    if message.name in seen:
        return False
    seen.add(message.name)
    kinds = [each.message_type for each in message.fields if each.message_type is not None]
    return any(leads_to_tensor(kind, seen) for kind in kinds)
