"""Rows of each kind of task: the columns they need, with and without what is to be learned."""

from __future__ import annotations

from typing import Any

import pytest

from potstill.data.columns import Columns
from potstill.data.rows import Rows
from potstill.errors import DataError
from potstill.tasks.kinds import ANSWERABLE, task_from_rows
from potstill.tasks.reading import KINDS, for_training, labelled, require_texts, unlabelled

COLUMNS = Columns()
PAIR = {"text": "a film", "text_pair": "a movie"}
# One row of each kind, with what is to be learned.
LABELLED: dict[str, list[dict[str, Any]]] = {
    "classification": [{"text": "a film", "label": 1}, {"text": "b", "label": "no"}],
    "multi-label": [{"text": "a film", "label": ["x", "y"]}, {"text": "b", "label": []}],
    "regression": [{**PAIR, "label": 1}, {**PAIR, "label": "2.5"}],
    "ranking": [{**PAIR, "label": 0}, {**PAIR, "label": 2}],
    "token-classification": [{"tokens": ["Ann", "ran"], "tags": ["B-PER", "O"]}],
    "question-answering": [
        {
            "question": "who",
            "context": "Ann ran",
            "answers": {"text": ["Ann"], "answer_start": [0]},
        }
    ],
    "embedding": [{**PAIR, "label": 0.5}],
}


def test_every_kind_that_can_be_answered_can_be_read() -> None:
    assert sorted(KINDS) == sorted(ANSWERABLE) == sorted(LABELLED)


@pytest.mark.parametrize("name", sorted(set(LABELLED) - {"embedding"}))
def test_labelled_rows_pose_their_task(name: str) -> None:
    rows, told = for_training(name, labelled(name, LABELLED[name], COLUMNS))
    assert told == []
    assert task_from_rows(name, rows).name == name
    assert len(task_from_rows(name, rows).gold(rows) if name != "ranking" else rows) == len(rows)


@pytest.mark.parametrize("name", sorted(LABELLED))
def test_without_labels_the_same_rows_are_read_but_for_what_is_learned(name: str) -> None:
    learned = {"label", "tags", "answers", "answer_starts"}
    given = [
        {key: value for key, value in row.items() if key not in learned} for row in LABELLED[name]
    ]
    rows = unlabelled(name, given, COLUMNS)
    full = labelled(name, LABELLED[name], COLUMNS)
    assert set(rows.columns) == set(full.columns) - learned - (
        {"text_pair"} if name == "embedding" else set()
    )
    for column in rows.columns:
        assert rows.column(column) == full.column(column)


@pytest.mark.parametrize(
    ("name", "column", "expected"),
    [
        ("classification", "label", ["1", "no"]),
        ("multi-label", "label", [["x", "y"], []]),
        ("regression", "label", [1.0, 2.5]),
        ("ranking", "label", [0.0, 2.0]),
        ("question-answering", "answers", [["Ann"]]),
        ("question-answering", "answer_starts", [[0]]),
        ("question-answering", "id", ["1"]),
        ("token-classification", "word_spans", [[(0, 3), (4, 7)]]),
        ("token-classification", "text", ["Ann ran"]),
    ],
)
def test_values_have_the_form_that_the_task_reads(
    name: str, column: str, expected: list[Any]
) -> None:
    assert labelled(name, LABELLED[name], COLUMNS).column(column) == expected


def test_a_text_is_cut_into_words_where_there_are_none() -> None:
    rows = unlabelled("token-classification", [{"text": "Ann, ran."}, {"text": ""}], COLUMNS)
    assert rows.column("tokens") == [["Ann", ",", "ran", "."], []]
    assert rows.column("word_spans") == [[(0, 3), (3, 4), (5, 8), (8, 9)], []]
    both = unlabelled("token-classification", [{"tokens": ["Ann,"], "text": "odd"}], COLUMNS)
    assert both.column("tokens") == [["Ann,"]]
    assert both.column("text") == ["Ann,"]


