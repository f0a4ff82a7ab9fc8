"""Wrong input to a task: one line that names the place and the cure, status 2, nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.command_line import finetuning, said, tree_of, write_jsonl
from tests.distilling import distilling, write_encoder
from tests.folders import write_tiny_model
from tests.task_data import (
    Row,
    candidate_row,
    entity_row,
    likeness_row,
    multi_label_row,
    number_row,
    question_row,
    rows_of,
    write_conll,
    write_squad,
    write_vector_model,
)

TAGS = ("O", "B-PER", "I-PER", "B-WORK", "I-WORK")
COUNT = 8


@dataclass(frozen=True, slots=True)
class Ground:
    """Sound models of each task, and a place for each case's rows."""

    sound: Path
    path: Path

    def model(self, name: str) -> Path:
        return self.sound / name

    @property
    def out(self) -> Path:
        return self.path / "out"

    def wrote(self, name: str, *rows: Row) -> Path:
        """Write rows to a file of this case."""
        return write_jsonl(self.path / name, *rows)

    def tuning(self, task: str, train: Path, *more: object) -> list[object]:
        """Return the words of a fine-tuning that must not begin."""
        return finetuning(self.model("encoder"), train, self.out, "--task", task, *more)

    def questions(self, *more: Row) -> Path:
        return write_squad(self.path / "train.json", [*rows_of(question_row, COUNT), *more])

    def tagged(self, words: str, tags: str) -> Path:
        """Write a sound sentence and one of these words and tags."""
        rows = [row for row in rows_of(entity_row, 2) if row["tags"].count("O") < len(row["tags"])]
        return self.wrote("train.jsonl", rows[0], {"tokens": words.split(), "tags": tags.split()})


Words = list[object]
Cases = dict[str, tuple[Callable[[Ground], Words], list[str]]]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    write_encoder(folder / "encoder")
    write_vector_model(folder / "vectors")
    kinds = {"tags": "token-classification", "answers": "question-answering"}
    for name, kind in kinds.items():
        labels = {"labels": TAGS} if name == "tags" else {}
        write_tiny_model(folder / name, kind, task=kind, **labels)
    for task, labels in {
        "multi-label": ("blame", "praise"),
        "regression": ("score",),
        "ranking": ("relevance",),
    }.items():
        write_tiny_model(folder / task, "classification", task=task, labels=labels)
    return folder


@pytest.fixture
def ground(sound: Path, tmp_path: Path) -> Ground:
    return Ground(sound, tmp_path)


def numbers(ground: Ground, *more: Row) -> Path:
    return ground.wrote("train.jsonl", *rows_of(number_row, COUNT), *more)


def candidates(ground: Ground, *more: Row) -> Path:
    return ground.wrote("train.jsonl", *rows_of(candidate_row, COUNT), *more)


def labelled(ground: Ground, *more: Row) -> Path:
    return ground.wrote("train.jsonl", *rows_of(multi_label_row, COUNT), *more)


def paired(ground: Ground, name: str) -> Path:
    return ground.wrote(name, *rows_of(likeness_row, COUNT))


def irrelevant(ground: Ground) -> Path:
    """Write candidates of which none is relevant."""
    return ground.wrote(
        "dev.jsonl", *[{**row, "label": 0} for row in rows_of(candidate_row, COUNT)]
    )


