"""Weights on disk: what is written is read back, by us, by safetensors and by transformers."""

from __future__ import annotations

import functools
import json
import os
import tracemalloc
from pathlib import Path

import hypothesis.extra.numpy as arrays_of
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from potstill.bundle.weights import (
    INDEX_FILE,
    WEIGHTS_FILE,
    find_weights,
    read_tensors,
    rounded_to_bfloat16,
    widened_bfloat16,
    write_weights,
)
from potstill.errors import ModelError, PotstillError

DTYPES = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?")
NAMES = st.text(st.characters(codec="utf-8"), max_size=20).filter(
    lambda name: name != "__metadata__"
)
ARRAYS = arrays_of.arrays(
    dtype=st.sampled_from(DTYPES), shape=arrays_of.array_shapes(min_dims=0, min_side=0, max_side=4)
)
TENSORS = st.dictionaries(NAMES, ARRAYS, max_size=6)

quick = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def test_each_dtype_of_the_property_tests_is_one_that_safetensors_knows():
    assert len({np.dtype(code) for code in DTYPES}) == 12


@quick
@given(tensors=TENSORS, max_shard_bytes=st.integers(1, 200))
def test_what_is_written_is_read_back_in_every_form(tmp_path, tensors, max_shard_bytes):
    written = write_weights(tmp_path, tensors, max_shard_bytes=max_shard_bytes)
    assert written == find_weights(tmp_path)
    assert_same(dict(read_tensors(written)), tensors)
    assert written.size_bytes == sum(file.stat().st_size for file in written.files)


@quick
@given(tensors=TENSORS)
def test_the_safetensors_library_reads_what_is_written(tmp_path, tensors):
    write_weights(tmp_path, tensors)
    assert_same(safetensors.numpy.load_file(tmp_path / WEIGHTS_FILE), tensors)


@quick
@given(tensors=TENSORS)
def test_what_the_safetensors_library_writes_is_read(tmp_path, tensors):
    safetensors.numpy.save_file(tensors, tmp_path / WEIGHTS_FILE)
    assert_same(dict(read_tensors(find_weights(tmp_path))), tensors)


@quick
@given(sizes=st.dictionaries(st.text("ab.", min_size=1), st.integers(0, 9)))
def test_float32_bytes_are_those_of_the_safetensors_library(tmp_path, sizes):
    tensors = {name: np.arange(size, dtype=np.float32) for name, size in sizes.items()}
    write_weights(tmp_path, tensors)
    expected = safetensors.numpy.save(tensors, metadata={"format": "pt"})
    assert (tmp_path / WEIGHTS_FILE).read_bytes() == expected


@quick
@given(tensors=TENSORS, seed=st.randoms(use_true_random=False))
def test_the_same_tensors_in_another_order_give_the_same_bytes(tmp_path, tensors, seed):
    shuffled = list(tensors)
    seed.shuffle(shuffled)
    metadata = {"format": "pt", "b": "2", "a": "1"}
    write_weights(tmp_path / "a", tensors, metadata=metadata, max_shard_bytes=64)
    write_weights(
        tmp_path / "b",
        {name: tensors[name] for name in shuffled},
        metadata=dict(reversed(metadata.items())),
        max_shard_bytes=64,
    )
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


@quick
@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=8), max_shard_bytes=st.integers(1, 60)
)
def test_a_shard_is_within_its_bound_or_holds_one_tensor(tmp_path, sizes, max_shard_bytes):
    tensors = {f"t{n}": np.zeros(size, dtype=np.uint8) for n, size in enumerate(sizes)}
    written = write_weights(tmp_path, tensors, max_shard_bytes=max_shard_bytes)
    for file in written.files:
        held = [entry for entry in written.entries.values() if entry.file == file]
        assert len(held) == 1 or sum(entry.end - entry.start for entry in held) <= max_shard_bytes


@quick
@given(tensors=TENSORS)
def test_each_tensor_starts_at_a_multiple_of_its_width(tmp_path, tensors):
    for name, entry in write_weights(tmp_path, tensors).entries.items():
        assert entry.start % tensors[name].itemsize == 0


