"""Files of vectors: what was written comes back, other libraries read it, and half a file never."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from potstill.errors import DataError, MissingExtraError, OutputError, StorageError
from potstill.search import stored_vectors
from potstill.search.stored_vectors import VectorHead, read_vectors, vector_file, write_vectors
from potstill.search.vector_forms import FORMS, Form, as_stored, to_bits

SUFFIXES = (".npy", ".safetensors", ".parquet")
PLACES = [
    (suffix, form) for suffix in SUFFIXES for form in FORMS if (suffix, form) != (".npy", "int8")
]
FINGERPRINT = "sha256:" + "0" * 64


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(("suffix", "form"), PLACES)
def test_what_is_read_is_what_the_form_keeps(tmp_path: Path, suffix: str, form: Form) -> None:
    file, vectors = tmp_path / f"v{suffix}", normal(11, 24)
    write_vectors(file, vectors, form=form)
    found = read_vectors(file)
    assert found.vectors_KD.dtype == np.float32
    np.testing.assert_array_equal(found.vectors_KD, as_stored(vectors, form))
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_every_place_but_one_is_tried() -> None:
    assert len(PLACES) == 11


@pytest.mark.parametrize(("suffix", "form"), PLACES)
def test_written_some_at_a_time_the_file_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, form: Form
) -> None:
    whole, parts, vectors = tmp_path / f"w{suffix}", tmp_path / f"p{suffix}", normal(11, 24)
    write_vectors(whole, vectors, form=form)
    monkeypatch.setattr(stored_vectors, "_ROWS_AT_ONCE", 4)
    write_vectors(parts, vectors, form=form)
    one, other = read_vectors(whole), read_vectors(parts)
    np.testing.assert_array_equal(one.vectors_KD, other.vectors_KD)
    if suffix != ".parquet":  # whose parts are row groups
        assert whole.read_bytes() == parts.read_bytes()


@pytest.mark.parametrize("form", ["float32", "float16", "binary"])
def test_npy_has_the_bytes_of_numpys_own_save(tmp_path: Path, form: Form) -> None:
    vectors = normal(5, 16)
    write_vectors(tmp_path / "ours.npy", vectors, form=form)
    stored = {
        "float32": vectors,
        "float16": vectors.astype(np.float16),
        "binary": to_bits(vectors),
    }[form]
    np.save(tmp_path / "theirs.npy", stored)
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "theirs.npy").read_bytes()


def test_floats_in_npy_are_mapped_not_read(tmp_path: Path) -> None:
    write_vectors(tmp_path / "v.npy", normal(5, 16))
    assert isinstance(read_vectors(tmp_path / "v.npy").vectors_KD, np.memmap)


@pytest.mark.parametrize("form", FORMS)
def test_the_library_of_safetensors_reads_ours(tmp_path: Path, form: Form) -> None:
    file, vectors = tmp_path / "v.safetensors", normal(5, 16)
    write_vectors(file, vectors, form=form, fingerprint=FINGERPRINT)
    tensors = load_file(file)
    expected = {"embeddings", *(("lowest", "step") if form == "int8" else ())}
    assert tensors.keys() == expected
    assert tensors["embeddings"].shape == (5, 2 if form == "binary" else 16)
    with safe_open(file, framework="np") as opened:
        told = opened.metadata()
    assert told == {"form": form, "dimensions": "16", "fingerprint": FINGERPRINT}


def test_pandas_reads_our_parquet(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    vectors = normal(3, 16)
    write_vectors(tmp_path / "v.parquet", vectors, ids=["a", "b", "c"])
    table = pandas.read_parquet(tmp_path / "v.parquet")
    assert list(table.columns) == ["id", "embedding"]
    assert list(table["id"]) == ["a", "b", "c"]
    np.testing.assert_array_equal(np.stack(table["embedding"]), vectors)


def test_ids_and_fingerprint_come_back_where_the_file_has_room(tmp_path: Path) -> None:
    ids = ("b", "a", "ü 😀")
    for suffix in SUFFIXES:
        write_vectors(tmp_path / f"v{suffix}", normal(3, 8), ids=ids, fingerprint=FINGERPRINT)
    npy, tensors, table = (read_vectors(tmp_path / f"v{suffix}") for suffix in SUFFIXES)
    assert (npy.ids, tensors.ids, table.ids) == (None, None, ids)
    assert (npy.fingerprint, tensors.fingerprint, table.fingerprint) == (
        None,
        FINGERPRINT,
        FINGERPRINT,
    )


def test_without_ids_rows_are_named_by_their_number(tmp_path: Path) -> None:
    write_vectors(tmp_path / "v.parquet", normal(3, 8))
    assert read_vectors(tmp_path / "v.parquet").ids == ("0", "1", "2")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_interrupted_writer_leaves_what_stood_there(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"v{suffix}"
    file.write_bytes(b"old")
    head = VectorHead(rows=4, dimensions=8)

    def write_half() -> None:
        with vector_file(file, head) as append:
            append(normal(2, 8))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    assert file.read_bytes() == b"old"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_is_told_and_leaves_what_stood_there(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"v{suffix}"
    file.write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, before[1]))
    try:
        with pytest.raises(StorageError, match="free some space"):
            write_vectors(file, normal(200, 64))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    assert file.read_bytes() == b"old"


def test_int8_finds_no_room_in_npy(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"allowed: \.safetensors, .* name it v\.safetensors"):
        write_vectors(tmp_path / "v.npy", normal(3, 8), form="int8")


def test_parquet_without_its_library_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_vectors(tmp_path / "v.parquet", normal(3, 8))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for attempt in (
        lambda: write_vectors(tmp_path / "new.parquet", normal(3, 8)),
        lambda: read_vectors(tmp_path / "v.parquet"),
    ):
        with pytest.raises(MissingExtraError, match=r"pip install 'potstill\[parquet\]'"):
            attempt()
    assert [path.name for path in tmp_path.iterdir()] == ["v.parquet"]


def test_as_many_ids_as_vectors_are_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 ids for 3 vectors"):
        write_vectors(tmp_path / "v.parquet", normal(3, 8), ids=["a", "b"])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kept", [0, 5, 0.5, 0.98])
def test_a_file_cut_short_is_told(tmp_path: Path, suffix: str, kept: float) -> None:
    file = tmp_path / f"v{suffix}"
    write_vectors(file, normal(50, 32))
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content)) if kept < 1 else int(kept)])
    with pytest.raises(DataError) as caught:
        read_vectors(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".txt"])
def test_a_file_that_is_not_there_or_of_no_kind_is_told(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(DataError, match=r"no such file|unknown kind of file '\.txt'"):
        read_vectors(tmp_path / f"v{suffix}")


def test_floats_of_others_are_read(tmp_path: Path) -> None:
    doubles = normal(4, 6).astype(np.float64)
    np.save(tmp_path / "v.npy", np.asfortranarray(doubles))
    save_file({"embeddings": doubles}, tmp_path / "v.safetensors")
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"embedding": doubles.tolist()}), tmp_path / "v.parquet")
    for suffix in SUFFIXES:
        found = read_vectors(tmp_path / f"v{suffix}")
        np.testing.assert_array_equal(found.vectors_KD, doubles.astype(np.float32))
        assert found.ids is None


@pytest.mark.parametrize(
    ("array", "complaint"),
    [
        (np.zeros(4, dtype=np.float32), r"an array of shape \(4,\); allowed: one vector a row"),
        (np.zeros((4, 0), dtype=np.float32), r"an array of shape \(4, 0\)"),
        (np.zeros((4, 8), dtype=np.int64), "vectors of int64; allowed: float16"),
        (np.zeros((4, 8), dtype=np.int8), "int8 without the ranges.* --form int8"),
        (np.zeros((4, 8), dtype="<U3"), "vectors of <U3"),
    ],
)
def test_arrays_that_are_no_vectors_are_told(
    tmp_path: Path, array: NDArray, complaint: str
) -> None:
    np.save(tmp_path / "v.npy", array)
    with pytest.raises(DataError, match=complaint):
        read_vectors(tmp_path / "v.npy")


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.array([[{}]], dtype=object))
    with pytest.raises(DataError, match=r"not a whole \.npy file of numbers"):
        read_vectors(tmp_path / "v.npy")


def test_ranges_of_other_dimensions_are_told(tmp_path: Path) -> None:
    codes, ends = np.zeros((4, 8), dtype=np.int8), np.zeros(7, dtype=np.float32)
    save_file({"embeddings": codes, "lowest": ends, "step": ends}, tmp_path / "v.safetensors")
    with pytest.raises(DataError, match="int8 without the ranges of its dimensions"):
        read_vectors(tmp_path / "v.safetensors")


def test_tensors_of_other_names_are_listed(tmp_path: Path) -> None:
    save_file({"b": np.zeros(1), "a": np.zeros(1)}, tmp_path / "v.safetensors")
    with pytest.raises(DataError, match=r"no tensor 'embeddings' \(the tensors are: a, b\)"):
        read_vectors(tmp_path / "v.safetensors")


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"vector": [[1.0]]}, "no column 'embedding' .the columns are: vector."),
        ({"embedding": [[1.0], [1.0, 2.0]]}, "does not hold lists of one length"),
        ({"embedding": [[1.0], None]}, "does not hold lists of one length"),
        ({"embedding": [[], []]}, "does not hold lists of one length"),
        ({"embedding": [1.0, 2.0]}, "does not hold lists of one length"),
        ({"embedding": [["a"]]}, "vectors of object"),
    ],
)
def test_tables_that_are_no_vectors_are_told(
    tmp_path: Path, columns: dict[str, list[object]], complaint: str
) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), tmp_path / "v.parquet")
    with pytest.raises(DataError, match=complaint):
        read_vectors(tmp_path / "v.parquet")


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_no_vectors_are_vectors_too(tmp_path: Path, suffix: str) -> None:
    write_vectors(tmp_path / f"v{suffix}", normal(0, 8))
    assert read_vectors(tmp_path / f"v{suffix}").vectors_KD.shape == (0, 8)


def test_search_needs_no_torch() -> None:
    names = ("exact", "lexical", "stored_vectors", "vector_forms")
    imports = "; ".join(f"import potstill.search.{name}" for name in names)
    code = f"import sys; {imports}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
