"""Vectors judged by what they find: own index, another's, forms and cuts, BM25 beside them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from potstill.bundle.manifest import Manifest, read_manifest
from potstill.bundle.sentence_transformers import VectorRecipe
from potstill.bundle.write import BundleContent, write_bundle
from potstill.data.retrieval import read_retrieval
from potstill.models import TaskModel
from potstill.models.loading import tensors_of
from potstill.text.tokenizer_files import load_tokenizer
from potstill.workflows.retrieval import StoredAs, search_all
from potstill.workflows.suite import SuiteOptions, run_suite
from potstill.workflows.suite_table import suite_table
from tests.command_line import said
from tests.task_data import measure_here
from tests.tiny import WORDS, tiny_config, write_tiny_tokenizer

DOCUMENTS = [f"word{place} the film word{place + 1} was {WORDS[8 + place]}" for place in range(40)]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("retrieval")
    write_vectors_model(folder / "teacher", layers=2)
    found = folder / "set"
    found.mkdir()
    lines(found / "corpus.jsonl", [{"id": str(i), "text": t} for i, t in enumerate(DOCUMENTS)])
    queries = [{"id": f"q{i}", "text": f"word{i} word{i + 1}"} for i in range(0, 40, 2)]
    lines(found / "queries.jsonl", queries)
    judged = "".join(f"q{i}\t{i}\t1\n" for i in range(0, 40, 2))
    (found / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    lines(folder / "texts.jsonl", [{"text": text} for text in DOCUMENTS])
    rng = np.random.default_rng(0)
    many = [{"text": " ".join(rng.choice(WORDS[5:], 8))} for _ in range(300)]
    lines(folder / "many.jsonl", many)
    return folder


def write_vectors_model(folder: Path, *, layers: int) -> None:
    model = TaskModel(tiny_config(layers=layers, pooler=False, initializer_range=0.3))
    model.initialize(seed=5)
    words = folder.with_name(folder.name + "-words")
    write_tiny_tokenizer(words)
    content = BundleContent(
        config=model.config,
        head=model.spec,
        tensors=tensors_of(model),
        tokenizer=load_tokenizer(words, family="bert"),
        vectors=VectorRecipe(pooling="mean", normalize=True),
        manifest=Manifest(task="embedding"),
    )
    write_bundle(folder, content)


def lines(file: Path, rows: list[dict[str, str]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_answer_tells_all_metrics_beside_bm25(
    capsys: pytest.CaptureFixture[str], ground: Path
) -> None:
    told = said(capsys, "evaluate", ground / "teacher", "--test", ground / "set", "--json").answer
    assert told["examples"] == 20
    assert list(told["metrics"]) == ["ndcg@10", "recall@100", "mrr@10", "map"]
    assert told["primary"] == "ndcg@10"
    assert told["majority"]["label"] == "BM25"
    assert told["majority"]["metrics"]["ndcg@10"] > 0.8
    assert told["metrics"]["recall@100"]["value"] == 1.0  # 40 documents in all


def test_the_same_model_over_its_own_index_is_the_same_twice(
    capsys: pytest.CaptureFixture[str], ground: Path
) -> None:
    words = ["evaluate", ground / "teacher", "--test", ground / "set", "--json"]
    own = said(capsys, *words).answer["metrics"]
    assert said(capsys, *words, "--index", ground / "teacher").answer["metrics"] == own
    cut = said(capsys, *words, "--dimensions", 8, "--form", "binary").answer["metrics"]
    assert cut["ndcg@10"]["value"] != own["ndcg@10"]["value"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--form", "int3"], "form is 'int3'"),
        (["--primary", "accuracy"], "primary is 'accuracy'"),
        (["--dimensions", "900"], "dimensions"),
    ],
)
def test_wrong_settings_are_told_in_one_line(
    capsys: pytest.CaptureFixture[str], ground: Path, words: list[str], complaint: str
) -> None:
    told = said(capsys, "evaluate", ground / "teacher", "--test", ground / "set", *words)
    assert told.status == 2
    assert complaint in told.err


def test_a_suite_judges_one_student_on_several_sets(ground: Path, tmp_path: Path) -> None:
    suite = tmp_path / "suite.toml"
    common = """
