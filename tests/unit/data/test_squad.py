"""Questions come out the same from SQuAD's JSON, from Hugging Face's flat form and from ours."""

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from potstill.data import Columns, Rows, read_rows
from potstill.data.squad import answers_in_place, question_rows
from potstill.errors import DataError

texts = st.text(st.characters(codec="utf-8"), max_size=12)
answers = st.lists(st.tuples(texts.filter(str.strip), st.integers(0, 2**40)), max_size=3)
questions = st.lists(st.tuples(texts, texts, answers), min_size=1, max_size=5)
NASTY = [("\u2028?", "\U0001f600 e\u0301\0", [("\U0001f600", 0), (" e\u0301", 1)]), ("", "", [])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("squad")


def canonical(asked) -> dict[str, list]:
    return {
        "id": [f"q{number}" for number in range(len(asked))],
        "question": [question for question, _, _ in asked],
        "context": [context for _, context, _ in asked],
        "answers": [[text for text, _ in found] for _, _, found in asked],
        "answer_starts": [[start for _, start in found] for _, _, found in asked],
    }


def as_dicts(found) -> list[dict]:
    return [{"text": text, "answer_start": start} for text, start in found]


def squad(asked) -> dict:
    paragraphs = [
        {
            "context": context,
            "qas": [{"id": f"q{number}", "question": question, "answers": as_dicts(found)}],
        }
        for number, (question, context, found) in enumerate(asked)
    ]
    return {
        "version": "v2.0",
        "data": [{"title": "A", "paragraphs": []}, {"paragraphs": paragraphs}],
    }


def flat(asked, *, as_lists: bool) -> list[dict]:
    rows = []
    for number, (question, context, found) in enumerate(asked):
        lists = {
            "text": [text for text, _ in found],
            "answer_start": [start for _, start in found],
        }
        held = lists if as_lists else as_dicts(found)
        rows.append({"id": f"q{number}", "question": question, "context": context, "answers": held})
    return rows


def read(path, content) -> Rows:
    path.write_text(json.dumps(content), encoding="utf-8")
    return question_rows(read_rows(path), Columns())


def one(**fields) -> Rows:
    row = {"question": "q", "context": "a b", "answers": []}
    return question_rows(read_rows([row | fields]), Columns())


@given(asked=questions)
@example(asked=NASTY)
def test_squad_files_are_read_as_they_were_written(folder, asked):
    assert read(folder / "t.json", squad(asked)).columns == canonical(asked)


@given(asked=questions, as_lists=st.booleans())
@example(asked=NASTY, as_lists=True)
def test_flat_rows_of_either_form_come_out_as_those_of_squad(folder, asked, as_lists):
    path = folder / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, flat(asked, as_lists=as_lists))), encoding="utf-8")
    assert question_rows(read_rows(path), Columns()).columns == canonical(asked)


@given(asked=questions)
@example(asked=NASTY)
def test_rows_in_canonical_form_stay_as_they_are(asked):
    rows = Rows(canonical(asked), "list")
    assert question_rows(rows, Columns()).columns == canonical(asked)


def test_a_file_gives_our_columns_before_they_are_checked(tmp_path):
    asked = [("q", "a b", [("b", 2)])]
    (tmp_path / "t.json").write_text(json.dumps(squad(asked)))
    assert read_rows(tmp_path / "t.json").columns == canonical(asked)


def test_reading_stops_at_the_limit(tmp_path):
    content = squad([("q", "c", [])] * 3)
    content["data"].append("no article")
    (tmp_path / "t.json").write_text(json.dumps(content))
    assert read_rows(tmp_path / "t.json", limit=2).column("id") == ["q0", "q1"]


def test_a_byte_order_mark_is_skipped(tmp_path):
    (tmp_path / "t.json").write_text(json.dumps(squad([("q", "c", [])])), encoding="utf-8-sig")
    assert len(read_rows(tmp_path / "t.json")) == 1


def test_an_impossible_question_has_no_answers(tmp_path):
    content = squad([("q", "a b", [("b", 2)])])
    content["data"][1]["paragraphs"][0]["qas"][0]["is_impossible"] = True
    assert read(tmp_path / "t.json", content).column("answers") == [[]]
    held = {"text": ["b"], "answer_start": [2]}
    assert one(answers=held, is_impossible=True).column("answer_starts") == [[]]
    assert one(answers=held, is_impossible=False).column("answer_starts") == [[2]]


def test_arrays_of_numpy_become_lists():
    places = np.array([0, 2], dtype=np.int32)
    held = {"text": np.array(["a", "b"], dtype=object), "answer_start": places}
    rows = one(answers=held)
    assert rows.column("answers") == [["a", "b"]]
    assert rows.column("answer_starts") == [[0, 2]]
    assert type(rows.column("answer_starts")[0][0]) is int


def test_a_row_without_an_id_is_called_by_its_number():
    rows = read_rows(
        [{"question": "q", "context": "c"}, {"question": "q", "context": "c", "id": 7}]
    )
    assert question_rows(rows, Columns(), labelled=False).column("id") == ["1", "7"]


