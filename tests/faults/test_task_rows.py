"""Bad entities, questions and judgements: one line that names the place and mends the problem."""

import json
from pathlib import Path

import pytest

from potstill.data import Columns, read_rows, select_columns
from potstill.data.iob2 import require_iob2
from potstill.data.retrieval import read_retrieval
from potstill.data.squad import question_rows
from potstill.errors import DataError

CONLL = {
    "a word without a tag": (
        "a O\n\nb O\nParis\n",
        "line 4: the word 'Paris' has no tag; allowed: in each line a word and, last, its tag",
    ),
    "a word without a tag between tabs": ("a\tO\nParis\t\n", "line 2: the word 'Paris' has no tag"),
    "a word with a blank": (
        "a O\nNew York B-LOC\n",
        "line 2: the number of columns is 3, in line 1 it is 2; allowed: in each line a word and, "
        "last, its tag; an empty line between sentences; to mend it: put tabs between the columns",
    ),
    "fewer columns": ("\na DT O\nb O\n", "line 3: the number of columns is 2, in line 2 it is 3"),
    "a tag where others have none": ("a\n\nb O\n", "line 3: the number of columns is 2"),
    "bare carriage returns": ("a O\rb O\r", "line 1: a carriage return stands inside the line"),
    "latin-1": (b"a O\n\xe9 O\n", "line 2: byte 1 of the line (0xe9) is not UTF-8"),
    "UTF-16": ("a O\n".encode("utf-16"), "the file is UTF-16"),
    "no sentence": ("\n-DOCSTART- -X- O\n\n# a b\n", "there are no rows"),
    "nothing at all": ("", "the file is empty"),
}
TAGS = {
    "a type that changes": (
        ["B-PER", "I-LOC"],
        "the tag of word 2 ('w2') is 'I-LOC', but no entity of type 'LOC' is open: "
        "'B-PER' precedes",
        "write B-LOC at the first word of the entity",
    ),
    "an entity that O ends": (
        ["B-PER", "O", "I-PER"],
        "the tag of word 3 ('w3') is 'I-PER', but no entity of type 'PER' is open: 'O' precedes",
        "write B-PER at the first word of the entity",
    ),
    "IOB1": (
        ["I-PER", "I-PER", "B-PER", "O"],
        "the tag of word 1 ('w1') is 'I-PER'",
        "these look like IOB1 tags: the first I-X of an entity must be B-X",
    ),
    "BIOES": (
        ["O", "S-PER", "B-LOC", "E-LOC"],
        "word 2 ('w2') is 'S-PER': these look like BIOES tags",
        "write S-X as B-X and E-X as I-X",
    ),
    "BIOES by its end": (["B-LOC", "E-LOC"], "these look like BIOES tags", "E-X as I-X"),
    "BILOU": (
        ["B-LOC", "L-LOC", "U-PER"],
        "word 2 ('w2') is 'L-LOC': these look like BILOU tags",
        "write U-X as B-X and L-X as I-X",
    ),
    "numbers": (["0", "3"], "is '0', a number", "write the tags' names in the place of"),
    "no type": (["B-"], "is 'B-', without a type", "such as B-PER"),
    "no type inside": (["B-X", "I-"], "is 'I-', without a type", "such as B-PER"),
    "another sign for outside": (["_"], "is '_'", "write O for the words outside of entities"),
    "a type alone": (["PER"], "is 'PER'", "allowed: IOB2: O, B-TYPE for the first word"),
}
SQUAD = {
    "not JSON": ('{"data": [1,]}', "line 1, column 12: not valid JSON"),
    "a fault far down": ('{"data":\n\n [nan]}', "line 3, column 3: not valid JSON"),
    "NaN": ('{"data": [], "x": NaN}', "line 1, column 19: not valid JSON"),
    "too deep": ("[" * 100_000, "not valid JSON"),
    "too deep inside": ('{"data":' * 5000, "not valid JSON"),
    "one object a line": ('{"a": 1}\n{"a": 2}\n', "line 2, column 1: not valid JSON"),
    "a list of rows": ('[{"text": "a", "label": "b"}]', "this is no SQuAD file"),
    "a number": ("7", "this is no SQuAD file: there is no list 'data'"),
    "another object": ('{"text": "a"}', "this is no SQuAD file: there is no list 'data'"),
    "data of another kind": ('{"data": {"a": 1}}', "this is no SQuAD file"),
    "rows in data": ('{"data": [{"text": "a"}]}', "article 1: this is no SQuAD file"),
    "no questions": (
        '{"data": [{"paragraphs": [{"context": "a", "qas": []}, {"context": "b"}]}]}',
        "article 1, paragraph 2: this is no SQuAD file: there is no list 'qas'",
    ),
    "a question of another kind": (
        '{"data": [{"paragraphs": [{"context": "a", "qas": ["why?"]}]}]}',
        "article 1, paragraph 1, question 1: this is no SQuAD file: the question is no object",
    ),
}
JSONL_INSTEAD = "write one JSON object a line and name the file .jsonl"
ANSWERS = {
    "no list": ({"answers": "a"}, "field 'answers': 'a' is not a list"),
    "absent": ({"answers": None}, "field 'answers': the value is missing"),
    "a text alone": ({"answers": {"text": "a", "answer_start": [0]}}, "'a' is not a list"),
    "a number as text": (
        {"answers": {"text": [7], "answer_start": [0]}},
        "field 'answers': 7 is not a string",
    ),
    "an empty text": (
        {"answers": {"text": [" "], "answer_start": [0]}},
        "field 'answers': an answer is empty; to mend it: leave it out",
    ),
    "no starts": ({"answers": ["a"]}, "field 'answer_starts': the value is missing"),
    "no start": ({"answers": [{"text": "a"}]}, "the start None is not a place in the context"),
    "a start of another kind": (
        {"answers": [{"text": "a", "answer_start": "x"}]},
        "field 'answer_starts': the start 'x' is not a place in the context",
    ),
    "half a start": ({"answers": {"text": ["a"], "answer_start": [0.5]}}, "the start 0.5 is not"),
    "true as a start": ({"answers": {"text": ["a"], "answer_start": [True]}}, "start True is not"),
    "a negative start": (
        {"answers": {"text": ["a"], "answer_start": [-1]}},
        "the start -1 is not a place in the context; allowed: a whole number, 0 or more",
    ),
    "more texts than starts": (
        {"answers": {"text": ["a", "b"], "answer_start": [0]}},
        "field 'answers': 1 starts for 2 answers",
    ),
    "starts without texts": (
        {"answers": [], "answer_starts": [3]},
        "field 'answers': 1 starts for 0 answers",
    ),
    "no question": ({"question": None}, "field 'question': the value is missing"),
    "a context of another kind": ({"context": ["a"]}, "field 'context': ['a'] is not a string"),
    "half a surrogate pair": ({"context": "a\ud83d"}, "field 'context': a lone surrogate U+D83D"),
    "an id of another kind": ({"id": [1]}, "field 'id': [1] is not an id"),
    "an empty id": ({"id": " "}, "field 'id': the id is empty"),
}
GOOD = {"question": "q", "context": "a b", "answers": []}


