"""Every kind of task through the verbs: finetune, evaluate, distill, predict, info, compare."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import potstill
from potstill.errors import Stopped
from potstill.train.progress import Meter, Progress
from potstill.workflows.finetune import FinetuneRecipe, Inputs, finetune
from potstill.workflows.shrink import shrink
from potstill.workflows.shrink_recipe import Run, ShrinkInputs, shrink_recipe
from tests.cli.test_distill import TOLD
from tests.cli.test_finetune import CONTRACT
from tests.command_line import finetuning, said, said_apart, write_jsonl
from tests.distilling import distilling, write_encoder
from tests.task_data import (
    KINDS,
    KindOfRows,
    Row,
    asked,
    entity_row,
    likeness_row,
    measure_here,
    multi_label_row,
    number_row,
    question_row,
    rows_of,
    write_conll,
    write_squad,
    write_task_rows,
    write_vector_model,
)

PLAIN = ("--precision", "fp32", "--threads", "1")
LEARNS = (
    *("--epochs", "14", "--learning-rate", "1e-2", "--max-length", "32"),
    *("--set", "rows_per_step=16"),
)
TEACHES = ("--epochs", "5", "--set", "learning_rates=3e-3")
COMPARES = ("--rounds", "1", *PLAIN)
ROWS = {"train": (96, 0), "dev": (40, 1), "test": (60, 2)}
HAS_SEGMENTS = {"question-answering", "ranking", "pairs"}
GOOD_ENOUGH = 0.8  # of every metric on rows that were never seen; the trivial answers stay below


@dataclass(frozen=True)
class Made:
    """One kind of task after its verbs: models, rows, and what was told."""

    name: str
    kind: KindOfRows
    folder: Path
    tuned: dict[str, Any]
    distilled: dict[str, Any]

    def rows(self, part: str) -> Path:
        return self.folder / f"{part}{self.kind.suffix}"

    @property
    def teacher(self) -> Path:
        return self.folder / "teacher"

    @property
    def student(self) -> Path:
        return self.folder / "student"

    @property
    def control(self) -> Path:
        return self.folder / "student-control"

    @property
    def test_rows(self) -> list[Row]:
        count, seed = ROWS["test"]
        return rows_of(self.kind.make, count, seed)


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Return a teacher that was tuned and a student that was distilled from it, with a control."""
    kind = KINDS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    encoder = write_encoder(folder / "encoder")
    train, dev, _ = (
        write_task_rows(folder / f"{part}{kind.suffix}", kind, count, seed=seed)
        for part, (count, seed) in ROWS.items()
    )
    rows = ("--dev", dev, "--json")
    teacher = folder / "teacher"
    words = finetuning(encoder, train, teacher, "--task", kind.task, *kind.asks, *LEARNS)
    tuned = asked(*words, *rows)
    control = ("--control", "pretrained", "--pretrained", encoder)
    words = distilling(teacher, folder / "student", "--train", train, *control, *TEACHES, *rows)
    return Made(request.param, kind, folder, tuned.answer, asked(*words).answer)


def test_finetune_writes_a_model_that_tells_its_task(
    capsys: pytest.CaptureFixture[str], made: Made
) -> None:
    answer = made.tuned
    assert {name: type(answer[name]) for name in CONTRACT} == CONTRACT
    assert answer["task"] == made.kind.task
    assert answer["primary"] == made.kind.primary
    assert answer["metrics"][made.kind.primary]["value"] > GOOD_ENOUGH
    assert answer["warnings"] == []
    facts = said(capsys, "info", made.teacher, "--json").answer
    assert facts["task"] == made.kind.task
    assert tuple(facts["labels"]) == made.kind.labels
    assert facts["fingerprint"] == answer["fingerprint"]
    assert facts["transformers"]["class"] == made.kind.hf_class
    assert facts["transformers"]["complete"] is True
    assert facts["warnings"] == []
    assert facts["lineage"]["train"] == made.rows("train").name
    assert str(made.folder) not in json.dumps(facts["lineage"])  # no place of somebody's disk
    assert f"| task | {made.kind.task} |" in (made.teacher / "README.md").read_text()