LAST = f"train.jsonl, line {COUNT + 1}, "
TRAINING: Cases = {
    "tags of IOB1": (
        lambda on: on.tuning("ner", on.tagged("a film", "O I-WORK")),
        ["train.jsonl, line 2, field 'tags'", "'I-WORK'", "to mend it: "],
    ),
    "tags of BIOES": (
        lambda on: on.tuning("ner", on.tagged("a film", "O S-WORK")),
        ["line 2, field 'tags'", "BIOES", "write S-X as B-X"],
    ),
    "tags without a prefix": (
        lambda on: on.tuning("ner", on.tagged("a film", "O WORK")),
        ["line 2, field 'tags'", "allowed: IOB2"],
    ),
    "fewer tags than words": (
        lambda on: on.tuning("ner", on.tagged("a very good film", "O O B-WORK")),
        ["line 2, field 'tags': 3 tags for 4 tokens; allowed: one tag for each token"],
    ),
    "no entity at all": (
        lambda on: on.tuning("ner", on.wrote("t.jsonl", *plain_sentences())),
        ["t.jsonl, field 'tags': every tag is O: there is no entity"],
    ),
    "texts where words are needed": (
        lambda on: on.tuning("ner", labelled(on)),
        ["there is no column 'tokens'", "--tokens-column"],
    ),
    "a number in words": (
        lambda on: on.tuning("regression", numbers(on, {"text": "a film", "label": "good"})),
        [LAST + "field 'label': 'good' is not a number; allowed: a finite number"],
    ),
    "no number": (
        lambda on: on.tuning("regression", numbers(on, {"text": "a film", "label": None})),
        [LAST + "field 'label': the value is missing"],
    ),
    "a number without an end": (
        lambda on: on.tuning("regression", numbers(on, {"text": "a film", "label": "inf"})),
        [LAST + "field 'label': 'inf' is not a number"],
    ),
    "one number for all": (
        lambda on: on.tuning("regression", on.wrote("r.jsonl", *numbered(label=3))),
        ["r.jsonl, field 'label': every row has the number 3; allowed: numbers that differ"],
    ),
    "a grade in words": (
        lambda on: on.tuning(
            "ranking", candidates(on, {"text": "a", "text_pair": "b", "label": "best"})
        ),
        [LAST + "field 'label': 'best' is not a number"],
    ),
    "a query without a document": (
        lambda on: on.tuning("ranking", numbers(on)),
        ["there is no column 'text_pair'", "--text-pair-column"],
    ),
    "nothing relevant": (
        lambda on: on.tuning("ranking", on.wrote("r.jsonl", *numbered(text_pair="b", label=0))),
        ["no document is relevant; allowed: grades above 0"],
    ),
    "labels that are no list": (
        lambda on: on.tuning("multi-label", labelled(on, {"text": "a", "label": 3})),
        [LAST + "field 'label': 3 is not a list; allowed: a list of words or labels"],
    ),
    "no label at all": (
        lambda on: on.tuning("multi-label", on.wrote("r.jsonl", *numbered(label=[]))),
        ["no row has any label"],
    ),
    "rows of another kind as questions": (
        lambda on: on.tuning("question-answering", labelled(on)),
        ["train.jsonl: there is no column 'context'", "--text-pair-column"],
    ),
    "a list of rows as a SQuAD file": (
        lambda on: on.tuning("question-answering", written(on, [{"text": "a", "label": "b"}])),
        ["train.json: this is no SQuAD file", "name the file .jsonl"],
    ),
    "no answer in its context": (
        lambda on: on.tuning("question-answering", write_squad(on.path / "t.json", lost_answers())),
        ["t.json: none of the 8 questions has an answer that stands in its context"],
    ),
    "no question with an answer": (
        lambda on: on.tuning(
            "question-answering",
            write_squad(on.path / "t.json", [{**row, "answers": []} for row in lost_answers()]),
        ),
        ["t.json: no question has an answer"],
    ),
    "texts alone for vectors": (
        lambda on: on.tuning("embedding", on.wrote("train.jsonl", *numbered())),
        ["train.jsonl: vectors are fine-tuned on pairs", "text_pair", "potstill distill"],
    ),
    "an overlap as long as the window": (
        lambda on: on.tuning("ner", labelled(on), "--max-length", "16", "--set", "overlap=16"),
        ["overlap is 16; allowed: below 8"],
    ),
    "no room beside the overlap": (
        lambda on: on.tuning(
            "question-answering", on.questions(), "--max-length", "10", "--set", "overlap=4"
        ),
        ["a window of 10 tokens has room for 4", "two windows share 4", "mend it: --max-length"],
    ),
    "an unknown way of long texts": (
        lambda on: on.tuning("ner", labelled(on), "--long-texts", "window"),
        ["long_texts is 'window'; allowed: ", "windows"],
    ),
    "another task's metric": (
        lambda on: on.tuning("regression", numbers(on), "--primary", "accuracy"),
        ["primary is 'accuracy'; allowed: spearman, pearson"],
    ),
    "no type of these": (
        lambda on: on.tuning("ner", sound_tags(on), "--primary", "f1:DRUG"),
        ["primary is 'f1:DRUG'; allowed: entity_f1", "f1:PER, f1:WORK"],
    ),
}


def written(ground: Ground, content: object) -> Path:
    file = ground.path / "train.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def lost_answers() -> list[Row]:
    """Return questions whose answers stand nowhere in their contexts."""
    answers = [{"text": "great", "answer_start": 0}]
    return [
        {"id": f"q{number}", "question": "was it", "context": f"word{number}", "answers": answers}
        for number in range(COUNT + 1)
    ]


