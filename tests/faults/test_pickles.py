"""A pickle is never run: hostile, damaged and foreign ones end in one line, and in nothing else."""

from __future__ import annotations

import collections
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from potstill import locks
from potstill.bundle import opening, pickle_child, pickles
from potstill.bundle.opening import open_model
from potstill.bundle.pickles import convert_pickles
from potstill.bundle.weights import WEIGHTS_FILE, find_weights, read_tensors
from potstill.errors import (
    MissingExtraError,
    ModelError,
    OutOfMemory,
    OutputError,
    RunError,
    StorageError,
)
from potstill.files import folder_whole_or_absent

torch = pytest.importorskip("torch")

from tests.command_line import said_apart, tree_of  # noqa: E402 - it needs torch
from tests.folders import write_tiny_model  # noqa: E402 - it needs torch

PICKLE = "pytorch_model.bin"


class Runs:
    """An object whose pickle calls a function when it is loaded."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "model"
    made.mkdir()
    return made


def test_a_model_in_shards_is_converted_with_the_files_beside_it(folder, tmp_path, monkeypatch):
    shards = {
        "pytorch_model-00001-of-00002.bin": TENSORS,
        "pytorch_model-00002-of-00002.bin": {"last": torch.ones(2)},
    }
    for shard, tensors in shards.items():
        torch.save(collections.OrderedDict(tensors), folder / shard)
    weight_map = {name: shard for shard, tensors in shards.items() for name in tensors}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    for name in ("config.json", "vocab.txt", "spiece.model", "README.md", "1_Pooling/config.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    for name in ("modeling.py", "optimizer.pt", "training_args.bin"):
        (folder / name).write_text("never copied")
    put_decoys(tmp_path, monkeypatch)

    into = convert_pickles(folder.relative_to(tmp_path), into=Path("into"))

    assert into == Path("into")
    assert_same(dict(read_tensors(find_weights(into))), TENSORS | {"last": torch.ones(2)})
    assert {str(file.relative_to(into)) for file in into.rglob("*") if file.is_file()} == {
        "config.json", "vocab.txt", "spiece.model", "README.md", "1_Pooling/config.json",
        WEIGHTS_FILE,
    }  # fmt: skip


TABLE = torch.arange(6, dtype=torch.float32).reshape(2, 3)
TENSORS = {
    "table": TABLE,
    "tied": TABLE,  # shares the storage
    "columns": TABLE.T,  # shares it too, and its numbers lie in another order
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "half": torch.tensor([1.5, -2.0], dtype=torch.float16),
    "brain": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "ids": torch.arange(3),
    "flags": torch.tensor([True, False]),
    "scalar": torch.tensor(7.0),
}


def put_decoys(folder, monkeypatch):
    """Make the folder the current one, with a module that must not be taken for torch."""
    (folder / "torch.py").write_text("raise SystemExit('a module of the current folder ran')")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.syspath_prepend("")


def test_a_single_file_of_the_old_layout_is_converted(folder):
    torch.save(TENSORS, folder / PICKLE, _use_new_zipfile_serialization=False)
    pickle_child.convert([folder / PICKLE], folder / "into", most_bytes=2**20)
    assert_same(dict(read_tensors(find_weights(folder / "into"))), TENSORS)


def assert_same(found, tensors):
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        wide = tensor.float() if tensor.dtype is torch.bfloat16 else tensor
        np.testing.assert_array_equal(found[name], wide.detach().numpy())
        assert found[name].dtype == wide.detach().numpy().dtype


@pytest.fixture(params=[True, False], ids=["zip archive", "old layout"])
def hostile(request, folder, tmp_path):
    """Return the file that a pickle in the folder makes when it runs, and that is not there yet."""
    marker = tmp_path / "marker"
    table = {"a": torch.ones(1), "b": Runs(os.system, f"touch {marker}")}
    torch.save(table, folder / PICKLE, _use_new_zipfile_serialization=request.param)
    torch.load(folder / PICKLE, weights_only=False)
    assert marker.exists(), "the pickle of this test is harmless, so the test shows nothing"
    marker.unlink()
    return marker


def test_a_hostile_pickle_is_refused_and_its_program_never_runs(hostile, folder):
    line = refused_by_child(folder, ModelError)
    assert not hostile.exists()
    assert PICKLE in line
    assert "the pickle asks for posix.system" in line
    assert "from a source you trust" in line


@pytest.mark.parametrize("hostile", [True], indirect=True)
def test_the_refusal_of_a_hostile_pickle_crosses_the_border_of_the_process(
    hostile, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("loaded in this process"))
    line = refused(folder, tmp_path, ModelError)
    assert not hostile.exists()
    assert "the pickle asks for posix.system" in line


def test_a_hole_in_the_loader_would_still_start_no_program_and_open_no_socket(tmp_path):
    marker = tmp_path / "marker"
    code = f"""
