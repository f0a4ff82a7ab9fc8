"""Corpora that cannot be read or written: one line with file and line, and nothing is lost."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.data.corpus import open_corpus
from potstill.data.corpus_build import CorpusSettings, build_corpus
from potstill.data.corpus_files import CorpusSource
from potstill.errors import DataError, MissingExtraError, StorageError
from tests.command_line import tree_of
from tests.conftest import REPOSITORY
from tests.corpora import built, bytes_of, sentences, tiny_tokenizer, write_text
from tests.faults.test_disk_full import Disk, disk

assert disk, "the fixture is used by its name"
zstandard = pytest.importorskip("zstandard", reason="pip install 'potstill[corpus]'")

TEXT = {
    "latin-1": (b"good\n\nb\xe9", "a.txt, line 3: byte 2 of the line (0xe9) is not UTF-8"),
    "utf-16": ("good\n".encode("utf-16"), "a.txt: the file is UTF-16"),
    "utf-32": ("good\n".encode("utf-32"), "a.txt: the file is UTF-32"),
    "nothing at all": (b"", "a.txt: the file is empty"),
}
JSONL = {
    "an open string": (b'{"text": "a"}\n\n{"text": "a', "a.jsonl, line 3, column 12: not valid"),
    "latin-1": (b'{"text": "\xe9"}', "a.jsonl, line 1: byte 11 of the line (0xe9) is not UTF-8"),
    "a lone surrogate": (b'{"text": "\\ud83d"}', "a.jsonl, line 1, column 11: a lone surrogate"),
    "a list": (b'{"text": "a"}\n["a"]', "a.jsonl, line 2: the row is of type list"),
    "another column": (
        b'{"text": "a"}\n{"txt": "a", "n": 1}',
        "a.jsonl, line 2: there is no column 'text' (the columns are: txt, n); "
        "to mend it: did you mean 'txt'?",
    ),
    "a number": (b'{"text": 7}', "a.jsonl, line 1, field 'text': 7 is not a string"),
    "nothing at all": (b"", "a.jsonl: the file is empty"),
}
PACK = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.compress}


def told_of(path: Path, content: bytes | None = None, *, column: str = "text") -> str:
    """Return the one line in which reading a source fails."""
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(CorpusSource(path, column=column).documents())
    (line,) = str(caught.value).splitlines()
    assert line.startswith(str(path))
    return line


@pytest.mark.parametrize("fault", TEXT)
def test_a_fault_in_text_is_named_by_file_and_line(tmp_path, fault):
    content, expected = TEXT[fault]
    assert expected in told_of(tmp_path / "a.txt", content)
    for suffix, pack in PACK.items():
        packed = told_of(tmp_path / f"a.txt{suffix}", pack(content))
        assert expected.replace("a.txt", f"a.txt{suffix}") in packed


@pytest.mark.parametrize("fault", JSONL)
def test_a_fault_in_jsonl_is_named_by_file_and_line(tmp_path, fault):
    content, expected = JSONL[fault]
    assert expected in told_of(tmp_path / "a.jsonl", content)
    for suffix, pack in PACK.items():
        packed = told_of(tmp_path / f"a.jsonl{suffix}", pack(content))
        assert expected.replace("a.jsonl", f"a.jsonl{suffix}") in packed


@pytest.mark.parametrize("suffix", PACK)
def test_an_archive_torn_at_any_byte_is_refused(tmp_path, suffix):
    whole = PACK[suffix](b"good film\n" * 3)
    path = tmp_path / f"a.txt{suffix}"
    for end in range(2, len(whole)):  # of one byte nobody knows what it was
        line = told_of(path, whole[:end])
        assert "the archive is torn: it ends before its end" in line
        assert f"a.txt{suffix}, line " in line
    assert "the file is empty" in told_of(path, b"")


@pytest.mark.parametrize("suffix", PACK)
def test_a_file_that_is_no_archive_is_told(tmp_path, suffix):
    line = told_of(tmp_path / f"a.txt{suffix}", b"plain text, long enough to be no header at all\n")
    assert "line 1: the archive is damaged, or not of the kind that its name says" in line


def test_a_torn_archive_of_many_lines_is_named_by_the_line(tmp_path):
    content = "".join(f"{os.urandom(20).hex()}\n" for _ in range(20_000)).encode()
    for suffix, pack in PACK.items():
        packed = pack(content)
        line = told_of(tmp_path / f"a.txt{suffix}", packed[: len(packed) * 9 // 10])
        number = int(line.split("line ")[1].split(":")[0].replace(",", ""))
        assert 10_000 < number <= 20_000


def test_faults_of_parquet_are_told(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"txt": ["a"], "n": [1]}), path)
    assert "there is no column 'text' (the columns are: txt, n)" in told_of(path)
    assert f"{path}, row 1, field 'n': 1 is not a string" in told_of(path, column="n")
    assert "not a whole Parquet file" in told_of(path, path.read_bytes()[:-1])
    parquet.write_table(pyarrow.table({"text": pyarrow.array([], pyarrow.string())}), path)
    assert "there are no rows" in told_of(path)
    parquet.write_table(pyarrow.Table.from_arrays([["a"], ["b"]], names=["text", "text"]), path)
    assert "the column 'text' stands twice" in told_of(path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.csv", "no documents can be read from files that end in .csv"),
        ("a.parquet.gz", "no documents can be read from files that end in .parquet.gz"),
        ("a.gz", "no documents can be read from files that end in .gz"),
        ("a", "the name of a file of documents ends in its format"),
    ],
)
def test_names_of_other_formats_are_refused_with_those_that_are_read(tmp_path, name, expected):
    line = told_of(tmp_path / name, b"x")
    assert expected in line
    assert "allowed: .txt, .text, .jsonl, .parquet, text and JSONL also with .gz, .xz, .zst" in line


def test_what_is_no_file_is_told(tmp_path):
    assert "this is a folder, not a file of documents" in told_of(tmp_path)
    write_text(tmp_path / "wiki.txt", ["good"])
    assert f"did you mean {tmp_path / 'wiki.txt'}?" in told_of(tmp_path / "wike.txt")


def test_missing_packages_are_named_with_their_line(tmp_path, monkeypatch):
    for name, package, extra in [
        ("a.txt.zst", "zstandard", "corpus"),
        ("a.parquet", "pyarrow", "parquet"),
    ]:
        (tmp_path / name).write_bytes(b"x")
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingExtraError, match=rf"pip install 'potstill\[{extra}\]'"):
            list(CorpusSource(tmp_path / name).documents())


def test_a_fault_in_the_second_file_keeps_the_shards_of_the_first(tmp_path):
    one = write_text(tmp_path / "a.txt", sentences(30))
    two = tmp_path / "b.txt"
    two.write_bytes(b"good\nb\xe9\n")
    with pytest.raises(DataError, match=r"b\.txt, line 2: byte 2"):
        built(tmp_path / "corpus", one, two, shard_tokens=100, block_documents=4)
    assert len(list((tmp_path / "corpus").glob("ids-*"))) > 3
    with pytest.raises(DataError, match="the corpus is not finished"):
        open_corpus(tmp_path / "corpus")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 1}', b'{"schema": 2}', b"\xff"])
def test_a_manifest_that_cannot_be_read_is_refused(tmp_path, content):
    source = write_text(tmp_path / "a.txt", sentences(3))
    folder = built(tmp_path / "corpus", source).folder
    (folder / "manifest.json").write_bytes(content)
    for ask in (lambda: open_corpus(folder), lambda: built(folder, source)):
        with pytest.raises(DataError) as caught:
            ask()
        (line,) = str(caught.value).splitlines()
        assert line.startswith(str(folder / "manifest.json"))
    assert (folder / "manifest.json").read_bytes() == content


WRONG = {
    "documents": ("shards", 0, "tally", "documents"),
    "tokens": ("shards", 0, "tally", "tokens"),
    "source": ("shards", 0, "source"),
    "ids_sha256": ("shards", 0, "ids_sha256"),
    "vocabulary_size": ("wording", "vocabulary_size"),
    "unknown_share": ("wording", "unknown_share"),
    "column": ("wording", "column"),
    "size_bytes": ("sources", 0, "size_bytes"),
    "name": ("sources", 0, "name"),
    "empty": ("tail", "empty"),
    "is_finished": ("is_finished",),
    "seconds": ("seconds",),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("value", ["x", None, [], -1, 1.5, True, {}], ids=repr)
def test_a_value_of_another_type_in_a_manifest_is_told_by_its_name(tmp_path, name, value):
    folder = built(tmp_path / "corpus", write_text(tmp_path / "a.txt", sentences(3))).folder
    content = json.loads((folder / "manifest.json").read_bytes())
    *above, last = WRONG[name]
    place = content
    for step in above:
        place = place[step]
    right = {"unknown_share": 1.5, "seconds": 1.5, "is_finished": True}
    right |= dict.fromkeys(("ids_sha256", "column", "name"), "x")
    if name in right and repr(value) == repr(right[name]):
        return
    place[last] = value
    (folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(DataError) as caught:
        open_corpus(folder)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(str(folder / "manifest.json"))
    assert f"this is no manifest of a corpus: {name} is " in line
    assert "build the corpus again in another folder" in line


def test_a_finished_corpus_without_a_shard_is_none(tmp_path):
    folder = built(tmp_path / "corpus", write_text(tmp_path / "a.txt", sentences(3))).folder
    content = json.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_text(json.dumps(content | {"shards": []}))
    with pytest.raises(DataError, match="a finished corpus has a shard"):
        open_corpus(folder)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_whatever_byte_of_a_shard_is_changed_it_is_told_in_one_line(damaged_corpus, data):
    folder, whole = damaged_corpus
    name = data.draw(st.sampled_from([name for name in whole if name != "manifest.json"]))
    content = bytearray(whole[name])
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match="the corpus is damaged") as caught:
        open_corpus(folder).require_whole()
    (folder / name).write_bytes(whole[name])
    (line,) = str(caught.value).splitlines()
    assert line.startswith(str(folder / name))


@pytest.fixture(scope="module")
def damaged_corpus(tmp_path_factory) -> tuple[Path, dict[str, bytes]]:
    """Return the folder of a corpus of several shards, and all its files."""
    folder = tmp_path_factory.mktemp("damaged")
    source = write_text(folder / "a.txt", sentences(20))
    built(folder / "corpus", source, shard_tokens=200)
    files = {path.name: path.read_bytes() for path in (folder / "corpus").iterdir()}
    return folder / "corpus", files


def test_a_folder_without_a_corpus_is_told(tmp_path):
    with pytest.raises(DataError, match="this is no folder of a corpus"):
        open_corpus(tmp_path)


@pytest.mark.parametrize("left_bytes", [0, 4 * 2**10])
def test_a_full_disk_keeps_what_is_whole_and_the_same_call_goes_on(
    disk: Disk, tmp_path_factory, left_bytes
):
    outside = tmp_path_factory.mktemp("sources")
    source = write_text(outside / "a.txt", sentences(400))
    whole = built(outside / "whole", source, shard_tokens=3_000)
    folder = disk.path / "corpus"
    assert len(whole.shards) == 4
    with disk.filled(left_bytes=left_bytes), pytest.raises(StorageError) as caught:
        built(folder, source, shard_tokens=3_000, block_documents=50)
    assert "free some space and run the same command again" in str(caught.value)
    assert [name for name in tree_of(folder) if "potstill-part" in name] == []
    assert bytes_of(built(folder, source, shard_tokens=3_000).folder) == bytes_of(whole.folder)


BUILDING = """
import sys
from pathlib import Path
from tests.corpora import built
folder, source = map(Path, sys.argv[1:])
print("begun", flush=True)
built(folder, source, shard_tokens=2_000, block_documents=8)
"""


def test_a_building_that_is_killed_goes_on_to_the_same_bytes(tmp_path):
    source = write_text(tmp_path / "a.txt", sentences(4_000))
    whole = built(tmp_path / "whole", source, shard_tokens=2_000)
    folder = tmp_path / "corpus"
    for shards in (1, 4, 9):
        child = subprocess.Popen(
            [sys.executable, "-c", BUILDING, folder, source],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
        )
        deadline = time.monotonic() + 60
        while len(list(folder.glob("keys-*.npy"))) < shards and time.monotonic() < deadline:
            time.sleep(0.002)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        assert child.returncode == -signal.SIGKILL, "it was done before it was killed"
    standing = {path.name: path.stat().st_mtime_ns for path in folder.glob("ids-0000[0-7].bin")}
    again = build_corpus([source], folder, tiny_tokenizer(), CorpusSettings(shard_tokens=2_000))
    assert bytes_of(again.folder) == bytes_of(whole.folder)
    assert standing == {name: (folder / name).stat().st_mtime_ns for name in standing}
    assert len(standing) == 8
