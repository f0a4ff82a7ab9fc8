"""`distill --teacher TUNED --student GENERAL`: a student of all text learns a task as well."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import potstill
from tests.command_line import QUICK, said
from tests.folders import write_tiny_model
from tests.tiny import WORDS

LABELS = ("blame", "praise")
ROWS = [
    {"text": f"the {word} film was {'good' if number % 2 else 'bad'}", "label": LABELS[number % 2]}
    for number, word in enumerate(WORDS[8:] * 2)
]
SLOW = ("--epochs", 30, "--learning-rate", "3e-3")


@pytest.fixture(scope="module", params=["bert", "distilbert"])
def ground(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a tuned teacher, a small masked-LM model, and rows."""
    folder = tmp_path_factory.mktemp("two-steps")
    write_tiny_model(folder / "bare")
    write_tiny_model(folder / "general", "masked-lm", task="masked-lm", family=request.param)
    lines = "\n".join(json.dumps(row) for row in ROWS)
    (folder / "train.jsonl").write_text(lines + "\n")
    (folder / "texts.jsonl").write_text(
        "\n".join(json.dumps({"text": row["text"] + " plot"}) for row in ROWS) + "\n"
    )
    potstill.finetune(
        *(folder / "bare", folder / "train.jsonl", folder / "tuned"),
        epochs=30.0,
        learning_rate=3e-3,
        threads=1,
    )
    return folder


def learning(ground: Path, out: Path, *more: object) -> list[object]:
    where = ["--teacher", ground / "tuned", "--student", ground / "general", "--out", out]
    return ["distill", *where, "--train", ground / "train.jsonl", *QUICK, *more]


def test_it_learns_from_the_teacher_alone_and_keeps_all_its_layers(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    words = learning(ground, tmp_path / "out", "--unlabelled", ground / "texts.jsonl", *SLOW)
    told = said(capsys, *words, "--set", "hard_labels=0", "--json")
    answer = told.answer
    assert answer["layers_kept"] == [0, 1]
    assert answer["start"]["embedding_difference"] is None
    assert answer["metrics"]["accuracy"]["value"] > 0.8
    lineage = said(capsys, "info", tmp_path / "out", "--json").answer["lineage"]
    assert (lineage["student"], lineage["teacher"]) == ("general", "tuned")


def test_its_control_is_the_student_itself_tuned_on_labels(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    words = learning(ground, tmp_path / "out", "--layers", 1, "--control", "pretrained", "--json")
    answer = said(capsys, *words).answer
    assert answer["control"]["steps"] == answer["steps"]
    control = said(capsys, "info", tmp_path / "out-control", "--json").answer
    assert (control["layers"], control["lineage"]["model"]) == (1, "general")


def test_hidden_states_and_relations_of_all_layers_can_be_compared(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    more = ["--set", "hidden_cosine=0.5", "--set", "relations=0.5", "--json"]
    assert said(capsys, *learning(ground, tmp_path / "out", *more)).answer["steps"] > 0


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (("--control", "tuned"), "--student names another model"),
        (("--choose", "search"), "the search for layers are of a student that is cut out"),
        (("--set", "width=16"), "a width of its own"),
        (("--layers", "3"), "a student of 3 layers"),
        (("--max-length", "900"), "max_length is 900"),
    ],
)
def test_wrong_input_is_told_in_one_line(
    more: tuple[str, ...],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    ground: Path,
    tmp_path: Path,
) -> None:
    told = said(capsys, *learning(ground, tmp_path / "out", *more))
    assert told.status == 2
    assert complaint in told.complaint


def test_another_tokenizer_is_refused_and_the_way_out_named(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    from tests.distilling import write_encoder

    write_encoder(tmp_path / "other")
    words = learning(ground, tmp_path / "out")
    words[words.index(ground / "general")] = tmp_path / "other"
    (tmp_path / "other" / "potstill.json").unlink()
    vocabulary = tmp_path / "other" / "tokenizer.json"
    vocabulary.write_text(vocabulary.read_text().replace('"film"', '"movie"'))
    told = said(capsys, *words)
    assert told.status == 2
    assert "student and teacher have different tokenizers" in told.complaint
    assert "--foreign-teacher tuned" in told.complaint
