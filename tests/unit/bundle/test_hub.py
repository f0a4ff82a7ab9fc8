"""Names of the hub, against a stand-in on this machine; each download in a process of its own.

A process of its own, because huggingface_hub reads its settings once, when it is imported. The
process notes every address that it connects to or looks up.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from potstill.bundle.hub import resolve
from potstill.bundle.weights import find_weights
from potstill.errors import MissingExtraError, ModelError
from tests.standin_hub import StandinHub, serving

pytest.importorskip("huggingface_hub")

WEIGHTS = safetensors.numpy.save({"w": np.arange(30_000, dtype=np.float32)})
MODEL = {
    "config.json": b'{"model_type": "bert"}',
    "model.safetensors": WEIGHTS,
    "tokenizer.json": b"{}",
    "vocab.txt": b"[PAD]\n",
    "modules.json": b"[]",
    "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true}',
    "README.md": b"# a model",
    "LICENSE": b"free",
}
NEVER = {
    "pytorch_model.bin": b"pickle",
    "training_args.bin": b"pickle",
    "optimizer.pt": b"pickle",
    "modeling_custom.py": b"raise SystemExit",
    "1_Pooling/pooling.py": b"raise SystemExit",
    "tf_model.h5": b"tensorflow",
    "onnx/model.onnx": b"onnx",
    "openvino/openvino_model.bin": b"openvino",
    "checkpoint-500/model.safetensors": WEIGHTS,
    "checkpoint-500/config.json": b"{}",
    "model.fp16.safetensors": WEIGHTS,
}

CHILD = """
import json, os, sys
connects = []
def audit(event, arguments):
    if event == "socket.connect":
        connects.append(list(arguments[1]))
    elif event == "socket.getaddrinfo":
        connects.append([str(arguments[0]), arguments[1]])
sys.addaudithook(audit)
from potstill.bundle.hub import resolve
from potstill.errors import PotstillError
is_lazy = "huggingface_hub" not in sys.modules
asked = json.load(sys.stdin)
exec(asked["before"])
answers = []
for name in asked["names"]:
    if name == "from here on offline":
        os.environ["HF_HUB_OFFLINE"] = "1"
        del connects[:]
        continue
    try:
        answers.append({"folder": str(resolve(name, revision=asked["revision"]))})
    except PotstillError as error:
        answers.append({"error": type(error).__name__, "line": str(error)})