def test_arrays_in_other_layouts_and_byte_orders_are_written_by_value(tmp_path):
    plain = np.arange(12, dtype=np.float32).reshape(3, 4)
    tensors = {"columns": plain.T, "steps": plain[:, ::2], "big": plain.astype(">f4")}
    read = dict(read_tensors(write_weights(tmp_path, tensors)))
    for name, array in tensors.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == np.float32


def test_every_bfloat16_is_widened_to_the_same_number(tmp_path):
    bits = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    write_weights(tmp_path, {"w": bits})
    relabel(tmp_path / WEIGHTS_FILE, "U16", "BF16")
    [(_, widened)] = read_tensors(find_weights(tmp_path))
    assert widened.dtype == np.float32
    np.testing.assert_array_equal(widened.view(np.uint32), bits.astype(np.uint32) << 16)


def test_a_number_is_rounded_to_the_bfloat16_that_torch_rounds_it_to(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2**32, 100_000, dtype=np.uint32)
    ties = (np.arange(2**16, dtype=np.uint32) << 16) | 0x8000  # as near to one as to the other
    infinite = np.array([0x7F800000, 0xFF800000], dtype=np.uint32)
    numbers = np.concatenate([bits, ties, infinite]).view(np.float32)
    assert np.isnan(numbers).any()
    written = write_weights(tmp_path, {"w": rounded_to_bfloat16(numbers)})
    assert written.entries["w"].dtype == "BF16"
    [(_, read)] = read_tensors(written)
    expected = torch.from_numpy(numbers).bfloat16()
    np.testing.assert_array_equal(read, expected.float().numpy())  # nan equals nan here
    theirs = safetensors.torch.load_file(tmp_path / WEIGHTS_FILE)["w"]
    assert theirs.dtype == torch.bfloat16
    np.testing.assert_array_equal(theirs.float().numpy(), read)
    np.testing.assert_array_equal(widened_bfloat16(rounded_to_bfloat16(numbers)), read)


def test_arrays_can_be_written_to_and_leave_the_file_alone(tmp_path):
    weights = write_weights(tmp_path, {"a": np.zeros(3, dtype=np.float32)})
    for _, array in read_tensors(weights):
        array.fill(1)
    assert [array.tolist() for _, array in read_tensors(weights)] == [[0, 0, 0]]


def test_tensors_come_in_the_order_asked_for(tmp_path):
    weights = write_weights(tmp_path, {name: np.zeros(1) for name in "abc"})
    assert [name for name, _ in read_tensors(weights, ["c", "a"])] == ["c", "a"]


def test_an_unknown_tensor_is_refused_before_anything_is_read(tmp_path):
    weights = write_weights(tmp_path, {"a": np.zeros(1)})
    with pytest.raises(ModelError, match="no tensor named 'b' among 1"):
        read_tensors(weights, ["a", "b"])