task = "embedding"
unlabelled = ["many.jsonl", "texts.jsonl"]
student = { layers = 1, epochs = 40, learning_rates = "3e-3", precision = "fp32" }
"""
    suite.write_text(
        f'name = "vectors"\npretrained = "{ground / "teacher"}"\n'
        f'[[task]]\nname = "own"\ntest = "set"\n{common}'
        '[[task]]\nname = "asymmetric"\ntest = "set"\nindex = "teacher"\ngrades = "binary"\n'
        f"{common}"
    )
    options = SuiteOptions(out=tmp_path / "runs", data=ground, threads=1)
    cells = run_suite(suite, options)
    assert [cell.kind for cell in cells] == ["teacher", "student", "control"] * 2
    bundles = [path for path in (tmp_path / "runs" / "bundles").iterdir() if path.is_dir()]
    assert len(bundles) == 2  # one student and its untaught cut serve both sets
    table = suite_table(suite, options)
    by_name = {row.task: row for row in table.rows}
    assert by_name["own"].teacher == by_name["asymmetric"].teacher
    assert by_name["asymmetric"].student > by_name["asymmetric"].control
    assert by_name["own"].trivial_word == "BM25"
    assert cells[1].report["vectors"]["own_text_found"] >= 0.5


@pytest.mark.parametrize(
    "words", [["--form", "int8"], ["--dimensions", "8"], ["--index", "teacher"]]
)
def test_what_changes_nothing_for_pairs_is_refused(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path, words: list[str]
) -> None:
    pairs = [
        {"text": f"word{n}", "text_pair": f"word{n} film", "label": str(n % 3)} for n in range(9)
    ]
    lines(tmp_path / "pairs.jsonl", pairs)
    asked = ["evaluate", ground / "teacher", "--test", tmp_path / "pairs.jsonl"]
    assert said(capsys, *asked).status == 0
    told = said(capsys, *asked, *words)
    assert told.status == 2
    assert told.complaint.startswith(f"{words[0]}: ")
    assert "is no retrieval set" in told.complaint


def test_the_lengths_of_vectors_change_no_ranking(ground: Path) -> None:
    """Students are aligned by cosines; a folder may leave its vectors unnormed."""
    retrieval = read_retrieval(ground / "set")
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(20, 8)).astype(np.float32)
    documents = rng.normal(size=(40, 8)).astype(np.float32)
    longer = documents * rng.uniform(1, 9, size=(40, 1)).astype(np.float32)
    ranked = [
        search_all(retrieval, queries, each, StoredAs()).ranked for each in (documents, longer)
    ]
    assert ranked[0] == ranked[1]


def test_texts_of_both_files_are_learned_from(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    files = ["--train", ground / "texts.jsonl", "--unlabelled", ground / "many.jsonl"]
    how = ["--layers", 2, "--epochs", "0.1", "--out", tmp_path / "out", "--threads", 1]
    told = said(capsys, "distill", "--teacher", ground / "teacher", *files, *how, "--json")
    assert told.status == 0, told.err
    lineage = read_manifest(tmp_path / "out").lineage
    assert lineage["unlabelled_rows"] + lineage["dev_rows"] == 340
    assert lineage["unlabelled"] == "texts.jsonl and many.jsonl"


def test_shrinking_a_model_of_vectors_keeps_its_untaught_cut_as_the_control(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    ground: Path,
    tmp_path: Path,
) -> None:
    measure_here(monkeypatch)
    pairs = [
        {"text": f"word{n} the", "text_pair": f"word{n + n % 3} film", "label": str(n % 3)}
        for n in range(30)
    ]
    lines(tmp_path / "pairs.jsonl", pairs)
    rows = ["--train", ground / "many.jsonl", "--test", tmp_path / "pairs.jsonl"]
    words = ["shrink", "--teacher", ground / "teacher", "--task", "embedding", *rows, "--control"]
    cut = ["--layers", 1, "--choose", "even", "--set", "learning_rates=3e-3", "--threads", 1]
    few = ["--set", "dev_share=0.05"]  # too few to tell a collapse
    told = said(capsys, *words, *cut, "--epochs", 2, *few, "--out", tmp_path / "out", "--json")
    assert told.status == 0, told.err
    assert "keep the student as it was before its first step, as the control" in told.err
    assert "SentenceTransformer" in (tmp_path / "out" / "README.md").read_text()
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [model["name"] for model in report["models"]] == ["teacher", "student", "control"]
    assert report["distillation"]["control"]["control"] == "cut"
    assert (tmp_path / "out-control" / "modules.json").is_file()