import os, socket, subprocess, sys, ctypes
from potstill.bundle.pickle_child import forbid_programs_and_sockets
forbid_programs_and_sockets()
attempts = [
    lambda: os.system("touch {marker}"),
    lambda: subprocess.run(["touch", "{marker}"]),
    lambda: os.posix_spawn("/bin/touch", ["touch", "{marker}"], {{}}),
    lambda: os.execv("/bin/touch", ["touch", "{marker}"]),
    os.fork,
    lambda: socket.create_connection(("127.0.0.1", 9)),
    lambda: ctypes.CDLL(None),
]
for attempt in attempts:
    try:
        attempt()
    except Exception as error:
        print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["_Forbidden"] * 7, done.stderr
    assert not marker.exists()


# These go through the child's own code, but in this process, so that torch is loaded only once.
CASES = {
    "a network": (lambda: torch.nn.Linear(1, 1), "asks for torch.nn.modules.linear.Linear"),
    "an array": (lambda: {"a": np.ones(2)}, "asks for numpy"),
    "a list": (lambda: [torch.ones(1)], "holds a list, not tensors by name"),
    "numbers as names": (lambda: {1: torch.ones(1)}, "not tensors by name"),
    "a checkpoint": (
        lambda: {"state_dict": {"a": torch.ones(1)}}, "entry 'state_dict': this is a dict",
    ),
    "a sparse tensor": (lambda: {"a": torch.ones(2).to_sparse()}, "entry 'a': a tensor of"),
    "a complex tensor": (lambda: {"a": torch.ones(2, dtype=torch.complex64)}, "torch.complex64"),
    "eight-bit floats": (lambda: {"a": torch.ones(2).to(torch.float8_e5m2)}, "torch.float8_e5m2"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_no_table_of_tensors_is_refused(folder, case):
    make, says = CASES[case]
    torch.save(make(), folder / PICKLE)
    assert says in refused_by_child(folder, ModelError)


def test_all_cases_are_tried():
    assert len(CASES) == 8


@pytest.mark.parametrize("as_zip", [True, False], ids=["zip archive", "old layout"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_cut_pickle_is_told_as_damaged(folder, as_zip, share):
    file = folder / PICKLE
    torch.save({"a": torch.ones(500)}, file, _use_new_zipfile_serialization=as_zip)
    os.truncate(file, int(file.stat().st_size * share))
    line = refused_by_child(folder, ModelError)
    assert "it is damaged" in line
    assert "download or copy the file again" in line


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_stored_number_cannot_fill_the_disk(folder, dtype):
    torch.save({"a": torch.ones(1, dtype=dtype).expand(10**12)}, folder / PICKLE)
    line = refused_by_child(folder, OutOfMemory)
    assert f"would take {10**12 * dtype.itemsize:,} bytes" in line


def refused_by_child(folder, kind):
    into = folder / "into"
    with pytest.raises(kind) as caught:
        pickle_child.convert([folder / PICKLE], into, most_bytes=2**20)
    assert not into.exists()
    return one_line(caught.value)


@pytest.fixture
def pickled(tmp_path, monkeypatch):
    """Return a model that has a pickle for its weights; a stand-in converts it at once."""
    whole = write_tiny_model(tmp_path / "elsewhere" / "model")
    model = shutil.copytree(whole, tmp_path / "model")
    (model / WEIGHTS_FILE).rename(model / PICKLE)

    def convert(folder, *, into):
        with folder_whole_or_absent(into) as staging:
            shutil.copytree(whole, staging, dirs_exist_ok=True)
        return into

    monkeypatch.setattr(opening, "convert_pickles", convert)
    return model


def test_of_several_that_open_a_model_of_pickles_at_once_one_converts_it(pickled, monkeypatch):
    convert, calls = opening.convert_pickles, []

    def convert_slowly(folder, *, into):
        calls.append(into)
        time.sleep(0.5)  # the other one comes meanwhile
        return convert(folder, into=into)

    monkeypatch.setattr(opening, "convert_pickles", convert_slowly)
    with ThreadPoolExecutor(2) as pool:
        opened = list(pool.map(lambda _: open_model(pickled, allow_pickle=True), range(2)))
    copy = pickled.with_name("model-safetensors")
    assert [found.path for found in opened] == [copy, copy]
    assert open_model(pickled, allow_pickle=True).path == copy
    assert len(calls) == 1
    assert {path.name for path in copy.parent.iterdir()} == {"elsewhere", "model", copy.name}


def test_where_no_disk_knows_locks_the_copy_of_the_quicker_one_is_used(pickled, monkeypatch):
    convert = opening.convert_pickles

    def convert_second(folder, *, into):
        monkeypatch.setattr(opening, "convert_pickles", convert)
        open_model(folder, allow_pickle=True)  # by another process
        return convert(folder, into=into)

    monkeypatch.setattr(locks, "_knows_locks", lambda: False)
    monkeypatch.setattr(opening, "convert_pickles", convert_second)
    copy = pickled.with_name("model-safetensors")
    assert open_model(pickled, allow_pickle=True).path == copy
    assert {path.name for path in copy.parent.iterdir()} == {"elsewhere", "model", copy.name}


def test_a_copy_is_told_once_with_its_place(pickled, caplog):
    copy = pickled.with_name("model-safetensors")
    for _ in range(2):
        open_model(pickled, allow_pickle=True)
    line = f"{pickled}: its pickles were converted; the copy that is used is {copy}"
    assert caplog.messages == [line]


@pytest.mark.parametrize("changed", [PICKLE, "config.json"])
def test_a_copy_of_another_state_is_made_anew_and_keeps_what_was_put_there(
    pickled, changed, caplog
):
    copy = open_model(pickled, allow_pickle=True).path
    (copy / "notes").mkdir()
    (copy / "notes" / "mine.txt").write_text("mine")
    stale = copy / WEIGHTS_FILE
    content = stale.read_bytes()
    stale.write_bytes(b"of the earlier state")
    with (pickled / changed).open("ab") as stream:
        stream.write(b"\n")
    assert open_model(pickled, allow_pickle=True).path == copy
    assert stale.read_bytes() == content
    assert (copy / "notes" / "mine.txt").read_text() == "mine"
    assert len(caplog.messages) == 2
    assert {path.name for path in copy.parent.iterdir()} == {"elsewhere", "model", copy.name}


def test_a_copy_of_another_state_stays_as_it_is_where_none_can_be_made(pickled, monkeypatch):
    copy = open_model(pickled, allow_pickle=True).path
    before = tree_of(copy)
    (pickled / PICKLE).write_bytes(bytes(range(256)))
    monkeypatch.setattr(opening, "convert_pickles", convert_pickles)
    with pytest.raises(ModelError, match=PICKLE) as caught:
        open_model(pickled, allow_pickle=True)
    one_line(caught.value)
    monkeypatch.setattr(opening, "move_into_place", cannot_move)
    monkeypatch.setattr(opening, "convert_pickles", make_empty)
    with pytest.raises(OutputError, match="no permission"):
        open_model(pickled, allow_pickle=True)
    assert tree_of(copy) == before
    assert {path.name for path in copy.parent.iterdir()} == {"elsewhere", "model", copy.name}


def make_empty(folder, *, into):
    into.mkdir()
    return into


def cannot_move(staged, target):
    cannot_write(staged, into=target)


@pytest.mark.parametrize("what", ["a model", "a copy of another folder", "a file", "a dead link"])
def test_what_is_no_copy_of_the_folder_is_refused_and_stays(pickled, what):
    place = pickled.with_name("model-safetensors")
    if what == "a model":
        shutil.copytree(pickled.parent / "elsewhere" / "model", place)
    elif what == "a copy of another folder":
        other = shutil.copytree(pickled, pickled.with_name("other"))
        open_model(other, allow_pickle=True).path.rename(place)
    elif what == "a file":
        place.write_text("mine")
    else:
        place.symlink_to("nowhere")
    before = tree_of(place.parent)
    with pytest.raises(ModelError, match="no copy of model that --allow-pickle made") as caught:
        open_model(pickled, allow_pickle=True)
    assert one_line(caught.value).startswith(f"{place}: model-safetensors is no copy of model ")
    assert "move it away" in str(caught.value)
    assert tree_of(place.parent) == before


@pytest.mark.parametrize("record", ["{", '{"from": "model"}', '{"from": "model", "files": [[1]]}'])
def test_a_record_that_was_spoiled_gives_no_stale_weights(pickled, record):
    copy = open_model(pickled, allow_pickle=True).path
    (copy / opening.RECORD).write_text(record)
    if record == "{":
        with pytest.raises(ModelError, match="no copy of model"):
            open_model(pickled, allow_pickle=True)
    else:
        assert open_model(pickled, allow_pickle=True).path == copy
        assert json.loads((copy / opening.RECORD).read_text())["sources"].keys() >= {PICKLE}


def test_the_command_answers_with_what_the_pickle_holds_now(tmp_path):
    model = write_tiny_model(tmp_path / "model", "classification", task="classification")
    tensors = {name: torch.tensor(each) for name, each in read_tensors(find_weights(model))}
    for name in (WEIGHTS_FILE, "potstill.json"):
        (model / name).unlink()
    answers = []
    for bias in (9.0, -9.0):
        tensors["classifier.bias"][0] = bias
        torch.save(tensors, model / PICKLE)
        for is_first in (True, False):
            told = said_apart("predict", model, "good", "--allow-pickle", "--json")
            answers.append(json.loads(told.out)["label"] == "a")
            assert told.err.count("model-safetensors") == is_first
    assert answers == [True, True, False, False]


def test_a_copy_that_cannot_be_written_is_told_with_its_place(pickled, monkeypatch):
    monkeypatch.setattr(opening, "convert_pickles", cannot_write)
    with pytest.raises(OutputError, match="no permission"):
        open_model(pickled, allow_pickle=True)


def cannot_write(folder, *, into):
    raise OutputError("no permission to write", where=str(into))


@pytest.mark.parametrize(
    ("version", "is_safe"),
    [("2.5.1", False), ("2.6.0", False), ("2.9.1+cu128", False), ("1.13", False),
     ("2.10.0", True), ("2.11.0+cpu", True), ("3.0", True), ("2.10.0a0+git1", True)],
)  # fmt: skip
def test_versions_of_torch_with_known_holes_load_nothing(folder, monkeypatch, version, is_safe):
    torch.save({"a": torch.ones(1)}, folder / PICKLE)
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.setattr(torch, "load", lambda *_, **__: {"loaded": torch.ones(1)})
    if is_safe:
        pickle_child.convert([folder / PICKLE], folder / "into", most_bytes=2**20)
        assert list(find_weights(folder / "into").entries) == ["loaded"]
    else:
        line = refused_by_child(folder, ModelError)
        assert f"torch {version} cannot load pickles safely" in line
        assert "CVE-2026-24747" in line
        assert "torch 2.10 or later" in line


def test_without_torch_the_extra_is_named(folder, tmp_path, monkeypatch):
    torch.save({"a": torch.ones(1)}, folder / PICKLE)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    line = refused(folder, tmp_path, MissingExtraError)
    assert "--allow-pickle needs the package 'torch'" in line
    assert "pip install 'potstill[train]'" in line


@pytest.mark.skipif(sys.platform != "linux", reason="addresses are bounded on Linux only")
def test_a_zip_bomb_gets_no_more_memory_than_its_size_allows(folder, tmp_path, monkeypatch):
    torch.save({"a": torch.zeros(2**24, dtype=torch.uint8)}, tmp_path / "plain")
    with (
        zipfile.ZipFile(tmp_path / "plain") as plain,
        zipfile.ZipFile(folder / PICKLE, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bomb,
    ):
        for entry in plain.infolist():
            bomb.writestr(entry.filename, plain.read(entry))
    (tmp_path / "plain").unlink()
    monkeypatch.setattr(pickles, "_SPARE_MEMORY_BYTES", 2**22)
    line = refused(folder, tmp_path, OutOfMemory)
    assert "loading it takes more memory than the converter may have" in line


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", OutOfMemory, "killed by"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", RunError, "status -11"),
        ("raise SystemExit('first\\nlast\\x1b[31m')", RunError, "with status 1: last?[31m"),
        ("import sys; print('{}'); sys.exit(1)", RunError, "it said nothing"),
        ("import sys; print('[1]'); sys.exit(1)", RunError, "it said nothing"),
        ("""import sys; print('{"kind": "exec"}'); sys.exit(1)""", RunError, "status 1"),
        ("""import sys; print('{"kind": "StorageError", "what": "x"}'); sys.exit(1)""",
         StorageError, "x"),
        ("pass", ModelError, "no weights in this folder"),
    ],
)  # fmt: skip
def test_whatever_becomes_of_the_child_is_one_line(folder, tmp_path, monkeypatch, code, kind, says):
    torch.save({"a": torch.ones(1)}, folder / PICKLE)
    monkeypatch.setattr(pickles, "_CHILD", code)
    assert says in refused(folder, tmp_path, kind)


def test_a_child_that_never_ends_is_ended(folder, tmp_path, monkeypatch):
    torch.save({"a": torch.ones(1)}, folder / PICKLE)
    monkeypatch.setattr(pickles, "_CHILD", "import time; time.sleep(60)")
    line = refused(folder, tmp_path, RunError, timeout_s=0.2)
    assert "not converted within 0.2 s; the converter was stopped" in line


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html>", "a web page"),
    ],
)
def test_a_file_that_is_no_pickle_is_told_before_a_child_is_started(
    folder, tmp_path, monkeypatch, content, says
):
    (folder / PICKLE).write_bytes(content)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a child was started"))
    assert says in refused(folder, tmp_path, ModelError)


def test_a_folder_without_pickles_a_missing_shard_or_a_full_target_are_refused(folder, tmp_path):
    assert "no weights in this folder" in refused(folder, tmp_path, ModelError)
    (folder / WEIGHTS_FILE).write_bytes(b"")
    assert "drop --allow-pickle" in refused(folder, tmp_path, ModelError)
    index = {"weight_map": {"a": "pytorch_model-00001-of-00001.bin"}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert "of-00001.bin, which is missing" in refused(folder, tmp_path, ModelError)
    with pytest.raises(OutputError, match="not empty"):
        convert_pickles(folder, into=folder)


def refused(folder, tmp_path, kind, **settings):
    with pytest.raises(kind) as caught:
        convert_pickles(folder, into=tmp_path / "into", **settings)
    assert not (tmp_path / "into").exists()
    assert {entry.name for entry in tmp_path.iterdir()} <= {"model", "marker"}
    return one_line(caught.value)


def one_line(error):
    assert "\n" not in str(error)
    assert "\x1b" not in str(error)
    return str(error)
