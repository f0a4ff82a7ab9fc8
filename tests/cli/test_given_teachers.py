"""Teachers that are not run here: a transformers model of another family, and files of answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.command_line import QUICK, said
from tests.folders import write_tiny_model
from tests.tiny import WORDS

LABELS = ("blame", "praise")
ROWS = [
    {"text": f"the {word} film was {'good' if number % 2 else 'bad'}", "label": LABELS[number % 2]}
    for number, word in enumerate(WORDS[8:] * 2)
]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    write_tiny_model(folder / "student")
    lines = "\n".join(json.dumps(row) for row in ROWS)
    (folder / "train.jsonl").write_text(lines + "\n")
    (folder / "texts.jsonl").write_text(
        "\n".join(json.dumps({"text": row["text"] + " plot"}) for row in ROWS) + "\n"
    )
    _write_electra(folder / "electra", LABELS[::-1])
    _write_electra(folder / "strangers", ("x", "y"))
    return folder


def _write_electra(folder: Path, labels: tuple[str, ...]) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ElectraConfig(
        vocab_size=len(WORDS),
        embedding_size=16,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )
    transformers.ElectraForSequenceClassification(config).save_pretrained(folder)
    words = folder / "words.txt"
    words.write_text("\n".join(WORDS) + "\n")
    tokenizer = transformers.BertTokenizerFast(vocab=str(words), do_lower_case=True)
    tokenizer.save_pretrained(folder)
    words.unlink()


def learning(ground: Path, out: Path, *more: object) -> list[object]:
    where = ["--student", ground / "student", "--out", out, "--layers", 1]
    return ["distill", *where, *QUICK, *more]


def test_answers_of_a_file_are_learned_by_name_and_row(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    right = np.array([[0.95, 0.05] if row["label"] == "blame" else [0.05, 0.95] for row in ROWS])
    np.save(tmp_path / "right.npy", right)
    words = ["--train", ground / "train.jsonl", "--teacher-answers", tmp_path / "right.npy"]
    alone = ["--epochs", 30, "--set", "hard_labels=0"]  # the labels themselves teach nothing
    told = said(capsys, *learning(ground, tmp_path / "out", *words, *alone), "--json")
    assert told.status == 0, told.err
    assert told.answer["teacher_dev"] == 1.0
    assert told.answer["metrics"]["accuracy"]["value"] > 0.8


def test_scores_of_predict_are_read_in_any_order(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    file = tmp_path / "answers.jsonl"
    scores = [
        [{"label": row["label"], "score": 0.9}, {"label": "other", "score": 0.1}] for row in ROWS
    ]
    for row, each in zip(ROWS, scores, strict=True):
        each[1]["label"] = LABELS[1 - LABELS.index(row["label"])]
    file.write_text("\n".join(json.dumps({"scores": each}) for each in scores) + "\n")
    words = ["--train", ground / "train.jsonl", "--teacher-answers", file, "--epochs", 30]
    told = said(capsys, *learning(ground, tmp_path / "out", *words), "--json")
    assert told.status == 0, told.err
    assert told.answer["teacher_dev"] == 1.0
    assert told.answer["metrics"]["accuracy"]["value"] > 0.8


def test_a_model_of_another_family_teaches_beside_a_control(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    words = ["--foreign-teacher", ground / "electra", "--train", ground / "train.jsonl"]
    more = ["--unlabelled", ground / "texts.jsonl", "--control", "pretrained"]
    told = said(capsys, *learning(ground, tmp_path / "out", *words, *more), "--json")
    assert told.status == 0, told.err
    assert told.answer["start"] == {}
    assert told.answer["control"]["control"] == "pretrained"
    assert (tmp_path / "out-control" / "config.json").is_file()


def test_vectors_of_a_file_are_learned_through_a_map(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    vectors = np.random.default_rng(0).normal(size=(len(ROWS), 20)).astype(np.float32)
    np.save(tmp_path / "vectors.npy", vectors)
    words = ["--task", "embedding", "--unlabelled", ground / "texts.jsonl"]
    file = ["--teacher-answers", tmp_path / "vectors.npy"]
    told = said(capsys, *learning(ground, tmp_path / "out", *words, *file), "--json")
    assert told.status == 0, told.err
    embedded = ["embed", tmp_path / "out", "--input", ground / "texts.jsonl"]
    answer = said(capsys, *embedded, "--output", tmp_path / "v.npy", "--json").answer
    assert answer["width"] == 20


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--foreign-teacher", "strangers", "--train", "train.jsonl"], "labels are x, y"),
        (["--foreign-teacher", "nowhere", "--train", "train.jsonl"], "no such model folder"),
        (
            ["--foreign-teacher", "electra", "--train", "train.jsonl", "--choose", "search"],
            "only its answers are given",
        ),
        (
            ["--foreign-teacher", "electra", "--task", "qa", "--train", "train.jsonl"],
            "task is 'qa'",
        ),
        (
            ["--foreign-teacher", "electra", "--task", "question-answering", "--train", "q.json"],
            "a foreign teacher cannot teach question-answering",
        ),
        (
            ["--foreign-teacher", "electra", "--train", "train.jsonl", "--control", "tuned"],
            "allowed: pretrained, cut",
        ),
        (
            [
                *("--foreign-teacher", "electra", "--task", "embedding"),
                *("--train", "train.jsonl", "--control", "pretrained"),
            ],
            "--control cut",
        ),
        (["--teacher", "student", "--train", "train.jsonl"], "it answers no task"),
        (
            ["--teacher-answers", "few.npy", "--task", "ner", "--train", "words.jsonl"],
            "needs one for each token",
        ),
        (
            ["--teacher-answers", "few.npy", "--task", "question-answering", "--train", "q.json"],
            "needs one for each token",
        ),
        (["--teacher-answers", "few.npy", "--train", "train.jsonl"], "3 answers for"),
        (["--teacher-answers", "classes.npy", "--train", "train.jsonl"], "numbers of classes"),
        (["--teacher-answers", "few.npy", "--unlabelled", "texts.jsonl"], "which labels"),
        (
            ["--teacher-answers", "few.npy", "--teacher", "student", "--train", "train.jsonl"],
            "two kinds of teachers",
        ),
    ],
)
def test_what_cannot_work_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    ground: Path,
    tmp_path: Path,
    words: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(ground)
    np.save("few.npy", np.full((3, 2), 0.5))
    np.save("classes.npy", np.arange(len(ROWS)))
    words_of_three = [{"tokens": ["good", "film"], "tags": ["O", "B-WORK"]}] * 3
    Path("words.jsonl").write_text("\n".join(map(json.dumps, words_of_three)) + "\n")
    asked = {"answers": [{"text": "good", "answer_start": 0}], "question": "what", "id": "1"}
    paragraph = {"context": "good film", "qas": [asked]}
    Path("q.json").write_text(json.dumps({"data": [{"paragraphs": [paragraph]}]}))
    told = said(capsys, *learning(ground, tmp_path / "out", *words))
    assert told.status == 2
    assert complaint in told.err
    assert told.err.count("\n") == 1


def test_probabilities_of_labels_that_do_not_exclude_each_other_stand_alone(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    rows = [{"text": row["text"], "label": [row["label"], "any"]} for row in ROWS]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    labels = ("any", *LABELS)
    shares = [[0.9 if label in row["label"] else 0.2 for label in labels] for row in rows]
    np.save(tmp_path / "shares.npy", shares)
    words = ["--task", "multi-label", "--train", tmp_path / "rows.jsonl"]
    file = ["--teacher-answers", tmp_path / "shares.npy"]
    told = said(capsys, *learning(ground, tmp_path / "out", *words, *file), "--json")
    assert told.status == 0, told.err
    assert told.answer["teacher_dev"] == 1.0


def test_a_student_of_given_vectors_that_has_collapsed_ends_the_run(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    vectors = np.random.default_rng(0).normal(size=(len(ROWS), 20)).astype(np.float32)
    np.save(tmp_path / "vectors.npy", vectors)  # nothing in the texts tells them
    words = ["--task", "embedding", "--unlabelled", ground / "texts.jsonl"]
    more = ["--teacher-answers", tmp_path / "vectors.npy", "--set", "dev_share=0.4"]
    told = said(capsys, *learning(ground, tmp_path / "out", *words, *more))
    assert told.status == 1
    assert f"potstill: {tmp_path / 'out'}: the student has collapsed" in told.err
    assert not (tmp_path / "out").exists()


def test_a_teacher_of_vectors_is_not_judged_by_the_first_texts_of_pairs_alone(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    network = transformers.ElectraModel(
        transformers.ElectraConfig.from_pretrained(ground / "electra")
    )
    network.save_pretrained(tmp_path / "vectors")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "vectors" / file).write_bytes((ground / "electra" / file).read_bytes())
    pairs = [
        {"text": row["text"], "text_pair": f"{row['text']} plot", "label": number % 3}
        for number, row in enumerate(ROWS[:30])
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)) + "\n")
    words = ["--task", "embedding", "--unlabelled", ground / "texts.jsonl"]
    more = ["--foreign-teacher", tmp_path / "vectors", "--dev", tmp_path / "pairs.jsonl"]
    told = said(capsys, *learning(ground, tmp_path / "out", *words, *more), "--json")
    assert told.status == 0, told.err
    assert told.answer["teacher_dev"] is None