def told(act) -> str:
    """Return the one line in which something fails."""
    with pytest.raises(DataError) as caught:
        act()
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    assert len(line) < 600
    return line


def told_of(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    line = told(lambda: read_rows(path))
    assert line.startswith(str(path))
    return line


@pytest.mark.parametrize("fault", CONLL)
def test_a_fault_in_columns_is_named_by_file_and_line(tmp_path, fault):
    content, expected = CONLL[fault]
    assert expected in told_of(tmp_path / "train.conll", content)


@pytest.mark.parametrize("fault", TAGS)
def test_other_tags_are_told_with_their_word_and_the_cure(tmp_path, fault):
    tags, expected, cure = TAGS[fault]
    lines = [f"w{number} {tag}" for number, tag in enumerate(tags, start=1)]
    (tmp_path / "train.conll").write_text("\n".join(["w O", "", *lines]))
    rows = select_columns(read_rows(tmp_path / "train.conll"), Columns(), ("tokens", "tags"), ())
    line = told(lambda: require_iob2(rows, Columns(tags="ner")))
    assert line.startswith(f"{tmp_path / 'train.conll'}, line 3, field 'ner': the tag of word ")
    assert expected in line
    assert cure in line


def test_one_file_of_iob2_with_a_slip_is_not_taken_for_iob1():
    rows = read_rows([{"tags": ["B-PER", "I-PER"]}, {"tags": ["I-PER"]}])
    line = told(lambda: require_iob2(rows, Columns()))
    assert line.startswith("list, row 2, field 'tags': the tag of word 1 is 'I-PER'")
    assert "IOB1" not in line


@pytest.mark.parametrize("fault", SQUAD)
def test_a_json_file_that_is_not_squad_is_told_with_its_place(tmp_path, fault):
    content, expected = SQUAD[fault]
    line = told_of(tmp_path / "train.json", content)
    assert expected in line
    assert JSONL_INSTEAD in line


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"data":\n["\xe9"]}', "line 2: byte 3 of the line (0xe9) is not UTF-8"),
        ('{"data": []}'.encode("utf-16"), "the file is UTF-16"),
        (b'{"data": []}', "there are no rows"),
        (b"", "the file is empty"),
    ],
)
def test_another_encoding_and_an_empty_file_are_told(tmp_path, content, expected):
    assert expected in told_of(tmp_path / "train.json", content)