def test_finding_reads_no_tensor_and_reading_holds_one_at_a_time(tmp_path):
    tensors = {f"t{n}": np.ones(250_000, dtype=np.float32) for n in range(8)}
    write_weights(tmp_path, tensors)
    tracemalloc.start()
    try:
        weights = find_weights(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 500_000
        for _, array in read_tensors(weights):
            del array
        assert tracemalloc.get_traced_memory()[1] < 2_500_000
    finally:
        tracemalloc.stop()


def test_a_file_larger_than_memory_is_found_and_a_part_of_it_read(tmp_path):
    header = {
        "huge": {"dtype": "F32", "shape": [2**36], "data_offsets": [0, 2**38]},
        "last": {"dtype": "U8", "shape": [3], "data_offsets": [2**38, 2**38 + 3]},
    }
    text = json.dumps(header).encode()
    with (tmp_path / WEIGHTS_FILE).open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.seek(2**38, os.SEEK_CUR)  # a hole: takes no room on the disk
        stream.write(b"\1\2\3")
    weights = find_weights(tmp_path)
    assert weights.entries["huge"].shape == (2**36,)
    [(_, last)] = read_tensors(weights, ["last"])
    assert last.tolist() == [1, 2, 3]


def test_the_first_choice_is_the_single_file_as_in_transformers(tmp_path):
    write_weights(tmp_path, {"a": np.zeros(4), "b": np.zeros(4)}, max_shard_bytes=32)
    safetensors.numpy.save_file({"c": np.zeros(1)}, tmp_path / WEIGHTS_FILE)
    assert list(find_weights(tmp_path).entries) == ["c"]


OLD = {"a": np.zeros(4), "b": np.zeros(4)}
NEW = {"a": np.ones(4), "b": np.ones(4), "c": np.ones(4)}


@pytest.mark.parametrize("new_bound", [1000, 64, 32], ids=["one file", "two shards", "three"])
@pytest.mark.parametrize("old_bound", [1000, 32], ids=["over one file", "over two shards"])
def test_a_stop_at_any_moment_leaves_the_old_weights_the_new_ones_or_none(
    tmp_path, monkeypatch, old_bound, new_bound
):
    outcomes = []
    for moment in range(100):
        folder = tmp_path / str(moment)
        write_weights(folder, OLD, max_shard_bytes=old_bound)
        work = functools.partial(write_weights, folder, NEW, max_shard_bytes=new_bound)
        finished = stop_at(moment, monkeypatch, work)
        outcomes.append(what_stands(folder))
        if finished:
            break
    assert outcomes[0] == "old"
    assert outcomes[-1] == "new"
    assert set(outcomes) <= {"old", "none", "new"}
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        [file.name for file in find_weights(folder).files]
        + [INDEX_FILE] * (len(find_weights(folder).files) > 1)
    )


class Killed(BaseException):
    pass


def stop_at(moment, monkeypatch, work):
    """Run `work`, dying at its `moment`-th change of a name on the disk; say if it finished."""
    changes = 0

    def dying(change):
        def changed(*args, **kwargs):
            nonlocal changes
            if changes >= moment:
                raise Killed
            changes += 1
            return change(*args, **kwargs)

        return changed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dying(Path.replace))
        patch.setattr(Path, "unlink", dying(Path.unlink))
        try:
            work()
        except Killed:
            return False
    return True


def what_stands(folder):
    try:
        tensors = dict(read_tensors(find_weights(folder)))
    except PotstillError:
        return "none"
    for label, expected in (("old", OLD), ("new", NEW)):
        if tensors.keys() == expected.keys() and all(
            np.array_equal(tensors[name], expected[name]) for name in expected
        ):
            return label
    return "a mixture"


def test_transformers_loads_both_forms_and_its_index_is_ours(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=48, max_position_embeddings=16,
    )  # fmt: skip
    model = transformers.BertModel(config)
    theirs = tmp_path / "theirs"
    model.save_pretrained(theirs, max_shard_size=10_000)
    tensors = dict(read_tensors(find_weights(theirs)))
    assert tensors.keys() == model.state_dict().keys() - {"embeddings.position_ids"}

    for form, bound in (("single", 10**9), ("sharded", 10_000)):
        ours = tmp_path / form
        written = write_weights(ours, tensors, max_shard_bytes=bound)
        config.save_pretrained(ours)
        assert (len(written.files) > 1) == (form == "sharded")
        loaded, report = transformers.BertModel.from_pretrained(ours, output_loading_info=True)
        assert not any(report[key] for key in ("missing_keys", "unexpected_keys"))
        for name, tensor in model.state_dict().items():
            assert (loaded.state_dict()[name] == tensor).all()

    expected, found = (json.loads((d / INDEX_FILE).read_text()) for d in (theirs, ours))
    assert found["metadata"] == expected["metadata"]
    assert found["weight_map"].keys() == expected["weight_map"].keys()


def test_the_real_minilm_is_found_and_read(minilm):
    weights = find_weights(minilm)
    by_library = safetensors.numpy.load_file(weights.files[0])
    assert sum(array.size for array in by_library.values()) > 22_000_000
    assert_same(dict(read_tensors(weights)), by_library)


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


def files_of(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def relabel(file, old, new):
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length].decode().rstrip().replace(f'"{old}"', f'"{new}"').encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
