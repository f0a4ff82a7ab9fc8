"""The example of semantic search runs as its page says, and finds what it should."""

from __future__ import annotations

import importlib.util
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command_line import write_jsonl
from tests.conftest import REPOSITORY
from tests.folders import write_tiny_model

SCRIPT = REPOSITORY / "examples" / "semantic_search.py"
DOCUMENTS = [
    {"id": "d1", "title": "film", "text": "the good movie " + "word1 " * 20},
    {"id": "d2", "text": "awful boring plot"},
    {"id": "d3", "text": "very fun actor"},
]
Search = Callable[..., int]


@pytest.fixture(scope="module")
def search() -> Search:
    specification = importlib.util.spec_from_file_location("semantic_search", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    sys.modules["semantic_search"] = module
    specification.loader.exec_module(module)
    return lambda *words: module.main([str(word) for word in words])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("search") / "model")


@pytest.fixture
def words(model: Path, tmp_path: Path) -> list[object]:
    documents = write_jsonl(tmp_path / "corpus.jsonl", *DOCUMENTS)
    return ["--documents", documents, "--model", model]


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    captured = capsys.readouterr()
    assert captured.err == ""
    return [line.split("\t") for line in captured.out.splitlines()]


def test_a_document_is_its_own_best_answer(
    capsys: pytest.CaptureFixture[str], search: Search, words: list[object]
) -> None:
    text = "film " + DOCUMENTS[0]["text"]
    assert search(*words, "--top", 2, "very fun actor", text) == 0
    lines = lines_of(capsys)
    assert [line[0] for line in lines] == ["question 1", "1", "2", "question 2", "1", "2"]
    assert lines[1] == ["1", "1.0000", "d3", "very fun actor"]
    assert lines[4][:3] == ["1", "1.0000", "d1"]
    assert lines[4][3] == "film the good movie" + " word1" * 8 + " …"
    assert float(lines[2][1]) < 1


def test_queries_of_a_file_keep_their_ids_and_come_first(
    capsys: pytest.CaptureFixture[str], search: Search, words: list[object], tmp_path: Path
) -> None:
    queries = write_jsonl(tmp_path / "q.jsonl", {"id": "q7", "text": "awful plot"})
    assert search(*words, "--queries", queries, "--top", 9, "a film") == 0
    lines = lines_of(capsys)
    assert [line[0] for line in lines] == ["q7", "1", "2", "3", "question 1", "1", "2", "3"]


@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".parquet"])
def test_the_index_is_made_once_and_answers_the_same(
    capsys: pytest.CaptureFixture[str],
    search: Search,
    words: list[object],
    tmp_path: Path,
    suffix: str,
) -> None:
    index = tmp_path / f"index{suffix}"
    asked = [*words, "--index", index, "the film"]
    assert search(*asked) == 0
    made, content = lines_of(capsys), index.read_bytes()
    assert search(*asked) == 0
    assert lines_of(capsys) == made
    assert index.read_bytes() == content
    assert search(*words, "the film") == 0
    assert lines_of(capsys) == made


def test_an_index_of_another_model_or_of_other_documents_is_refused(
    capsys: pytest.CaptureFixture[str], search: Search, words: list[object], tmp_path: Path
) -> None:
    index = tmp_path / "index.parquet"
    assert search(*words, "--index", index, "the film") == 0
    capsys.readouterr()
    other = write_tiny_model(tmp_path / "other", "classification")
    assert search("--documents", words[1], "--model", other, "--index", index, "x") == 2
    assert "made by another model; to mend it: delete" in capsys.readouterr().err
    write_jsonl(tmp_path / "corpus.jsonl", *reversed(DOCUMENTS))
    assert search(*words, "--index", index, "the film") == 2
    assert "the index is of other documents" in capsys.readouterr().err
    write_jsonl(tmp_path / "corpus.jsonl", *DOCUMENTS[:2])
    assert search(*words, "--index", index, "the film") == 2
    assert "3 vectors for 2 documents" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_files_that_do_not_know_their_documents_are_compared_with_some(
    capsys: pytest.CaptureFixture[str],
    search: Search,
    words: list[object],
    tmp_path: Path,
    suffix: str,
) -> None:
    index = tmp_path / f"index{suffix}"
    assert search(*words, "--index", index, "the film") == 0
    capsys.readouterr()
    write_jsonl(tmp_path / "corpus.jsonl", *reversed(DOCUMENTS))
    assert search(*words, "--index", index, "the film") == 2
    assert "the index is of other documents" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ([], "there is no query"),
        (["--queries", "none.jsonl"], "none.jsonl: there is no such file"),
        (["--index", "no/index.npy", "x"], "no/index.npy: the folder of the output does not"),
        (["--index", "index.txt", "x"], "index.txt: unknown kind of file '.txt'"),
        (["--query-model", "no/model", "x"], "no/model"),
        (["--top", "0", "x"], "top is 0"),
    ],
)
def test_mistakes_are_told_in_one_line(
    capsys: pytest.CaptureFixture[str],
    search: Search,
    words: list[object],
    more: list[str],
    complaint: str,
) -> None:
    assert search(*words, *more) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("semantic_search: ")
    assert complaint in line
    assert captured.out == ""


def test_it_runs_as_a_script_with_a_model_for_queries(words: list[object], model: Path) -> None:
    command = [sys.executable, SCRIPT, *words, "--query-model", model, "very fun actor"]
    child = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, timeout=120
    )
    assert child.returncode == 0, child.stderr
    assert child.stdout.splitlines()[1] == "1\t1.0000\td3\tvery fun actor"


def test_a_real_model_finds_abstracts_by_their_titles(
    capsys: pytest.CaptureFixture[str],
    search: Search,
    minilm: Path,
    shared_data: Path,
    tmp_path: Path,
) -> None:
    """Each of fifty titles asks for its abstract. Measured: 37 find it first; by chance 1 would."""
    with (shared_data / "cranfield" / "corpus.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in itertools.islice(lines, 50)]
    documents = write_jsonl(
        tmp_path / "corpus.jsonl", *({"id": row["id"], "text": row["text"]} for row in rows)
    )
    queries = write_jsonl(
        tmp_path / "queries.jsonl", *({"id": row["id"], "text": row["title"]} for row in rows)
    )
    words = ["--documents", documents, "--model", minilm, "--queries", queries, "--top", 1]
    assert search(*words) == 0
    lines_found = lines_of(capsys)
    assert len(lines_found) == 100
    pairs = zip(lines_found[::2], lines_found[1::2], strict=True)
    assert sum(asked[0] == found[2] for asked, found in pairs) >= 33