def test_a_missing_squad_file_is_told():
    assert "there is no such file" in told(lambda: read_rows("no-such.json"))


@pytest.mark.parametrize("fault", ANSWERS)
def test_a_wrong_answer_is_named_by_row_and_field(fault):
    fields, expected = ANSWERS[fault]
    line = told(lambda: question_rows(read_rows([GOOD, GOOD | fields]), Columns()))
    assert line.startswith("list, row 2, ")
    assert expected in line


def test_a_wrong_answer_in_a_squad_file_is_named_by_its_row(tmp_path):
    wrong = [{"text": "a", "answer_start": None}]
    questions = [{"question": "q", "answers": []}, {"question": "q", "answers": wrong}]
    content = {"data": [{"paragraphs": [{"context": "a", "qas": questions}]}]}
    (tmp_path / "t.json").write_text(json.dumps(content))
    line = told(lambda: question_rows(read_rows(tmp_path / "t.json"), Columns()))
    assert line.startswith(f"{tmp_path / 't.json'}, row 2, field 'answer_starts': the start None")


@pytest.mark.parametrize(
    ("row", "columns", "expected"),
    [
        ({"context": "c"}, Columns(), "no column 'question' (the columns are: context)"),
        ({"context": "c", "query": "q"}, Columns(), "--text-column NAME"),
        ({"question": "q", "contexts": "c"}, Columns(), "add --text-pair-column contexts"),
        ({"question": "q", "context": "c"}, Columns(text="frage"), "there is no column 'frage'"),
        ({"question": "q", "context": "c"}, Columns(), "there is no column 'answers'"),
    ],
)
def test_a_missing_column_of_questions_is_told_with_its_flag(row, columns, expected):
    assert expected in told(lambda: question_rows(read_rows([row]), columns))