def test_distill_writes_a_student_and_its_control(
    capsys: pytest.CaptureFixture[str], made: Made
) -> None:
    answer, control = made.distilled, made.distilled["control"]
    for keys in (CONTRACT, TOLD):
        assert {name: type(answer[name]) for name in keys} == keys
    assert {name: type(control[name]) for name in CONTRACT} == CONTRACT
    assert control["steps"] == answer["steps"] == 5 * 3
    assert answer["task"] == control["task"] == made.kind.task
    assert answer["architecture"] == ("bert" if made.name in HAS_SEGMENTS else "distilbert")
    assert answer["metrics"][made.kind.primary]["value"] > GOOD_ENOUGH
    assert answer["teacher_dev"] == pytest.approx(
        made.tuned["metrics"][made.kind.primary]["value"], abs=1e-6
    )
    assert answer["start"]["teacher"]["soft_targets"] == 0.0
    assert answer["start"]["student"]["soft_targets"] > 0.0
    assert answer["start"]["embedding_difference"] < 1e-6
    for place in (made.student, made.control):
        facts = said(capsys, "info", place, "--json").answer
        assert facts["layers"] == 2
        assert facts["task"] == made.kind.task
        assert tuple(facts["labels"]) == made.kind.labels
        assert f"| task | {made.kind.task} |" in (place / "README.md").read_text()


def test_evaluate_tells_the_tasks_metrics_with_intervals(
    capsys: pytest.CaptureFixture[str], made: Made
) -> None:
    words = ("evaluate", made.teacher, "--test", made.rows("test"), *PLAIN)
    answer = said(capsys, *words, "--json").answer
    assert answer["examples"] == ROWS["test"][0]
    assert answer["primary"] == made.kind.primary
    for found in answer["metrics"].values():
        assert found["low"] <= found["value"] <= found["high"]
    assert answer["metrics"][made.kind.primary]["value"] > GOOD_ENOUGH
    assert answer["majority"]["metrics"][made.kind.primary] < GOOD_ENOUGH
    is_ranking = made.kind.task == "ranking"  # whose rows are the candidates of a few queries
    told = [warning.partition(" cannot prove")[0] for warning in answer["warnings"]]
    assert told == (["15 queries"] if is_ranking else [])
    assert said(capsys, *words).out.splitlines()[1].startswith(f"{made.kind.primary} (primary)\t")


def test_a_bundle_is_worth_on_dev_what_was_told_when_it_was_written(
    capsys: pytest.CaptureFixture[str], made: Made
) -> None:
    """Thresholds, windows and the scale of numbers came with it."""
    told = (made.tuned, made.distilled, made.distilled["control"])
    for place, answer in zip((made.teacher, made.student, made.control), told, strict=True):
        words = ("evaluate", place, "--test", made.rows("dev"), *PLAIN, "--json")
        judged = said(capsys, *words).answer["metrics"][made.kind.primary]
        expected = answer["metrics"][made.kind.primary]["value"]
        assert judged["value"] == pytest.approx(expected, abs=1e-6)


def labels_are_true(item: Row, row: Row) -> bool:
    assert set(item) == {"label", "score", "labels", "scores", "truncated"}
    assert {each["label"] for each in item["scores"]} == {"blame", "praise"}
    assert item["scores"][0] == {name: item[name] for name in ("label", "score")}
    return item["labels"] == row["label"]


def number_is_true(item: Row, row: Row) -> bool:
    assert set(item) == {"score", "truncated"}
    return abs(item["score"] - row["label"]) < 10.0  # of a span of 30


def entities_are_true(item: Row, row: Row) -> bool:
    assert set(item) == {"entities", "truncated"}
    text = " ".join(row["tokens"])
    for found in item["entities"]:
        assert set(found) == {"entity", "score", "word", "start", "end"}
        assert text[found["start"] : found["end"]] == found["word"]
        assert 0.0 < found["score"] <= 1.0
    types = {"film": "WORK", "actor boring": "PER"}
    return {found["word"]: found["entity"] for found in item["entities"]} == {
        word: kind for word, kind in types.items() if word in text
    }