def numbered(**fields: object) -> list[Row]:
    """Return rows of different texts, and of the same fields beside."""
    return [{"text": f"word{number}", **fields} for number in range(COUNT)]


def plain_sentences() -> list[Row]:
    """Return words that are no entities."""
    return [{"tokens": [row["text"]], "tags": ["O"]} for row in numbered()]


def judged(name: str, rows: Callable[[Ground], Path]) -> Callable[[Ground], Words]:
    return lambda on: ["evaluate", on.model(name), "--test", rows(on)]


ANSWERING: Cases = {
    "an unknown label": (
        judged("multi-label", lambda on: labelled(on, {"text": "a", "label": ["dull"]})),
        [LAST + "field 'label': label 'dull' is none of the model's; allowed: blame, praise"],
    ),
    "queries without a relevant document": (
        judged("ranking", irrelevant),
        ["dev.jsonl: ndcg@10 has no value on these rows", "some query with a relevant document"],
    ),
    "no question of the kind that the metric judges": (
        lambda on: [
            *("evaluate", on.model("answers"), "--primary", "no_answer_f1"),
            *("--test", write_squad(on.path / "train.json", lost_answers())),
        ],
        ["train.json: no_answer_f1 has no value on these rows"],
    ),
    "an unknown tag": (
        judged("tags", lambda on: on.tagged("a film", "O B-DRUG")),
        ["line 2, field 'tags': tag 'B-DRUG' is none of the model's; allowed: O, B-PER"],
    ),
    "an unknown tag in the comparison's rows": (
        lambda on: ["compare", on.model("tags"), "--test", on.tagged("a film", "O B-DRUG")],
        ["line 2, field 'tags': tag 'B-DRUG' is none of the model's"],
    ),
    "questions without answers": (
        judged("answers", lambda on: on.wrote("t.jsonl", {"question": "a", "context": "b"})),
        ["t.jsonl: there is no column 'answers'"],
    ),
    "texts without scores": (
        judged("regression", lambda on: on.wrote("t.jsonl", {"text": "a"})),
        ["t.jsonl: there is no column 'label'", "--label-column"],
    ),
    "scores in words": (
        judged("ranking", lambda on: candidates(on, {"text": "a", "text_pair": "b", "label": "x"})),
        [LAST + "field 'label': 'x' is not a number"],
    ),
    "pairs without scores": (
        judged("vectors", lambda on: on.wrote("t.jsonl", {"text": "a", "text_pair": "b"})),
        ["t.jsonl: there are no pairs of texts with a number", "--label-column"],
    ),
    "another task's metric than the model's": (
        lambda on: [
            *("evaluate", on.model("multi-label"), "--test", labelled(on)),
            *("--primary", "entity_f1"),
        ],
        ["primary is 'entity_f1'; allowed: micro_f1, macro_f1, subset_accuracy, f1:LABEL"],
    ),
    "models of two tasks": (
        lambda on: [
            *("compare", on.model("tags"), on.model("answers")),
            *("--test", on.tagged("a film", "O O")),
        ],
        [
            "the task of model answers is question-answering, that of the baseline is "
            "token-classification; allowed: models of one task"
        ],
    ),
    "a text to a model of questions": (
        lambda on: ["predict", on.model("answers"), "was the film very good"],
        [
            "item 0: one text, where this model reads two; allowed: pairs (question, context)",
            "--input FILE with the columns question and context",
        ],
    ),
    "a text to a model of pairs": (
        lambda on: ["predict", on.model("ranking"), "a film"],
        ["allowed: pairs (text, text_pair)", "--input FILE with the columns text and text_pair"],
    ),
    "a file of texts to a model of questions": (
        lambda on: ["predict", on.model("answers"), "--input", on.wrote("t.jsonl", {"text": "a"})],
        ["t.jsonl: there is no column 'context'", "--text-pair-column"],
    ),
    "a file without words to a model of entities": (
        lambda on: ["predict", on.model("tags"), "--input", on.wrote("t.jsonl", {"body": "a"})],
        ["t.jsonl: there is no column 'text'"],
    ),
}
TEACHING: Cases = {
    "queries to choose by without a relevant document": (
        lambda on: on.tuning("ranking", candidates(on), "--dev", irrelevant(on)),
        ["dev.jsonl: ndcg@10 has no value on these rows"],
    ),
    "a student of ranking that nothing can choose": (
        lambda on: distilling(
            on.model("ranking"), on.out, "--train", candidates(on), "--dev", irrelevant(on)
        ),
        ["dev.jsonl: ndcg@10 has no value on these rows"],
    ),
    "models of ranking on rows that tell nothing": (
        lambda on: ["compare", on.model("ranking"), "--test", irrelevant(on)],
        ["dev.jsonl: ndcg@10 has no value on these rows"],
    ),
    "pairs, to be judged by texts alone": (
        lambda on: on.tuning("regression", numbers(on), "--dev", paired(on, "dev.jsonl")),
        ["train.jsonl: there is no second text, but there is one in ", "dev.jsonl; to mend it: "],
    ),
    "texts alone beside pairs": (
        lambda on: distilling(
            on.model("regression"),
            on.out,
            *(
                "--train",
                paired(on, "train.jsonl"),
                "--unlabelled",
                on.wrote("t.jsonl", *numbered()),
            ),
        ),
        ["t.jsonl: there is no second text, but there is one in ", "train.jsonl; to mend it: "],
    ),
    "a second text that is named and not there": (
        lambda on: on.tuning("regression", numbers(on), "--text-pair-column", "sentence2"),
        ["train.jsonl: there is no column 'sentence2'", "--text-pair-column NAME"],
    ),
    "a control that no label can teach": (
        lambda on: [
            *distilling(on.model("vectors"), on.out, "--train", labelled(on)),
            *("--control", "pretrained", "--pretrained", on.model("encoder")),
        ],
        [
            "--control: a control learns from labels, and no label says where a vector lies; "
            "to mend it: --control cut: the student before its first step"
        ],
    ),
    "an unknown tag among the training rows": (
        lambda on: distilling(
            on.model("tags"),
            on.out,
            "--train",
            on.tagged("a film", "O B-DRUG"),
            "--dev",
            sound_tags(on),
        ),
        ["line 2, field 'tags': tag 'B-DRUG' is none of the model's"],
    ),
    "teachers of two tasks": (
        lambda on: distilling(
            on.model("multi-label"),
            on.out,
            *("--teacher", on.model("regression"), "--train", labelled(on)),
        ),
        ["regression: its task is regression, that of multi-label is multi-label"],
    ),
    "one text where there must be two": (
        lambda on: distilling(on.model("ranking"), on.out, "--unlabelled", labelled(on)),
        ["there is no column 'text_pair'", "--text-pair-column"],
    ),
    "an overlap as long as the teacher's window": (
        lambda on: [
            *distilling(on.model("answers"), on.out, "--train", on.questions()),
            *("--max-length", "12", "--set", "overlap=12"),
        ],
        ["overlap is 12; allowed: below 6"],
    ),
}