JUDGED = {
    "corpus.jsonl": '{"_id": "d1", "text": "a"}\n{"_id": "d2", "text": "b"}\n',
    "queries.jsonl": '{"_id": "q1", "text": "a"}\n',
    "qrels.tsv": "query-id\tcorpus-id\tscore\nq1\td1\t1\n",
}
RETRIEVAL = {
    "an unknown document": (
        {"qrels.tsv": "q1\td1\t1\nq1\tD2\t1\nq1\td3\t0\n"},
        "qrels.tsv, line 2: there is no document 'D2'; of 3 judgements 2 name a document that is "
        "not there; allowed: the ids of corpus.jsonl",
    ),
    "an unknown query": (
        {"qrels.tsv": "q1\td1\t1\n\nq2\td1\t1\n"},
        "qrels.tsv, line 3: there is no query 'q2'; of 2 judgements 1 name a query",
    ),
    "an unknown pair at the top": (
        {"qrels.tsv": "q8\td8\t1\nq1\td1\t1\n"},
        "qrels.tsv, line 1: there is no query 'q8'; of 2 judgements 1 name a query",
    ),
    "a score in words": (
        {"qrels.tsv": "q1\td1\tgood\n"},
        "qrels.tsv, line 1: the score 'good' is not a number",
    ),
    "a score without an end": ({"qrels.tsv": "q1\td1\tinf\n"}, "the score 'inf' is not a number"),
    "a score that is none": ({"qrels.tsv": "q1\td1\tnan\n"}, "the score 'nan' is not a number"),
    "a header in the middle": (
        {"qrels.tsv": "q1\td1\t1\nquery-id\tcorpus-id\tscore\n"},
        "qrels.tsv, line 2: there is no query 'query-id'",
    ),
    "no score": ({"qrels.tsv": "q1\td1\t1\nq1\td1\n"}, "line 2: the number of columns is 2"),
    "blanks between": ({"qrels.tsv": "q1 d1 1\n"}, "line 1: the number of columns is 1"),
    "ids of two words without a score": (
        {"qrels.tsv": "q 1\td 1\n"},
        "line 1: the number of columns is 2",
    ),
    "five words": ({"qrels.tsv": "q1 0 d1 1 x\n"}, "line 1: the number of columns is 1"),
    "no document": ({"qrels.tsv": "q1\t\t1\n"}, "line 1: a column is empty"),
    "latin-1 judgements": ({"qrels.tsv": b"q1\td1\t1\n\xe9\td1\t1\n"}, "line 2: byte 1"),
    "judgements without a line": (
        {"qrels.tsv": "query-id\tcorpus-id\tscore\n"},
        "qrels.tsv: no query has a relevant document; allowed: some scores above 0",
    ),
    "nothing relevant": ({"qrels.tsv": "q1\td1\t0\n"}, "no query has a relevant document"),
    "empty judgements": ({"qrels.tsv": ""}, "qrels.tsv: the file is empty"),
    "no judgements": ({"qrels.tsv": None}, "there is neither qrels.tsv nor qrels/test.tsv"),
    "no documents": ({"corpus.jsonl": None}, "corpus.jsonl: there is no such file"),
    "no queries": ({"queries.jsonl": None}, "queries.jsonl: there is no such file"),
    "an empty corpus": ({"corpus.jsonl": "\n"}, "corpus.jsonl: there are no rows"),
    "an id twice": (
        {"corpus.jsonl": '{"_id": "1", "text": "a"}\n\n{"_id": 1, "text": "b"}\n'},
        "corpus.jsonl, line 3, field '_id': the id '1' stands twice",
    ),
    "a query twice": (
        {"queries.jsonl": '{"id": "q1", "text": "a"}\n{"id": "q1", "text": "b"}\n'},
        "queries.jsonl, line 2, field 'id': the id 'q1' stands twice",
    ),
    "a document without an id": (
        {"corpus.jsonl": '{"_id": "d1", "text": "a"}\n{"text": "b"}\n'},
        "corpus.jsonl, line 2, field '_id': the id is empty",
    ),
    "ids under another name": (
        {"corpus.jsonl": '{"doc": "d1", "text": "a"}\n'},
        "corpus.jsonl: there is no column 'id' (the columns are: doc, text)",
    ),
    "a document without a text": (
        {"corpus.jsonl": '{"_id": "d1", "text": "a"}\n{"_id": "d2", "title": "b"}\n'},
        "corpus.jsonl, line 2, field 'text': the value is missing",
    ),
    "a title of another kind": (
        {"corpus.jsonl": '{"_id": "d1", "text": "a", "title": 7}\n'},
        "corpus.jsonl, line 1, field 'title': 7 is not a string",
    ),
    "a query of another kind": (
        {"queries.jsonl": '{"_id": "q1", "text": ["a"]}\n'},
        "queries.jsonl, line 1, field 'text': ['a'] is not a string",
    ),
}


@pytest.mark.parametrize("fault", RETRIEVAL)
def test_a_fault_in_a_retrieval_set_is_named_by_file_and_line(tmp_path, fault):
    changed, expected = RETRIEVAL[fault]
    for name, content in (JUDGED | changed).items():
        if content is not None:
            raw = content.encode() if isinstance(content, str) else content
            (tmp_path / name).write_bytes(raw)
    line = told(lambda: read_retrieval(tmp_path))
    assert line.startswith(str(tmp_path))
    assert expected in line


def test_the_set_without_a_fault_is_read(tmp_path):
    for name, content in JUDGED.items():
        (tmp_path / name).write_text(content)
    assert read_retrieval(tmp_path).relevant == [{0: 1.0}]


@pytest.mark.parametrize(("name", "expected"), [("none", "no such folder"), ("file", "is a file")])
def test_a_folder_that_is_none_is_told(tmp_path, name, expected):
    (tmp_path / "file").write_text("")
    line = told(lambda: read_retrieval(tmp_path / name))
    assert expected in line
    assert "corpus.jsonl, queries.jsonl and qrels.tsv or qrels/test.tsv" in line