def test_without_labels_answers_are_left_out():
    rows = read_rows([{"question": "q", "context": "c", "answers": "wrong"}])
    found = question_rows(rows, Columns(), labelled=False)
    assert found.columns == {"id": ["1"], "question": ["q"], "context": ["c"]}


def test_the_columns_of_text_and_pair_serve_where_question_and_context_are_absent():
    rows = read_rows([{"text": "q", "text_pair": "c"}])
    assert question_rows(rows, Columns(), labelled=False).column("context") == ["c"]


def test_columns_that_the_user_names_go_before_our_names():
    rows = read_rows([{"question": "no", "context": "no", "q": "yes", "doc": "too"}])
    found = question_rows(rows, Columns(text="q", text_pair="doc"), labelled=False)
    assert found.columns == {"id": ["1"], "question": ["yes"], "context": ["too"]}


def test_rows_keep_their_lines(tmp_path):
    (tmp_path / "t.jsonl").write_text('\n{"question": "q", "context": "c", "answers": []}')
    assert question_rows(read_rows(tmp_path / "t.jsonl"), Columns()).line_numbers == [2]


contexts = st.text("ab \U0001f600", max_size=12)


@given(st.lists(st.tuples(contexts, st.lists(st.tuples(contexts, st.integers(0, 14))))))
def test_what_is_kept_stands_in_place_and_what_stood_there_is_never_changed(asked):
    asked = [("q", context, [a for a in found if a[0].strip()]) for context, found in asked]
    rows = Rows(canonical([*asked, ("q", "a", [])]), "list")
    kept, _ = answers_in_place(rows)
    found = zip(*kept.columns.values(), strict=True)
    by_id = {
        name: (context, dict.fromkeys(zip(some, at, strict=True)))
        for name, _, context, some, at in found
    }
    for number, (_, context, given_answers) in enumerate(asked):
        right = [(text, at) for text, at in given_answers if context[at : at + len(text)] == text]
        placed = by_id.get(f"q{number}", (context, {}))[1]
        assert set(right) <= set(placed)
        assert all(context[at : at + len(text)] == text for text, at in placed)
        assert (f"q{number}" in by_id) == (not given_answers or bool(placed))


def mended(*asked) -> tuple[Rows, list[str]]:
    return answers_in_place(Rows(canonical(asked), "train.json"))


def test_an_answer_that_stands_once_elsewhere_is_moved_there():
    kept, told = mended(("q", "\U0001f600 aa b", [("b", 6), ("aa", 2)]))
    assert kept.column("answer_starts") == [[5, 2]]
    assert told == ["train.json: 1 of 2 answers stood elsewhere than said and were mended"]


def test_an_answer_that_stands_twice_or_nowhere_is_left_out_and_told():
    kept, told = mended(
        ("q", "a a b", [("a", 1), ("b", 4)]),  # the second answer is right
        ("q", "aaa", [("aa", 7)]),  # twice, the two overlapping
        ("q", "a", [("b", 0)]),
        ("q", "a", []),
    )
    assert kept.column("id") == ["q0", "q3"]
    assert kept.column("answers") == [["b"], []]
    assert kept.where(1) == "train.json, row 4"
    assert told == [
        "train.json: 3 of 4 answers were left out, since they do not stand exactly once in their "
        "context, and 2 questions that have no other; the first: train.json, row 1, question q0"
    ]


def test_rows_in_order_stay_as_they_are_without_a_word():
    rows = Rows(canonical([("q", "a b", [("b", 2)]), ("q", "a", [])]), "list")
    kept, told = answers_in_place(rows)
    assert (kept.columns, told) == (rows.columns, [])


def test_where_no_question_is_left_it_is_an_error():
    with pytest.raises(DataError, match=r"train.json: none of the 1 questions .* code points"):
        mended(("q", "a", [("b", 0)]))


@pytest.mark.parametrize(
    ("name", "count", "empty"), [("squad_v1", 1578, 0), ("squad_v2", 2442, 1241)]
)
def test_real_questions_have_their_answers_in_place(shared_data, name, count, empty):
    rows = question_rows(read_rows(shared_data / name / "test.json"), Columns())
    assert len(rows) == count
    assert sum(not found for found in rows.column("answers")) == empty
    kept, told = answers_in_place(rows)
    assert (kept.columns, told) == (rows.columns, [])


def test_real_answers_that_were_shifted_are_mended_where_they_stand_once(shared_data):
    rows = question_rows(read_rows(shared_data / "squad_v1" / "test.json"), Columns())
    shifted = [[start + 1 for start in found] for found in rows.column("answer_starts")]
    kept, told = answers_in_place(rows.with_columns({"answer_starts": shifted}))
    right = dict(zip(rows.column("id"), rows.column("answer_starts"), strict=True))
    assert 0.7 * len(rows) < len(kept) < len(rows)
    for name, starts in zip(kept.column("id"), kept.column("answer_starts"), strict=True):
        assert set(starts) <= set(right[name])
    assert "were mended" in told[0]