constants = sys.modules.get("huggingface_hub.constants")
is_silent = constants is None or (
    constants.HF_HUB_DISABLE_TELEMETRY and os.environ.get("HF_HUB_DISABLE_TELEMETRY") == "1"
)
told = {"answers": answers, "connects": connects, "is_lazy": is_lazy, "is_silent": is_silent}
print("\\n" + json.dumps(told))
"""


OFFLINE = "from here on offline"  # stands between names


class Client:
    """Resolves names in a process of its own, with a cache of its own."""

    def __init__(self, hub, home):
        self.hub, self.home = hub, home

    def start(self, *names, before="", revision=None, **environment):
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                "PYTHONPATH": os.pathsep.join(sys.path),
                "HOME": str(self.home),
                "HF_HOME": str(self.home),
                "HF_ENDPOINT": self.hub.url,
                "AI_AGENT": "1",  # what the library would report if it were allowed to
                **environment,
            },
        )
        request = {"names": names, "before": before, "revision": revision}
        process.stdin.write(json.dumps(request))
        process.stdin.close()
        process.stdin = None
        return process

    def ask(self, *names, **settings):
        """Return one answer a name; nothing but the stand-in was connected to."""
        output, errors = self.start(*names, **settings).communicate(timeout=60)
        assert output, errors
        told = json.loads(output.splitlines()[-1])
        assert told["is_lazy"]
        assert told["is_silent"]
        port = int(self.hub.url.rpartition(":")[2])
        assert {tuple(address) for address in told["connects"]} <= {("127.0.0.1", port)}
        self.connects = told["connects"]
        return told["answers"]

    def resolve(self, name, **settings):
        [answer] = self.ask(name, **settings)
        assert "folder" in answer, answer
        return Path(answer["folder"])

    def refused(self, name, kind="ModelError", **settings):
        [answer] = self.ask(name, **settings)
        assert answer.get("error") == kind, answer
        assert "\n" not in answer["line"]
        return answer["line"]


@pytest.fixture
def hub():
    with serving(StandinHub({"maker/model": MODEL | NEVER})) as standin:
        yield standin


@pytest.fixture
def client(hub, tmp_path):
    return Client(hub, tmp_path / "home")


def test_a_model_is_downloaded_without_pickles_code_or_second_copies(hub, client):
    folder = client.resolve("hub:maker/model")
    assert contents(folder) == MODEL
    assert find_weights(folder).entries["w"].shape == (30_000,)
    assert hub.files_sent == MODEL.keys()
    assert not any(request.endswith(tuple(NEVER)) for request in hub.requests)
    assert {request.split("/")[1] for request in hub.requests} == {"api", "maker"}
    assert all(
        "/revision/" in request or "/tree/" in request
        for request in hub.requests
        if "/api/" in request
    )

    hub.requests.clear()
    assert client.resolve("hub:maker/model", HF_HUB_OFFLINE="1") == folder
    assert client.connects == hub.requests == []
    assert client.resolve("hub:maker/model") == folder
    assert hub.files_sent == set()


def test_settings_made_after_the_library_was_imported_hold_too(hub, client):
    early = "import huggingface_hub.constants"
    found, again, other = client.ask(
        "hub:maker/model", OFFLINE, "hub:maker/model", "hub:maker/other", before=early
    )
    assert found == again
    assert "HF_HUB_OFFLINE is set" in other["line"]
    assert client.connects == []


def test_revisions_are_asked_for_in_the_name_or_beside_it(hub, client):
    commit = hub.commit("maker/model")
    by_name, by_commit, unknown = client.ask(
        "hub:maker/model@v1", f"hub:maker/model@{commit}", "hub:maker/model@v2"
    )
    assert "GET /api/models/maker/model/revision/v1" in hub.requests
    assert Path(by_name["folder"]).name == commit
    assert by_commit == by_name
    assert "the model has no revision 'v2'" in unknown["line"]
    assert f"see its branches and tags at {hub.url}/maker/model" in unknown["line"]

    hub.requests.clear()
    by_argument, clash = client.ask("hub:maker/model", "hub:maker/model@v2", revision="v1")
    assert by_argument == by_name
    assert "two revisions are asked for, v2 and v1" in clash["line"]
    assert hub.requests == ["GET /api/models/maker/model/revision/v1"]


def test_bad_names_are_refused_and_nothing_is_asked(hub, client):
    bad_names = [
        "",
        "..",
        "../model",
        "maker/../../x",
        "a/b/c",
        "/etc",
        "a b",
        "-a",
        "a--b",
        "a\nb",
    ]
    bad_revisions = ["../main", "a/../../b", "/etc", "-x", "a b", "a\\b", "a\0b", ".", "a//b"]
    names = [f"hub:{name}" for name in bad_names]
    names += [f"hub:maker/model@{revision}" for revision in bad_revisions]
    answers = client.ask(*names)
    assert len(answers) == 19
    for name, answer in zip(names, answers, strict=True):
        assert answer.get("error") == "ModelError", (name, answer)
        says = "is no revision" if "@" in name else "is no name of a model"
        assert says in answer["line"]
    assert hub.requests == client.connects == []
    assert not client.home.exists() or not list(client.home.rglob("refs"))


def test_what_the_hub_refuses_says_what_helps(hub, client):
    hub.repositories |= {"maker/gated": MODEL, "maker/broken": MODEL}
    hub.gated.add("maker/gated")
    hub.broken.add("maker/broken")
    names = ["hub:maker/none", "hub:maker/gated", "hub:maker/broken"]
    unknown, gated, broken = (answer["line"] for answer in client.ask(*names))
    assert unknown.startswith("hub:maker/none: the hub has no such model, or it is private")
    assert "HF_TOKEN" in unknown
    assert "only to those who asked for it" in gated
    assert f"ask at {hub.url}/maker/gated, then run 'hf auth login'" in gated
    assert "the hub cannot be reached" in broken
    assert "500" in broken
    assert contents(client.resolve("hub:maker/gated", HF_TOKEN="hf_standin")) == MODEL


def test_without_network_or_offline_a_missing_copy_says_which_of_both(hub, client):
    hub.url = "http://127.0.0.1:9"  # nothing listens there
    unreachable, offline = (
        answer["line"] for answer in client.ask("hub:maker/model", OFFLINE, "hub:maker/model")
    )
    assert "the hub cannot be reached, and the cache holds no whole copy" in unreachable
    assert "Connection refused" in unreachable
    assert "HF_ENDPOINT" in unreachable
    assert "HF_HUB_OFFLINE is set, and the cache holds no whole copy" in offline
    assert "run once without HF_HUB_OFFLINE" in offline
    assert hub.requests == []


def test_a_repository_of_pickles_says_so_and_the_way_out(hub, client):
    hub.repositories |= {
        "maker/old": {"config.json": b"{}", "pytorch_model.bin": b"pickle"},
        "maker/odd": {"config.json": b"{}", "a.pt": b"pickle", "weights/last.ckpt": b"pickle"},
    }
    old, odd = (answer["line"] for answer in client.ask("hub:maker/old", "hub:maker/odd"))
    assert "can run any code when it is loaded (pytorch_model.bin); it is not downloaded" in old
    assert "hf download maker/old --local-dir FOLDER" in old
    assert "--allow-pickle" in old
    assert "(a.pt, weights/last.ckpt); it is not downloaded" in odd
    assert "save_pretrained" in odd
    assert hub.files_sent == {"config.json"}


def test_a_repository_without_weights_says_so(hub, client):
    other = {"openvino/openvino_model.bin": b"openvino", "training_args.bin": b"pickle"}
    hub.repositories["maker/empty"] = {"config.json": b"{}"} | other
    for answer in client.ask("hub:maker/empty", OFFLINE, "hub:maker/empty"):
        assert "no weights that can be read" in answer["line"]
        assert "allowed: model.safetensors" in answer["line"]


def test_a_bundle_of_ours_comes_with_its_runtime_files(hub, client):
    runtime = {
        "openvino/int8.xml": b"<net/>",
        "openvino/int8.bin": b"weights",
        "onnx/model_quantized.onnx": b"onnx",
    }
    small = {"config.json": b"{}", "potstill.json": b"{}", "tokenizer.json": b"{}"}
    hub.repositories["maker/int8"] = small | runtime | {"pytorch_model.bin": b"", "a.py": b""}
    online, offline = client.ask("hub:maker/int8", OFFLINE, "hub:maker/int8")
    assert contents(Path(online["folder"])) == small | runtime
    assert offline == online


def test_a_file_name_that_climbs_out_of_the_cache_is_not_written(hub, client, tmp_path):
    climbing = "1_/" + "../" * 8 + "evil/config.json"
    hub.repositories["maker/evil"] = MODEL | {climbing: b"evil"}
    assert "the download failed" in client.refused("hub:maker/evil")
    assert not [file for file in tmp_path.rglob("*") if "evil" in file.name and file.is_file()]
    assert climbing not in hub.files_sent


def test_a_connection_cut_half_way_is_taken_up_again(hub, client):
    hub.cut_after["model.safetensors"] = 50_000
    at_once = "import time; time.sleep = lambda _: None"
    assert contents(client.resolve("hub:maker/model", before=at_once)) == MODEL
    assert sum("GET" in r and "model.safetensors" in r for r in hub.requests) == 2


def test_a_file_of_another_size_than_announced_is_not_kept(hub, client):
    hub.swapped["model.safetensors"] = WEIGHTS[:1000]
    online, offline = client.ask("hub:maker/model", OFFLINE, "hub:maker/model")
    assert "the download failed" in online["line"]
    assert "run the same command again" in online["line"]
    assert "no whole copy" in offline["line"]
    hub.swapped.clear()
    assert contents(client.resolve("hub:maker/model")) == MODEL


def test_a_download_killed_half_way_leaves_nothing_that_passes_for_a_model(hub, client):
    hub.stalled["model.safetensors"] = 50_000
    process = client.start("hub:maker/model")
    wait_until(lambda: "model.safetensors" in hub.files_sent)
    process.kill()
    process.communicate()
    assert "no whole copy" in client.refused("hub:maker/model", HF_HUB_OFFLINE="1")
    hub.stalled.clear()
    assert contents(client.resolve("hub:maker/model")) == MODEL


def test_a_full_disk_is_one_line_and_names_the_cache(hub, client):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))"
    line = client.refused("hub:maker/model", kind="StorageError", before=limit)
    assert str(client.home / "hub") in line
    assert "cannot store hub:maker/model: File too large" in line
    assert "set HF_HOME to a folder on a larger disk" in line


def test_a_cache_that_cannot_be_written_is_one_line(client):
    line = client.refused("hub:maker/model", kind="OutputError", before=NO_RIGHTS)
    assert "cannot store hub:maker/model: Permission denied" in line
    assert "set HF_HOME to a folder that you may write to" in line


NO_RIGHTS = """
import os
def mkdir(*_, **__):
    raise PermissionError(13, "Permission denied")
os.mkdir = mkdir
"""


def test_a_local_folder_is_returned_as_it_is_and_needs_no_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert resolve(tmp_path) == tmp_path
    monkeypatch.chdir(tmp_path.parent)
    assert resolve(tmp_path.name) == Path(tmp_path.name)


def test_a_missing_folder_and_a_file_are_refused_with_the_way_to_write_a_hub_name(tmp_path):
    with pytest.raises(ModelError, match=r"no such folder.*is written hub:NAME"):
        resolve("maker/model")
    with pytest.raises(ModelError, match=r"a local folder has none; .* write hub:maker/model"):
        resolve("maker/model", revision="v1")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"this is a file.*name the folder it lies in"):
        resolve(tmp_path / "model.safetensors")


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")  # so that it is restored afterwards
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'potstill\[hub\]'"):
        resolve("hub:maker/model")


def contents(folder):
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def wait_until(is_so, *, at_most_s=20):
    end = time.monotonic() + at_most_s
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)
