"""Corpora from the hub, against a stand-in on this machine: streamed, and held to one revision."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest

from potstill.data.corpus_files import CorpusSource
from potstill.data.hub_stream import hub_revision, hub_stream
from potstill.errors import DataError, MissingExtraError
from tests import standin_hub
from tests.conftest import REPOSITORY
from tests.corpora import sentences
from tests.standin_hub import StandinHub, serving

pytest.importorskip("datasets", reason="pip install 'potstill[hub]'")

TEXTS = sentences(12)
BUILDING = """
import json, sys
from pathlib import Path
from potstill.errors import PotstillError
from tests.corpora import built, texts_of

def told(folder, source):
    try:
        corpus = built(Path(folder), source, shard_tokens=40, block_documents=3)
    except PotstillError as error:
        return {"line": str(error)}
    revision, read = corpus.manifest.sources[0].revision, corpus.manifest.total.read
    return {"texts": texts_of(corpus), "revision": revision, "read": read}

print(json.dumps([told(*words.split()) for words in sys.argv[1:]]))
"""


class _DatasetsHandler(standin_hub._Handler):
    """The answers of the stand-in, at the addresses at which data sets are asked for."""

    def answer(self) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        path = path.replace("/api/datasets/", "/api/models/").replace("/datasets/", "/")
        if path.removeprefix("/api/models/") in self.hub.repositories:
            path += "/revision/main"
        if "/" in path.partition("/tree/")[2]:
            self.refuse(404, "EntryNotFound")
            return
        self.path = path
        super().answer()


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(standin_hub, "_Handler", _DatasetsHandler)
    rows = [{"text": None, "n": 0}, *({"text": text, "n": 1} for text in TEXTS)]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    files = {"train.jsonl": content, "test.jsonl": b'{"text": "bad plot", "n": 3}\n'}
    with serving(StandinHub({"owner/set": files})) as hub:
        yield hub


def build(hub: StandinHub, work: Path, *asked: tuple[str, str]) -> list[dict]:
    """Build in a process of its own: the libraries read the address when they are imported."""
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(work / "home")}
    environment.pop("HF_HUB_OFFLINE", None)
    words = [f"{work / folder} {source}" for folder, source in asked]
    command = [sys.executable, "-c", BUILDING, *words]
    ran = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, check=True)
    return json.loads(ran.stdout.splitlines()[-1])


ABSENT = {
    "hub:owner/none": "the data set cannot be loaded",
    "hub:owner/set": "the data set has several splits",
    "hub:owner/set:dev": "dev",
    "hub:a/b/c/d": "this is no name of a data set",
}


@pytest.mark.slow
def test_a_data_set_is_streamed_and_stays_at_its_revision(hub, tmp_path):
    commit = hub.commit("owner/set")
    faults = [(f"absent-{number}", source) for number, source in enumerate(ABSENT)]
    answer, *told = build(hub, tmp_path, ("corpus", "hub:owner/set:train"), *faults)
    assert answer == {"texts": TEXTS, "revision": commit, "read": 13}
    for (source, expected), fault in zip(ABSENT.items(), told, strict=True):
        assert fault["line"].startswith(f"{source}: ")
        assert expected in fault["line"]
        assert "\n" not in fault["line"]

    hub.repositories["owner/set"]["train.jsonl"] += b'{"text": "good film", "n": 2}\n'
    assert hub.commit("owner/set") != commit
    hub.requests.clear()
    pinned, newer = build(
        hub, tmp_path, ("corpus", "hub:owner/set:train"), ("newer", "hub:owner/set:train")
    )
    assert pinned == answer
    assert newer["texts"] == [*TEXTS, "good film"]
    assert [request for request in hub.requests if commit in request] == []


@pytest.fixture
def streamed(monkeypatch):
    """Put a small stream in the place of the library's; return the list of what was asked."""
    import datasets

    rows = [{"text": "a"}, {"text": None}, {"text": "c"}]
    calls = []

    def load_dataset(path, name=None, *, split=None, streaming, revision):
        calls.append((path, name, split, revision))
        if path != "owner/set":
            raise FileNotFoundError(path)
        assert streaming
        return datasets.Dataset.from_list(rows).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return calls


def test_reading_begins_behind_any_row(streamed):
    source = CorpusSource("hub:owner/set:train", revision="abc")
    assert list(source.documents()) == [(1, "a"), (2, ""), (3, "c")]
    assert list(source.documents(after=2)) == [(3, "c")]
    assert list(source.documents(after=3)) == []
    assert streamed == [("owner/set", None, "train", "abc")] * 3


def test_a_missing_column_is_told_with_the_row(streamed):
    source = CorpusSource("hub:owner/set:train", column="txt")
    with pytest.raises(DataError) as caught:
        list(source.documents())
    assert str(caught.value) == (
        "hub:owner/set:train, row 1: there is no column 'txt' (the columns are: text); "
        "to mend it: did you mean 'text'?"
    )


def test_a_hub_that_goes_away_is_told_in_one_line(monkeypatch):
    import datasets

    def rows():
        yield {"text": "a"}
        raise ConnectionError("gone")

    stream = datasets.IterableDataset.from_generator(rows)
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: stream)
    documents = CorpusSource("hub:owner/set:train").documents()
    assert next(documents) == (1, "a")
    with pytest.raises(DataError, match="hub:owner/set:train: the data set cannot be loaded: gone"):
        next(documents)


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'potstill\[hub\]'"):
        hub_revision("hub:owner/set")
    with pytest.raises(MissingExtraError, match=r"pip install 'potstill\[hub\]'"):
        next(hub_stream("hub:owner/set", revision="", column="text"))
