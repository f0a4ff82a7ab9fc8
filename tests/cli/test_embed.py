"""`potstill embed`: a file of rows to a file of vectors."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import potstill
from potstill.cli import embed_verb
from potstill.search.stored_vectors import read_vectors
from potstill.search.vector_forms import FORMS, as_stored, cut
from potstill.workflows import embed as workflow
from tests.command_line import said, said_apart, tree_of, write_jsonl, write_rows
from tests.folders import write_tiny_model

PLAIN = ("--precision", "fp32", "--threads", "1")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("embed") / "model")


@pytest.fixture
def words(model: Path, tmp_path: Path) -> list[object]:
    """Return a command that embeds seven rows."""
    rows = write_rows(tmp_path / "rows.jsonl", count=7)
    return ["embed", model, "--input", rows, "--output", tmp_path / "vectors.npy", *PLAIN]


def test_the_file_holds_the_vectors_of_the_library(
    capsys: pytest.CaptureFixture[str], model: Path, words: list[object], tmp_path: Path
) -> None:
    answer = said(capsys, *words, "--json").answer
    assert answer == {
        "output": str(tmp_path / "vectors.npy"),
        "rows": 7,
        "width": 32,
        "dimensions": 32,
        "form": "float32",
        "truncated": 0,
        "engine": "openvino",
        "precision": "fp32",
        "engine_reason": "the first that is installed",
        "warnings": [],
    }
    lines = (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    vectors = np.load(tmp_path / "vectors.npy", allow_pickle=False)
    assert vectors.dtype == np.float32
    expected = potstill.load(model, precision="fp32").embed(texts)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_a_pipe_gets_plain_lines(capsys: pytest.CaptureFixture[str], words: list[object]) -> None:
    told = said(capsys, *words)
    assert told.pairs["rows"] == "7"
    assert told.pairs["width"] == "32"
    assert told.err == ""


def test_in_a_process_of_its_own_it_writes_the_same_bytes(
    capsys: pytest.CaptureFixture[str], words: list[object], tmp_path: Path
) -> None:
    here = said(capsys, *words, "--json").answer
    written = (tmp_path / "vectors.npy").read_bytes()
    (tmp_path / "vectors.npy").unlink()
    apart = said_apart(*words, "--json")
    assert apart.answer == here
    assert apart.err == ""
    assert (tmp_path / "vectors.npy").read_bytes() == written


def test_another_column_and_a_shorter_cut(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", {"body": "a film"}, {"body": "a very good film"})
    arguments = ["embed", model, "--input", rows, "--output", tmp_path / "v.npy", *PLAIN]
    more = ["--text-column", "body", "--max-length", "4", "--json"]
    answer = said(capsys, *arguments, *more).answer
    assert (answer["rows"], answer["truncated"]) == (2, 1)


def test_a_file_that_stood_there_is_replaced(
    capsys: pytest.CaptureFixture[str], words: list[object], tmp_path: Path
) -> None:
    (tmp_path / "vectors.npy").write_bytes(b"old")
    assert said(capsys, *words).status == 0
    assert np.load(tmp_path / "vectors.npy").shape == (7, 32)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "vectors.npy"]


@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".parquet"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_in_every_file_holds_the_vectors_cut_and_kept_as_asked(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    model: Path,
    words: list[object],
    tmp_path: Path,
    form: str,
    suffix: str,
) -> None:
    if (form, suffix) == ("int8", ".npy"):
        suffix = ".safetensors"  # .npy has no room for the ranges; that is another test
    monkeypatch.setattr(workflow, "_TEXTS_AT_ONCE", 3)
    words[words.index(tmp_path / "vectors.npy")] = output = tmp_path / f"v{suffix}"
    answer = said(capsys, *words, "--dimensions", "16", "--form", form, "--json").answer
    assert (answer["width"], answer["dimensions"], answer["form"]) == (32, 16, form)
    found = read_vectors(output)
    loaded = potstill.load(model, precision="fp32")
    expected = as_stored(cut(loaded.embed(texts_of(tmp_path / "rows.jsonl")), 16), form)
    np.testing.assert_allclose(found.vectors_KD, expected, atol=5e-3)
    assert found.fingerprint == (None if suffix == ".npy" else loaded.fingerprint)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", output.name]


def test_ranges_of_int8_are_those_of_all_rows_not_of_the_first(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[object],
    tmp_path: Path,
) -> None:
    words[words.index(tmp_path / "vectors.npy")] = output = tmp_path / "v.safetensors"
    assert said(capsys, *words, "--form", "int8").status == 0
    at_once, tensors = read_vectors(output).vectors_KD, load_file(output)
    monkeypatch.setattr(workflow, "_TEXTS_AT_ONCE", 2)
    assert said(capsys, *words, "--form", "int8").status == 0
    np.testing.assert_allclose(load_file(output)["lowest"], tensors["lowest"], atol=1e-6)
    step = tensors["step"].max()  # a value between two codes may go to either
    np.testing.assert_allclose(read_vectors(output).vectors_KD, at_once, atol=1.01 * step)


def test_rows_some_at_a_time_give_the_same_vectors_and_count(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[object],
    tmp_path: Path,
) -> None:
    words += ["--max-length", "8", "--json"]
    whole = said(capsys, *words).answer
    vectors = np.load(tmp_path / "vectors.npy")
    monkeypatch.setattr(workflow, "_TEXTS_AT_ONCE", 2)
    assert said(capsys, *words).answer == whole
    assert 0 < whole["truncated"] < 7
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), vectors, atol=1e-6)


def test_progress_is_told_on_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[object]
) -> None:
    monkeypatch.setattr(workflow, "_TEXTS_AT_ONCE", 3)
    monkeypatch.setattr(embed_verb, "_PIPE_EVERY_S", 0.0)
    told = said(capsys, *words, "--json")
    assert told.answer["rows"] == 7
    lines = [f"embedded {done} of 7 rows" for done in (3, 6, 7)]
    assert told.err.splitlines() == lines


def test_progress_renews_its_line_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[object]
) -> None:
    monkeypatch.setattr(workflow, "_TEXTS_AT_ONCE", 4)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    lines = said(capsys, *words, "--json").err.split("\r\033[2K")
    assert lines == ["", "embedded 4 of 7 rows", "embedded 7 of 7 rows\n"]


def test_parquet_keeps_the_ids_of_the_rows(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    named = [{"id": "x", "text": "a film"}, {"id": 7, "text": "a plot"}]
    rows = write_jsonl(tmp_path / "rows.jsonl", *named)
    output = tmp_path / "v.parquet"
    words = ["embed", model, "--input", rows, "--output", output, *PLAIN]
    assert said(capsys, *words).status == 0
    assert read_vectors(output).ids == ("x", "7")
    write_jsonl(rows, *named, {"text": "nameless"})
    told = said(capsys, *words)
    assert told.status == 2
    assert "rows.jsonl, line 3, field 'id': the value is missing" in told.complaint
    assert "name every row, or none" in told.complaint
    assert read_vectors(output).ids == ("x", "7")


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--form", "int4"], "form is 'int4'; allowed: float32, float16, int8, binary"),
        (["--form", "int8"], "vectors.npy: a .npy file has no room for the ranges"),
        (["--dimensions", "33"], "dimensions is 33; allowed: 1 to 32 for this model"),
        (["--form", "binary", "--dimensions", "20"], "to mend it: --dimensions 16"),
    ],
)
def test_what_cannot_be_stored_is_told_before_the_work(
    capsys: pytest.CaptureFixture[str],
    words: list[object],
    tmp_path: Path,
    more: list[str],
    complaint: str,
) -> None:
    told = said(capsys, *words, *more)
    assert told.status == 2
    assert complaint in told.complaint
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_parquet_without_its_library_is_told_before_the_work(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[object],
    tmp_path: Path,
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    words[words.index(tmp_path / "vectors.npy")] = tmp_path / "v.parquet"
    told = said(capsys, *words)
    assert told.status == 2
    assert "pip install 'potstill[parquet]'" in told.complaint


def test_the_rows_are_never_replaced(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    pandas = pytest.importorskip("pandas")
    file = tmp_path / "rows.parquet"
    pandas.DataFrame({"text": ["a film"]}).to_parquet(file)
    before = file.read_bytes()
    told = said(capsys, "embed", model, "--input", file, "--output", file, *PLAIN)
    assert told.status == 2
    assert "the vectors would replace the rows" in told.complaint
    assert file.read_bytes() == before


def test_the_weights_of_a_model_are_never_replaced(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", count=2)
    other = write_tiny_model(tmp_path / "other")
    (tmp_path / "link.safetensors").symlink_to(other / "model.safetensors")
    why = {
        model / "model.safetensors": "into the folder of the model",
        model / "vectors.npy": "into the folder of the model",
        other / "model.safetensors": "would replace the weights of a model",
        tmp_path / "link.safetensors": "would replace the weights of a model",
    }
    before = tree_of(model), tree_of(tmp_path)
    for output, reason in why.items():
        told = said(capsys, "embed", model, "--input", rows, "--output", output, *PLAIN)
        assert told.status == 2
        assert f"{output}: the vectors" in told.complaint
        assert reason in told.complaint
    assert (tree_of(model), tree_of(tmp_path)) == before


def test_a_vector_that_is_not_finite_is_never_stored(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[object],
    tmp_path: Path,
) -> None:
    from potstill.runtime.openvino_engine import OpenVinoEngine

    def broken(engine: OpenVinoEngine, batch: object, outputs: object) -> dict[str, np.ndarray]:
        vectors = np.zeros((len(batch.lengths), 32), dtype=np.float32)
        vectors[5:] = np.nan
        return {"vectors": vectors}

    monkeypatch.setattr(OpenVinoEngine, "run", broken)
    told = said(capsys, *words)
    assert told.status == 1
    assert "rows.jsonl, line 6: the model gives a vector that is not finite" in told.complaint
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def texts_of(file: Path) -> list[str]:
    return [json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines()]
