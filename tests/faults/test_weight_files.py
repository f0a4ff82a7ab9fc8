"""Damaged, foreign and hostile weight files end in one line that names file, tensor and cure."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from potstill.bundle.weights import (
    INDEX_FILE,
    WEIGHTS_FILE,
    find_weights,
    read_tensors,
    write_weights,
)
from potstill.errors import ModelError, OutOfMemory

AGAIN = "download or copy the file again"


def file_of(header, data=b"", *, length=None):
    """Return a safetensors file of a header (an object, or text as it stands) and its bytes."""
    text = header.encode() if isinstance(header, str) else json.dumps(header).encode()
    length = len(text) if length is None else length
    return length.to_bytes(8, "little") + text + data


def tensor(start, end, *, dtype="U8", shape=None):
    return {"dtype": dtype, "shape": [end - start] if shape is None else shape,
            "data_offsets": [start, end]}  # fmt: skip


FAULTS = {  # name of the fault: the file, what its line says, and the cure
    "empty": (b"", "the file is empty (0 bytes)", AGAIN),
    "seven bytes": (b"\0" * 7, "cut short: it has 7 bytes", AGAIN),
    "header larger than the file": (file_of({}, length=99), "the header takes 99 bytes", AGAIN),
    "header over the limit": (
        file_of({}, length=100_000_001), "its header would take 100000001 bytes", AGAIN,
    ),
    "no header": (file_of("", length=0), "no valid JSON", AGAIN),
    "not JSON": (file_of("{'a'}"), "no valid JSON", AGAIN),
    "not UTF-8": (b"\2\0\0\0\0\0\0\0\xff\xfe", "no valid JSON", AGAIN),
    "JSON without end of nesting": (file_of("[" * 500_000), "no valid JSON", AGAIN),
    "a number of 5000 digits": (file_of('{"a":' + "9" * 5000 + "}"), "no valid JSON", AGAIN),
    "a list": (file_of([]), "not an object", AGAIN),
    "an entry that is a number": (file_of({"a": 1}), "tensor 'a': its entry", AGAIN),
    "metadata that is a list": (file_of({"__metadata__": []}), "__metadata__ is not", AGAIN),
    "the same tensor twice": (
        file_of('{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},'
                '"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x"),
        "the key 'a' stands twice", AGAIN,
    ),
    "the same field twice": (
        file_of('{"a":{"dtype":"U8","dtype":"I8","shape":[0],"data_offsets":[0,0]}}'),
        "the key 'dtype' stands twice", AGAIN,
    ),
    "an unknown dtype": (
        file_of({"a": tensor(0, 1, dtype="F7")}, b"x"), "the dtype 'F7'", "model.float()",
    ),
    "a dtype of eight-bit floats": (
        file_of({"a": tensor(0, 1, dtype="F8_E4M3")}, b"x"), "the dtype 'F8_E4M3'", "model.float()",
    ),
    "no dtype": (
        file_of({"a": {"shape": [0], "data_offsets": [0, 0]}}), "the dtype 'None'", "model.float()",
    ),
    "a negative axis": (file_of({"a": tensor(0, 1, shape=[-1])}, b"x"), "its shape", AGAIN),
    "a shape of fractions": (file_of({"a": tensor(0, 1, shape=[1.0])}, b"x"), "its shape", AGAIN),
    "a shape of truths": (file_of({"a": tensor(0, 1, shape=[True])}, b"x"), "its shape", AGAIN),
    "a hundred axes": (file_of({"a": tensor(0, 1, shape=[1] * 100)}, b"x"), "its shape", AGAIN),
    "one offset": (
        file_of({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0]}}, b"x"),
        "its data_offsets", AGAIN,
    ),
    "offsets that run backwards": (
        file_of({"a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 0]}}, b"x"),
        "its data_offsets", AGAIN,
    ),
    "a range that does not fit the shape": (
        file_of({"a": tensor(0, 4, dtype="F32", shape=[2])}, b"xxxx"),
        "tensor 'a': its range holds 4 bytes, but F32 of shape (2,) takes 8", AGAIN,
    ),
    "a range past the end": (
        file_of({"a": tensor(0, 2), "b": tensor(2, 9)}, b"xxx"),
        "tensor 'b': the file is cut short", AGAIN,
    ),
    "an overlap": (
        file_of({"a": tensor(0, 2), "b": tensor(1, 3)}, b"xxx"),
        "tensor 'b': its bytes overlap those of 'a'", AGAIN,
    ),
    "a hole": (
        file_of({"a": tensor(0, 1), "b": tensor(2, 3)}, b"xxx"),
        "tensor 'b': a hole before it, of bytes", AGAIN,
    ),
    "a hole at the start": (file_of({"a": tensor(1, 2)}, b"xx"), "a hole before it", AGAIN),
    "bytes at the end": (
        file_of({"a": tensor(0, 1)}, b"xyz"), "the last tensor ends at byte", AGAIN,
    ),
    "a Git LFS pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "a Git LFS pointer, not the weights", "git lfs pull",
    ),
    "a web page": (b"<!DOCTYPE html><html></html>", "a web page", "download the file again"),
    "an error answer": (
        b'{"error":"Access to model x is restricted"}', "a JSON text", "download the file again",
    ),
    "a zip archive": (b"PK\x03\x04\x14\0\0\0\x08\0", "a PyTorch pickle", "--allow-pickle"),
    "an old pickle": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P", "a PyTorch pickle", "--allow-pickle"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_file_is_refused_with_file_and_cure(tmp_path, fault):
    content, says, cure = FAULTS[fault]
    (tmp_path / WEIGHTS_FILE).write_bytes(content)
    assert_refused(tmp_path, str(tmp_path / WEIGHTS_FILE), says, cure)


def test_all_faults_are_tried():
    assert len(FAULTS) == 34


@pytest.mark.parametrize("name", [WEIGHTS_FILE, INDEX_FILE])
def test_what_is_no_regular_file_is_refused(tmp_path, name):
    file = tmp_path / name
    file.mkdir()
    assert_refused(tmp_path, str(file), "a regular file")
    file.rmdir()
    file.symlink_to(tmp_path / "gone")
    assert_refused(tmp_path, str(file), "No such file")


@pytest.mark.parametrize("name", [WEIGHTS_FILE, INDEX_FILE])
def test_a_pipe_is_refused_and_never_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("still waiting"))
    signal.alarm(5)
    try:
        assert_refused(tmp_path, "a regular file")
    finally:
        signal.alarm(0)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    tensors = {"a": np.ones((2, 3), np.float32), "b": np.arange(5), "c": np.zeros(0, np.float16)}
    write_weights(folder, tensors)
    return (folder / WEIGHTS_FILE).read_bytes()


fuzz = settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@fuzz
@given(data=st.data())
def test_no_change_of_bytes_passes_us_that_the_library_refuses(tmp_path, sound, data):
    changed = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(sound) - 1))
        changed[position] = data.draw(st.integers(0, 255))
    del changed[data.draw(st.one_of(st.none(), st.integers(0, len(sound)))) :]
    (tmp_path / WEIGHTS_FILE).write_bytes(changed)
    read = names_if_sound(tmp_path)
    if read is not None:
        assert read == names_by_library(tmp_path)


@fuzz
@given(data=st.data())
def test_a_layout_is_sound_to_us_exactly_if_it_is_to_the_library(tmp_path, data):
    position, header = 0, {}
    for name in data.draw(st.lists(st.sampled_from("abcd"), unique=True)):
        dtype, width = data.draw(st.sampled_from([("U8", 1), ("BF16", 2), ("F32", 4)]))
        shape = data.draw(st.lists(st.integers(0, 2), max_size=2))
        start, position = position, position + width * int(np.prod(shape))
        header[name] = tensor(start, position, dtype=dtype, shape=shape)
    slips = st.sampled_from([0, 0, 0, 0, 0, 0, 0, -1, 1, 2])
    for fields in header.values():
        for field in ("shape", "data_offsets"):
            fields[field] = [number + data.draw(slips) for number in fields[field]]
    content = file_of(header, bytes(max(0, position + data.draw(slips))))
    (tmp_path / WEIGHTS_FILE).write_bytes(content)
    assert names_if_sound(tmp_path) == names_by_library(tmp_path)


def names_if_sound(folder):
    try:
        return {name for name, _ in read_tensors(find_weights(folder))}
    except ModelError:
        return None


def names_by_library(folder):
    try:
        with safetensors.safe_open(folder / WEIGHTS_FILE, framework="np") as opened:
            return set(opened.keys())
    except safetensors.SafetensorError:
        return None


@fuzz
@given(content=st.binary(max_size=60))
@example(b"\0" * 8 + b"{}")
def test_no_noise_is_more_than_a_line(tmp_path, content):
    (tmp_path / WEIGHTS_FILE).write_bytes(content)
    with pytest.raises(ModelError):
        find_weights(tmp_path)


def test_a_name_out_of_a_hostile_file_cannot_break_the_line(tmp_path):
    name = "a\n\x1b[31m" + "x" * 500
    (tmp_path / WEIGHTS_FILE).write_bytes(file_of({name: 1}))
    line = assert_refused(tmp_path, "\\n\\x1b[31m")
    assert len(line) < 400 + len(str(tmp_path))


def test_a_file_cut_after_it_was_found_is_told(tmp_path):
    weights = write_weights(tmp_path, {"a": np.zeros(9), "b": np.zeros(9)})
    os.truncate(tmp_path / WEIGHTS_FILE, weights.entries["b"].end - 1)
    with pytest.raises(ModelError, match="tensor 'b': the file changed or went away"):
        dict(read_tensors(weights))
    (tmp_path / WEIGHTS_FILE).unlink()
    with pytest.raises(ModelError, match="tensor 'a': the file changed or went away"):
        dict(read_tensors(weights))


def test_a_tensor_larger_than_the_memory_is_told(tmp_path, monkeypatch):
    def full(*_, **__):
        raise MemoryError

    weights = write_weights(tmp_path, {"a": np.zeros(9)})
    monkeypatch.setattr(np, "empty", full)
    with pytest.raises(OutOfMemory, match="a tensor of 72 bytes does not fit"):
        dict(read_tensors(weights))


@pytest.fixture
def sharded(tmp_path):
    write_weights(tmp_path, {"a": np.zeros(4), "b": np.ones(4)}, max_shard_bytes=32)
    return tmp_path


FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def test_a_missing_shard_is_named(sharded):
    (sharded / SECOND).unlink()
    assert_refused(sharded, INDEX_FILE, f"names {SECOND}, which is missing", "whole folder again")


def test_a_damaged_shard_is_named(sharded):
    (sharded / SECOND).write_bytes(b"")
    assert_refused(sharded, SECOND, "empty (0 bytes)")


def test_a_shard_that_lacks_a_tensor_is_named_with_the_tensor(sharded):
    shutil.copy(sharded / FIRST, sharded / SECOND)
    assert_refused(sharded, f"says that {SECOND} holds the tensor 'b'", "whole folder again")


def test_a_tensor_in_two_shards_is_read_from_the_one_that_the_index_names(sharded):
    tensors = {"a": np.full(4, 7.0), "b": np.ones(4)}
    safetensors.numpy.save_file(tensors, sharded / SECOND)
    read = dict(read_tensors(find_weights(sharded)))
    assert read["a"].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "shard",
    [
        "../x.safetensors",
        "/etc/passwd",
        "..",
        ".",
        "",
        "a/b",
        "a\\b",
        "C:x",
        "a\n",
        "a\0b",
        3,
        None,
    ],
)
def test_an_index_reaches_no_file_outside_its_folder(sharded, shard):
    (sharded / INDEX_FILE).write_text(json.dumps({"weight_map": {"a": shard}}))
    assert_refused(sharded, INDEX_FILE, "is not a plain file name", "a source you trust")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "no valid JSON"),
        ("[]", "not an object"),
        ("{}", "holds no weight_map"),
        ('{"weight_map": {}}', "holds no weight_map"),
        ('{"weight_map": ["a"]}', "holds no weight_map"),
        ('{"weight_map": {"a": "x", "a": "y"}}', "the key 'a' stands twice"),
    ],
)
def test_a_damaged_index_is_named(sharded, content, says):
    (sharded / INDEX_FILE).write_text(content)
    assert_refused(sharded, INDEX_FILE, says)


FOREIGN = {  # files in a folder: what the line says, and the way out
    (): ("no weights in this folder", "the folder of a trained model"),
    ("config.json", "optimizer.pt", "training_args.bin"): ("no weights", "a trained model"),
    ("pytorch_model.bin",): ("only pickle weights", "--allow-pickle"),
    ("pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"): (
        "only pickle weights", "--allow-pickle",
    ),
    ("model.pt",): ("(model.pt)", "save_pretrained"),
    ("last.ckpt", "x.pth"): ("(last.ckpt, x.pth)", "save_pretrained"),
    ("weights.bin",): ("any code", "save_pretrained"),
    ("tf_model.h5",): ("TensorFlow", "from_tf=True"),
    ("model.ckpt.index", "model.ckpt.meta"): ("TensorFlow", "from_tf=True"),
    ("flax_model.msgpack",): ("Flax", "from_flax=True"),
    ("model.onnx",): ("ONNX", "exported from"),
    ("model-q4.gguf",): ("GGUF", "converted from"),
    ("adapter_model.safetensors",): ("adapter_model.safetensors", "merge an adapter"),
    ("tf_model.h5", "pytorch_model.bin"): ("only pickle weights", "--allow-pickle"),
}  # fmt: skip


@pytest.mark.parametrize("names", FOREIGN)
def test_a_folder_without_safetensors_says_what_it_holds_and_the_way_out(tmp_path, names):
    for name in names:
        (tmp_path / name).write_bytes(b"")
    assert_refused(
        tmp_path, str(tmp_path), "allowed: model.safetensors, or model.safetensors.index.json",
        *FOREIGN[names],
    )  # fmt: skip


def test_a_missing_folder_and_a_file_in_its_place_are_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    assert_refused(tmp_path / "gone", "no model folder: No such file", "hub:NAME")
    assert_refused(tmp_path / "file", "no model folder: Not a directory")


def assert_refused(folder, *parts):
    with pytest.raises(ModelError) as caught:
        find_weights(folder)
    line = str(caught.value)
    assert "\n" not in line
    for part in parts:
        assert part in line
    return line


WRITE_TOO_MUCH = """
import sys
from pathlib import Path
import numpy as np
from potstill.bundle.weights import find_weights, read_tensors, write_weights
from potstill.errors import StorageError
folder = Path(sys.argv[1])
write_weights(folder, {"old": np.zeros(9)})
if sys.argv[2] == "limit":
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for bound in (10**9, 300_000):
    tensors = {name: np.ones(30_000) for name in "abcd"}
    try:
        write_weights(folder, tensors, max_shard_bytes=bound)
    except StorageError as error:
        print(error)
assert list(find_weights(folder).entries) == ["old"]
assert [file.name for file in folder.iterdir()] == ["model.safetensors"]
"""


@pytest.mark.parametrize("cause", ["limit", "full"])
def test_a_full_disk_is_one_line_and_leaves_the_old_weights_whole(tmp_path, cause):
    command = [sys.executable, "-c", WRITE_TOO_MUCH, str(tmp_path), cause]
    if cause == "full":
        command = in_small_file_system(tmp_path, command)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    for line in done.stdout.splitlines():
        assert ("No space left on device" if cause == "full" else "File too large") in line
        assert "what stood there before is whole" in line
        assert "free some space" in line


def in_small_file_system(folder, command):
    """Return the command as run where a file system of 400 kB is mounted on `folder`."""
    enter = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o size=400k none {shlex.quote(str(folder))}"
    try:
        subprocess.run([*enter, mount], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no right to mount a small file system here: {error}")
    return [*enter, f'{mount} && exec "$@"', "sh", *command]
