"""Documents of a corpus: the same from every format, from any place on, nothing lost."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data.corpus_files import CorpusSource, Document

zstandard = pytest.importorskip("zstandard", reason="pip install 'potstill[corpus]'")
pyarrow = pytest.importorskip("pyarrow", reason="pip install 'potstill[parquet]'")
parquet = pytest.importorskip("pyarrow.parquet", reason="pip install 'potstill[parquet]'")

PACK = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.compress}
# what a line can hold; blanks alone are told as the empty text
any_text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0"), max_size=20
)
lines = st.lists(any_text, min_size=1, max_size=12)


def read(path: Path, *, after: int = 0, column: str = "text") -> list[Document]:
    return list(CorpusSource(path, column=column).documents(after=after))


def seen(text: str) -> str:
    """Return a text as a line gives it: bytes.isspace knows the blanks of ASCII alone."""
    return "" if text.encode().isspace() else text


@pytest.mark.parametrize("suffix", PACK)
@given(lines, st.integers(0, 12))
def test_lines_come_out_as_they_went_in(tmp_path_factory, suffix, texts, after):
    path = tmp_path_factory.getbasetemp() / f"corpus.txt{suffix}"
    path.write_bytes(PACK[suffix]("".join(f"{text}\n" for text in texts).encode()))
    texts[0] = texts[0].lstrip("\ufeff")  # a mark at the start of a file is no text
    expected = [Document(place, seen(text)) for place, text in enumerate(texts, start=1)]
    assert read(path, after=after) == expected[after:]


@pytest.mark.parametrize("suffix", PACK)
@given(st.lists(st.none() | any_text, min_size=1, max_size=12), st.integers(0, 12))
def test_rows_of_jsonl_come_out_as_they_went_in(tmp_path_factory, suffix, texts, after):
    path = tmp_path_factory.getbasetemp() / f"corpus.jsonl{suffix}"
    content = "".join(json.dumps({"n": 1, "text": text}) + "\n" for text in texts)
    path.write_bytes(PACK[suffix](content.encode()))
    expected = [Document(place, text or "") for place, text in enumerate(texts, start=1)]
    assert read(path, after=after) == expected[after:]


@given(st.lists(st.none() | any_text, min_size=1, max_size=12), st.integers(0, 12))
def test_rows_of_parquet_come_out_as_they_went_in(tmp_path_factory, texts, after):
    path = tmp_path_factory.getbasetemp() / "corpus.parquet"
    table = pyarrow.table({"n": [1] * len(texts), "text": pyarrow.array(texts, pyarrow.string())})
    parquet.write_table(table, path, row_group_size=5)
    expected = [Document(place, text or "") for place, text in enumerate(texts, start=1)]
    assert read(path, after=after) == expected[after:]


def test_line_ends_of_windows_are_no_part_of_a_text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("a\r\n\r\n b\u2028\r\nc".encode())
    assert read(path) == [(1, "a"), (2, ""), (3, " b\u2028"), (4, "c")]


def test_blank_lines_of_jsonl_keep_their_numbers(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a"}\n \n{"text": "b"}')
    assert read(path) == [(1, "a"), (2, ""), (3, "b")]


def test_frames_of_zstd_laid_end_to_end_are_one_file(tmp_path):
    path = tmp_path / "a.txt.zst"
    path.write_bytes(
        zstandard.compress(b"a\nb") + zstandard.compress(b"") + zstandard.compress(b"c")
    )
    assert read(path) == [(1, "a"), (2, "bc")]


def test_archives_longer_than_a_stretch_are_read_whole(tmp_path):
    texts = [f"{number} {'x' * (number % 97)}" for number in range(20_000)]
    for suffix, pack in PACK.items():
        path = tmp_path / f"a.txt{suffix}"
        path.write_bytes(pack("\n".join(texts).encode()))
        assert [document.text for document in read(path)] == texts


@pytest.mark.parametrize("suffix", PACK)
def test_at_the_end_all_bytes_are_read(tmp_path, suffix):
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(PACK[suffix](b"one\ntwo\n"))
    source = CorpusSource(path)
    assert source.bytes_read == 0
    assert len(list(source.documents())) == 2
    assert source.bytes_read == source.size_bytes == path.stat().st_size


def test_another_column_can_be_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"body": "a", "text": "b"}\n')
    assert read(path, column="body") == [(1, "a")]


def test_a_source_is_named_without_its_folder(tmp_path):
    assert CorpusSource(tmp_path / "a.txt.xz").name == "a.txt.xz"
    assert CorpusSource("hub:owner/set:train").name == "hub:owner/set:train"
    assert CorpusSource(tmp_path / "A.TXT.XZ").kind == "text"