def test_a_second_text_is_read_where_there_is_one() -> None:
    for name in ("classification", "regression"):
        assert "text_pair" in unlabelled(name, [PAIR], COLUMNS)
        assert "text_pair" not in unlabelled(name, [{"text": "a film"}], COLUMNS)
    with pytest.raises(DataError, match="there is no column 'text_pair'"):
        unlabelled("ranking", [{"text": "a film"}], COLUMNS)


def test_embedding_rows_are_pairs_with_numbers_or_texts() -> None:
    texts = labelled("embedding", [{"text": "a film"}], COLUMNS)
    assert list(texts.columns) == ["text"]
    assert list(labelled("embedding", [PAIR], COLUMNS).columns) == ["text"]
    numbers = labelled("embedding", LABELLED["embedding"], COLUMNS)
    assert list(numbers.columns) == ["text", "text_pair", "label"]
    assert list(unlabelled("embedding", LABELLED["embedding"], COLUMNS).columns) == ["text"]


def test_the_user_s_own_names_are_taken() -> None:
    columns = Columns(text="review", label="stars")
    rows = labelled("regression", [{"review": "fine", "stars": 4}], columns)
    assert rows.columns == {"text": ["fine"], "label": [4.0]}
    asked = Columns(text="q", text_pair="passage")
    rows = unlabelled("question-answering", [{"q": "who", "passage": "Ann"}], asked)
    assert (rows.column("question"), rows.column("context")) == (["who"], ["Ann"])


@pytest.mark.parametrize(
    ("name", "row", "told"),
    [
        ("regression", {"text": "a", "label": "much"}, "row 1, field 'label'.*a finite number"),
        ("multi-label", {"text": "a", "label": 3}, "row 1, field 'label'.*a list"),
        ("ranking", {"text": "a", "label": 1}, "no column 'text_pair'"),
        (
            "token-classification",
            {"tokens": ["Ann"], "tags": ["I-PER"]},
            r"row 1, field 'tags': the tag of word 1 \('Ann'\) is 'I-PER'",
        ),
        (
            "token-classification",
            {"tokens": ["Ann"], "tags": ["B-PER", "O"]},
            "2 tags for 1 tokens",
        ),
        (
            "question-answering",
            {"question": "who", "context": "Ann", "answers": ["Ann"], "answer_starts": [-1]},
            "row 1, field 'answer_starts'.*-1 is not a place in the context",
        ),
        ("classification", {"text": None, "label": "a"}, "row 1, field 'text'.*missing"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(name: str, row: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        labelled(name, [row], COLUMNS)


def test_answers_that_stand_elsewhere_are_mended_and_told() -> None:
    def row(answer: str, start: int) -> dict[str, Any]:
        answers = {"text": [answer], "answer_start": [start]}
        return {"question": "who", "context": "Ann saw Bob and Bob", "answers": answers}

    given = [row("Ann", 3), row("Bob", 0), row("Bob", 8)]
    rows, told = for_training("question-answering", labelled("question-answering", given, COLUMNS))
    assert rows.column("answer_starts") == [[0], [8]]
    assert rows.column("id") == ["1", "3"]
    (line,) = told
    assert "1 of 3 answers stood elsewhere than said and were mended" in line
    assert "1 of 3 answers were left out" in line


def test_a_column_of_labels_is_not_taken_for_one_of_texts() -> None:
    labels = Rows({"text": ["spam", "ham"] * 20}, "list")
    told = "column 'text' holds 2 different values in 40 rows, such as 'ham': it looks like labels"
    with pytest.raises(DataError, match=told):
        require_texts(labels, COLUMNS)


@pytest.mark.parametrize(
    "columns",
    [
        {"text": ["spam", "ham"]},
        {"text": [f"text {number}" for number in range(40)]},
        {"text": ["a text of words", "another one of words"] * 20},
        {"text": ["spam", "ham"] * 20, "tokens": [["spam"], ["ham"]] * 20},
        {"question": ["who"] * 40, "context": ["Ann"] * 40},
        {"text": []},
    ],
)
def test_columns_of_texts_are_taken(columns: dict[str, list[Any]]) -> None:
    require_texts(Rows(columns, "list"), COLUMNS)