def sound_tags(ground: Ground) -> Path:
    """Write rows without a fault."""
    return write_conll(ground.path / "dev.conll", rows_of(entity_row, COUNT))


ALL = TRAINING | ANSWERING | TEACHING


@pytest.mark.parametrize("case", ALL)
def test_wrong_input_is_told_in_one_line_and_nothing_is_written(
    case: str, capsys: pytest.CaptureFixture[str], ground: Ground
) -> None:
    build, expected = ALL[case]
    words = build(ground)
    before = tree_of(ground.path)
    told = said(capsys, *words)
    assert told.status == 2, told
    for part in expected:
        assert part in told.complaint
    assert tree_of(ground.path) == before


def test_no_two_cases_have_one_name() -> None:
    assert len(ALL) == len(TRAINING) + len(ANSWERING) + len(TEACHING) == 51


def test_answers_that_stand_nowhere_are_told_and_left_out(
    capsys: pytest.CaptureFixture[str], ground: Ground
) -> None:
    train = ground.questions(*lost_answers()[:2])
    dev = write_squad(ground.path / "dev.json", rows_of(question_row, 4, 1))
    words = ground.tuning("question-answering", train, "--dev", dev, "--epochs", "1", "--json")
    (warning,) = [
        line for line in said(capsys, *words).answer["warnings"] if "do not stand" in line
    ]
    assert warning.startswith(f"{train}: 2 of 8 answers were left out")
    assert "2 questions that have no other" in warning
    assert warning.endswith("question q0")
    lineage = said(capsys, "info", ground.out, "--json").answer["lineage"]
    assert lineage["train_rows"] == COUNT