def answer_is_true(item: Row, row: Row) -> bool:
    assert set(item) == {"answer", "score", "start", "end", "truncated"}
    assert row["context"][item["start"] : item["end"]] == item["answer"]
    assert 0.0 < item["score"] <= 1.0
    true = row["answers"][0] if row["answers"] else {"text": "", "answer_start": 0}
    return (item["answer"], item["start"]) == (true["text"], true["answer_start"])


def score_is_true(item: Row, row: Row) -> bool:
    assert set(item) == {"score", "truncated"}
    assert 0.0 <= item["score"] <= 1.0
    return (item["score"] > 0.5) == (row["label"] > 0)


def class_is_true(item: Row, row: Row) -> bool:
    assert set(item) == {"label", "score", "scores", "truncated"}
    assert sum(each["score"] for each in item["scores"]) == pytest.approx(1.0)
    return item["label"] == row["label"]


IS_TRUE: dict[str, Callable[[Row, Row], bool]] = {
    "multi-label": labels_are_true,
    "regression": number_is_true,
    "token-classification": entities_are_true,
    "question-answering": answer_is_true,
    "ranking": score_is_true,
    "pairs": class_is_true,
}


def test_predict_tells_one_item_a_row_of_its_tasks_shape(
    capsys: pytest.CaptureFixture[str], made: Made, tmp_path: Path
) -> None:
    """Rows of a task have what is true too, which `predict` does not read."""
    words = ("predict", made.teacher, "--input", made.rows("test"), *PLAIN)
    told = said(capsys, *words, "--json")
    assert told.status == 0
    items = [json.loads(line) for line in told.out.splitlines()]
    is_true = IS_TRUE[made.name]
    pairs = list(zip(items, made.test_rows, strict=True))
    assert sum(is_true(item, row) for item, row in pairs) / len(pairs) > 0.7
    assert not any(item["truncated"] for item in items)
    written = said(capsys, *words, "--output", tmp_path / "answers.jsonl", "--json").answer
    assert written["rows"] == len(items)
    content = (tmp_path / "answers.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line) for line in content.splitlines()] == items
    lines = said(capsys, *words).out.splitlines()
    assert [line.count("\t") for line in lines] == [2] * len(items)


# What `Model.predict` takes for one row of each kind, beside a dict of our columns.
INPUTS: dict[str, Callable[[Row], object]] = {
    "multi-label": lambda row: row["text"],
    "regression": lambda row: row["text"],
    "token-classification": lambda row: row["tokens"],
    "question-answering": lambda row: (row["question"], row["context"]),
    "ranking": lambda row: (row["text"], row["text_pair"]),
    "pairs": lambda row: (row["text"], row["text_pair"]),
}


def test_the_library_answers_rows_and_plain_inputs_alike(made: Made) -> None:
    model = potstill.load(made.student, precision="fp32", threads=1)
    rows = made.test_rows[:6]
    plain = model.predict([INPUTS[made.name](row) for row in rows])
    assert model.predict(rows) == plain
    assert len({json.dumps(item) for item in plain}) > 1
    assert model.predict([]) == []


def test_compare_tells_what_evaluate_tells_of_each(
    capsys: pytest.CaptureFixture[str],
    made: Made,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measure_here(monkeypatch)
    files = ("--html", tmp_path / "report.html", "--flips", tmp_path / "flips.csv")
    models = (made.teacher, made.student)
    test = ("--test", made.rows("test"))
    answer = said(capsys, "compare", *models, *test, *files, *COMPARES, "--json").answer
    assert answer["primary"] == made.kind.primary
    for model, folder in zip(answer["models"], models, strict=True):
        judged = said(capsys, "evaluate", folder, *test, *PLAIN, "--json").answer
        assert set(model["metrics"]) == set(judged["metrics"])
        for name, found in judged["metrics"].items():
            assert model["metrics"][name] == pytest.approx(found, abs=1e-5)
    teacher, student = answer["models"]
    assert teacher["retention"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    values = [model["metrics"][made.kind.primary]["value"] for model in (teacher, student)]
    assert student["retention"]["value"] == pytest.approx(values[1] / values[0], abs=1e-4)
    assert 0.5 < answer["agreement"]["student"]["value"] <= 1.0
    assert (tmp_path / "report.html").read_text().startswith("<!")
    assert (tmp_path / "flips.csv").read_text().count("\n") >= 1


@pytest.mark.parametrize("read", [32, 9])
def test_all_verbs_cut_alike_where_the_tokenizer_has_a_limit_of_its_own(
    read: int,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bundle reads what its training read; a plain folder what its tokenizer allows."""
    encoder, model = write_encoder(tmp_path / "encoder"), tmp_path / "model"
    limit_tokenizer(encoder, 9)
    rows = write_conll(tmp_path / "rows.conll", rows_of(entity_row, 96))
    words = finetuning(encoder, rows, model, "--task", "ner", "--dev", rows, *LEARNS)
    assert asked(*words).status == 0
    if read == 9:
        limit_tokenizer(model, 9)
    assert potstill.info(model)["max_length"] == potstill.load(model).max_length == read
    assert potstill.load(model).tokenizer.max_length == read  # transformers looks there
    measure_here(monkeypatch)
    test = ("--test", rows, "--json")
    (found,) = said(capsys, "compare", model, *test, *COMPARES).answer["models"]
    judged = said(capsys, "evaluate", model, *test, *PLAIN).answer["metrics"]
    assert found["metrics"]["entity_f1"] == pytest.approx(judged["entity_f1"], abs=1e-5)
    assert judged["entity_f1"]["value"] > 0.8


def limit_tokenizer(folder: Path, tokens: int) -> None:
    """Make a plain Hugging Face folder of a bundle, with this as the tokenizer's limit."""
    (folder / "potstill.json").unlink()
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(settings | {"model_max_length": tokens}))


def test_processes_of_their_own_give_the_same_entities(tmp_path: Path) -> None:
    """Words and their places go to the children of a comparison as JSON."""
    encoder = write_encoder(tmp_path / "encoder")
    rows = write_conll(tmp_path / "rows.conll", rows_of(entity_row, 60))
    words = finetuning(encoder, rows, tmp_path / "model", "--epochs", "8", "--set", "seed=1")
    assert asked(*words, "--task", "ner", "--learning-rate", "1e-2").status == 0
    test = ("--test", rows, "--json")
    told = said_apart("compare", tmp_path / "model", *test, *COMPARES).answer
    judged = asked("evaluate", tmp_path / "model", *test, *PLAIN).answer
    (model,) = told["models"]
    assert model["metrics"]["entity_f1"] == pytest.approx(judged["metrics"]["entity_f1"], abs=1e-5)
    assert judged["metrics"]["entity_f1"]["value"] > 0.3


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an embedding teacher, texts, and pairs with scores."""
    folder = tmp_path_factory.mktemp("vectors")
    write_vector_model(folder / "teacher")
    pairs = rows_of(likeness_row, 60)
    write_jsonl(folder / "pairs.jsonl", *pairs)
    write_jsonl(
        folder / "texts.jsonl", *({"text": row["text"]} for row in rows_of(likeness_row, 80, 3))
    )
    return folder


def test_an_embedding_student_lies_where_its_teacher_lies(
    capsys: pytest.CaptureFixture[str],
    vectors: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, texts = tmp_path / "student", ("--unlabelled", vectors / "texts.jsonl")
    more = ("--keep", "0,1,2", "--control", "cut", "--json")
    words = distilling(vectors / "teacher", out, *texts, *TEACHES, *more)
    answer = said(capsys, *words).answer
    assert answer["task"] == "embedding"
    assert answer["primary"] == "cosine"
    assert answer["metrics_on"] == "dev, by the teacher"
    untaught = answer["control"]["metrics"]["cosine"]["value"]
    assert untaught < answer["metrics"]["cosine"]["value"] <= 1.0
    assert answer["metrics"]["cosine"]["value"] > 0.9
    facts = said(capsys, "info", out, "--json").answer
    assert (facts["task"], facts["layers"], facts["labels"]) == ("embedding", 3, [])
    assert facts["pooling"] == {"pooling": "mean", "normalize": True}
    assert "| task | embedding |" in (out / "README.md").read_text()

    pairs = ("--test", vectors / "pairs.jsonl", *PLAIN, "--json")
    judged = said(capsys, "evaluate", out, *pairs).answer
    assert judged["primary"] == "spearman"
    assert set(judged["metrics"]) == {"spearman", "pearson"}
    assert judged["metrics"]["spearman"]["value"] > 0.5
    measure_here(monkeypatch)
    told = said(capsys, "compare", vectors / "teacher", out, *pairs, "--rounds", "1").answer
    assert told["models"][1]["metrics"]["spearman"] == pytest.approx(
        judged["metrics"]["spearman"], abs=1e-5
    )
    assert told["models"][1]["retention"]["value"] > 0.8

    items = [
        json.loads(line)
        for line in said(
            capsys, "predict", out, "a film", "the plot", *PLAIN, "--json"
        ).out.splitlines()
    ]
    assert [set(item) for item in items] == [{"embedding", "truncated"}] * 2
    expected = potstill.load(out, precision="fp32").embed(["a film", "the plot"])
    np.testing.assert_allclose([item["embedding"] for item in items], expected, atol=1e-6)


def test_vectors_learn_from_pairs_with_numbers(
    capsys: pytest.CaptureFixture[str], vectors: Path, tmp_path: Path
) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    train = write_jsonl(tmp_path / "train.jsonl", *rows_of(likeness_row, 96, 5))
    out, test = tmp_path / "out", ("--test", vectors / "pairs.jsonl", *PLAIN, "--json")
    words = finetuning(encoder, train, out, "--task", "embedding", "--epochs", "6")
    answer = said(capsys, *words, "--learning-rate", "3e-3", "--json").answer
    assert (answer["task"], answer["primary"]) == ("embedding", "spearman")
    assert said(capsys, "info", out, "--json").answer["task"] == "embedding"
    judged = said(capsys, "evaluate", out, *test).answer
    assert judged["metrics"]["spearman"]["low"] > judged["majority"]["metrics"]["spearman"] + 0.5


def test_an_embedding_student_is_chosen_by_pairs_where_dev_has_them(
    capsys: pytest.CaptureFixture[str], vectors: Path, tmp_path: Path
) -> None:
    rows = ("--unlabelled", vectors / "texts.jsonl", "--dev", vectors / "pairs.jsonl")
    more = ("--layers", "3", "--json")
    words = distilling(vectors / "teacher", tmp_path / "out", *rows, *TEACHES, *more)
    answer = said(capsys, *words).answer
    assert (answer["primary"], answer["metrics_on"]) == ("spearman", "dev")
    assert answer["metrics"]["spearman"]["value"] > 0.5


@pytest.fixture
def tune(tmp_path: Path) -> Callable[..., Path]:
    """Return how a quick model of a task is made in this test's folder."""

    def tuned(task: str, train: Path, *more: object) -> Path:
        encoder = write_encoder(tmp_path / "encoder")
        out = tmp_path / "model"
        words = finetuning(encoder, train, out, "--task", task, *LEARNS, *more)
        assert asked(*words).status == 0
        return out

    return tuned


def change_manifest(bundle: Path, **changes: object) -> None:
    """Write other settings into potstill.json, which is no part of a bundle's identity."""
    file = bundle / "potstill.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def predicted(capsys: pytest.CaptureFixture[str], *words: object) -> list[Row]:
    told = said(capsys, "predict", *words, *PLAIN, "--json")
    assert told.status == 0, told.err
    return [json.loads(line) for line in told.out.splitlines()]


def test_predict_answers_by_the_thresholds_of_labels_in_the_bundle(
    capsys: pytest.CaptureFixture[str], tune: Callable[..., Path], tmp_path: Path
) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", *rows_of(multi_label_row, 60))
    model = tune("multi-label", rows, "--dev", rows, "--epochs", "3")
    thresholds = json.loads((model / "potstill.json").read_text())["thresholds"]
    assert set(thresholds) == {"blame", "praise"}
    assert set(thresholds.values()) != {0.5}
    items = predicted(capsys, model, "--input", rows)
    for item in items:
        above = {
            each["label"] for each in item["scores"] if each["score"] >= thresholds[each["label"]]
        }
        assert set(item["labels"]) == above
    assert len({tuple(item["labels"]) for item in items}) > 1
    change_manifest(model, thresholds={"blame": 0.0, "praise": 1.1})
    assert all(item["labels"] == ["blame"] for item in predicted(capsys, model, "--input", rows))


def test_predict_says_no_answer_by_the_null_threshold_in_the_bundle(
    capsys: pytest.CaptureFixture[str], tune: Callable[..., Path], tmp_path: Path
) -> None:
    rows = write_squad(tmp_path / "rows.json", rows_of(question_row, 60))
    model = tune("question-answering", rows, "--dev", rows)
    manifest = json.loads((model / "potstill.json").read_text())
    assert set(manifest["thresholds"]) == {"null"}
    assert manifest["settings"] == {"may_be_empty": True}

    def answered(threshold: float) -> int:
        change_manifest(model, thresholds={"null": threshold})
        return sum(item["answer"] != "" for item in predicted(capsys, model, "--input", rows))

    assert answered(manifest["thresholds"]["null"]) == 45  # three of four questions have one
    assert answered(-1e6) == 0
    assert answered(1e6) == 60


def test_predict_reads_long_texts_in_the_windows_of_the_bundle(
    capsys: pytest.CaptureFixture[str], tune: Callable[..., Path], tmp_path: Path
) -> None:
    rows = write_squad(tmp_path / "rows.json", rows_of(question_row, 60))
    model = tune("question-answering", rows, "--dev", rows, "--set", "overlap=5")
    manifest = json.loads((model / "potstill.json").read_text())
    told = [manifest[name] for name in ("max_length", "long_texts", "overlap")]
    assert told == [32, "windows", 5]
    context = f"{'word1 ' * 70}very good{' word2' * 20}"
    long = write_jsonl(tmp_path / "long.jsonl", {"question": "was the film", "context": context})
    (item,) = predicted(capsys, model, "--input", long)
    assert (item["answer"], item["start"], item["truncated"]) == ("very good", 420, False)
    change_manifest(model, long_texts="cut")
    (item,) = predicted(capsys, model, "--input", long)
    assert (item["answer"], item["truncated"]) == ("", True)

    student = tmp_path / "student"
    change_manifest(model, long_texts="windows")
    words = distilling(model, student, "--train", rows, "--dev", rows, "--epochs", "1")
    assert asked(*words).status == 0
    manifest = json.loads((student / "potstill.json").read_text())
    assert [manifest[name] for name in ("max_length", "long_texts", "overlap")] == told


def test_entities_of_a_long_text_are_found_to_its_end(
    capsys: pytest.CaptureFixture[str], tune: Callable[..., Path], tmp_path: Path
) -> None:
    rows = write_conll(tmp_path / "rows.conll", rows_of(entity_row, 96))
    model = tune("token-classification", rows, "--dev", rows)
    text = "word1 " * 50 + "film, actor boring" + " word2" * 30 + " film"
    (item,) = predicted(capsys, model, text)
    found = [(each["entity"], each["word"], each["start"]) for each in item["entities"]]
    assert found == [("WORK", "film", 300), ("PER", "actor boring", 306), ("WORK", "film", 499)]


def test_numbers_are_told_on_the_scale_of_their_rows(
    capsys: pytest.CaptureFixture[str], tune: Callable[..., Path], tmp_path: Path
) -> None:
    """The network learns deviations; the bundle, a plain Hugging Face folder, answers numbers."""
    shifted = [{**row, "label": 1000.0 + row["label"]} for row in rows_of(number_row, 96)]
    rows = write_jsonl(tmp_path / "rows.jsonl", *shifted)
    model = tune("regression", rows, "--dev", rows, "--primary", "pearson")
    scores = [item["score"] for item in predicted(capsys, model, "--input", rows)]
    numbers = [row["label"] for row in shifted]
    assert np.abs(np.subtract(scores, numbers)).mean() < 6.0


def test_a_poisoned_test_file_changes_no_bit_of_a_model_of_entities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_here(monkeypatch)
    encoder = write_encoder(tmp_path / "encoder")
    test = rows_of(entity_row, 40, 2)
    swapped = {"B-WORK": "B-PER", "B-PER": "B-WORK", "I-PER": "I-WORK", "O": "O"}
    poisoned = [{**row, "tags": [swapped[tag] for tag in row["tags"]]} for row in test]
    quick = {"epochs": 4, "learning_rates": "3e-3", "choose": "even", "precision": "fp32"}
    teacher = {"epochs": 10, "learning_rate": 3e-3, "precision": "fp32"}
    recipe = shrink_recipe({**quick, **{f"teacher.{name}": each for name, each in teacher.items()}})
    reports = [
        shrink(
            ShrinkInputs(
                teacher=encoder,
                train=rows_of(entity_row, 96),
                dev=rows_of(entity_row, 30, 1),
                test=rows,
                task="token-classification",
            ),
            recipe,
            out=tmp_path / name,
            run=Run(threads=1),
        )
        for name, rows in (("clean", test), ("poisoned", poisoned))
    ]
    clean, other = (report.metrics["entity_f1"].value for report in reports)
    assert clean > GOOD_ENOUGH
    assert other < 0.2
    assert reports[0].fingerprint == reports[1].fingerprint
    weights = [
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("clean", "poisoned")
    ]
    assert weights[0] == weights[1]


@pytest.fixture
def _every_step_is_told(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    monkeypatch.setattr(Meter, "is_due", property(lambda meter: True))
    yield
    torch.set_num_threads(threads)


class Killed(Exception):
    """What no part of a run catches, as a kill would end it."""


def by_signal() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def by_surprise() -> None:
    raise Killed


@pytest.mark.usefixtures("_every_step_is_told")
@pytest.mark.parametrize(
    ("task", "end", "error"),
    [
        ("token-classification", by_signal, Stopped),
        ("question-answering", by_surprise, Killed),
    ],
)
def test_a_run_that_was_ended_goes_on_to_the_same_bundle(
    task: str, end: Callable[[], None], error: type[Exception], tmp_path: Path
) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    recipe = FinetuneRecipe(
        task=task,
        epochs=3,
        learning_rate=3e-3,
        max_length=12,  # so that rows have several windows
        rows_per_step=16,
        precision="fp32",
        checkpoint_every_s=0,
    )
    rows = rows_of(KINDS[task].make, 40)
    inputs = Inputs(model=encoder, train=rows, dev=rows[:10])

    def ending(progress: Progress) -> None:
        if progress.step == 5:
            end()

    out = tmp_path / "out"
    with pytest.raises(error):
        finetune(inputs, recipe, out=out, threads=1, listeners=(ending,))
    assert not out.exists()
    again = finetune(inputs, recipe, out=out, threads=1)
    assert 0 < again.details["resumed_from"] <= 5
    whole = finetune(inputs, recipe, out=tmp_path / "whole", threads=1)
    assert again.fingerprint == whole.fingerprint
    thresholds = [
        json.loads((place / "potstill.json").read_text())["thresholds"]
        for place in (out, tmp_path / "whole")
    ]
    assert thresholds[0] == thresholds[1]
    shutil.rmtree(out)


def test_every_kind_is_here() -> None:
    assert set(IS_TRUE) == set(KINDS)
    assert {kind.task for kind in KINDS.values()} == {
        *("multi-label", "regression", "token-classification", "question-answering"),
        *("ranking", "classification"),
    }
