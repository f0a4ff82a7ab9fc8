"""Retrieval sets are read as BEIR lays them out, real ones too."""

import json

import pytest

from potstill.data.retrieval import read_retrieval

DOCUMENTS = [
    {"_id": "d1", "title": "Wings", "text": "lift"},
    {"_id": "d2", "title": "", "text": "drag"},
    {"_id": "d3", "title": None, "text": ""},
    {"_id": 4, "title": "Only", "text": ""},
]
QUERIES = [{"_id": "q1", "text": "what lifts"}, {"_id": "q2", "text": "what drags"}]
HEADER = "query-id\tcorpus-id\tscore\n"


@pytest.fixture
def written(tmp_path):
    """Return a function that writes a set and reads it."""

    def write(qrels, documents=DOCUMENTS, queries=QUERIES, name="qrels.tsv"):
        for file, rows in (("corpus.jsonl", documents), ("queries.jsonl", queries)):
            (tmp_path / file).write_text("\n".join(map(json.dumps, rows)))
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(qrels)
        return read_retrieval(tmp_path)

    return write


def test_title_and_text_are_joined_where_both_are_there(written):
    found = written("q1\td1\t1")
    assert found.documents == ["Wings lift", "drag", "", "Only"]
    assert found.document_ids == ["d1", "d2", "d3", "4"]
    assert found.queries == ["what lifts", "what drags"]
    assert found.query_ids == ["q1", "q2"]


def test_grades_name_documents_by_their_number(written):
    found = written(f"{HEADER}q1\td2\t3\nq1\td1\t1\nq2\t4\t0.5\n")
    assert found.relevant == [{1: 3.0, 0: 1.0}, {3: 0.5}]
    assert found.unjudged == 0


@pytest.mark.parametrize("header", [HEADER, "qid\tdocid\trelevance\n", "", "\n" + HEADER])
def test_a_header_may_stand_or_not(written, header):
    assert written(f"{header}q1\td1\t2").relevant == [{0: 2.0}, {}]


def test_grades_of_zero_and_below_mean_not_relevant(written):
    found = written("q1\td1\t1\nq1\td2\t0\nq1\t4\t-1\nq2\td1\t-1\n")
    assert found.relevant == [{0: 1.0}, {}]
    assert found.unjudged == 1


def test_of_a_pair_judged_twice_the_highest_grade_counts(written):
    lines = ["q1\td1\t1", "q1\td1\t3", "q1\td1\t-1"]
    for order in (lines, lines[::-1]):
        assert written("\n".join(order)).relevant == [{0: 3.0}, {}]


def test_blanks_line_ends_and_empty_lines_are_no_part_of_an_id(written):
    assert written("q1 \t d1\t 1 \r\n\n \t \nq2\td2\t1\t\n").relevant == [{0: 1.0}, {1: 1.0}]


def test_four_columns_of_trec_are_read(written):
    assert written("q1\t0\td1\t1\nq2\tQ0\td2\t2\n").relevant == [{0: 1.0}, {1: 2.0}]


@pytest.mark.parametrize("header", ["", "query iter document grade\n"])
def test_trec_puts_blanks_between_its_columns(written, header):
    qrels = "q1 0 d1 1\n q1  Q0  d2   2 \r\nq2 0 d2 -1\nq2 0 4 1\n"
    assert written(header + qrels).relevant == [{0: 1.0, 1: 2.0}, {3: 1.0}]


@pytest.mark.parametrize("qrels", ["q 1\td 1\t2\n", "q 1\t0\td 1\t2\n"])
def test_blanks_between_tabs_belong_to_an_id(written, qrels):
    documents, queries = [{"_id": "d 1", "text": "a"}], [{"_id": "q 1", "text": "b"}]
    assert written(qrels, documents, queries).relevant == [{0: 2.0}]


def test_judgements_may_lie_in_a_folder_of_their_own_but_those_beside_go_first(written):
    assert written("q1\td1\t1", name="qrels/test.tsv").relevant == [{0: 1.0}, {}]
    assert written("q1\td2\t1").relevant == [{1: 1.0}, {}]


def test_documents_need_no_title_and_ids_may_be_called_id(written):
    found = written(
        "1\t7\t1", documents=[{"id": 7, "text": "a"}], queries=[{"id": "1", "text": "b"}]
    )
    assert (found.documents, found.relevant) == (["a"], [{0: 1.0}])


@pytest.mark.parametrize(
    ("name", "documents", "queries", "relevant", "unjudged"),
    [("cranfield", 1400, 225, 1612, 0), ("cacm", 3204, 64, 796, 12)],
)
def test_real_sets_have_their_sizes(shared_data, name, documents, queries, relevant, unjudged):
    found = read_retrieval(shared_data / name)
    assert (len(found.documents), len(found.queries)) == (documents, queries)
    assert sum(map(len, found.relevant)) == relevant
    assert found.unjudged == unjudged
    assert all(grade > 0 for grades in found.relevant for grade in grades.values())


def test_a_real_query_is_answered_by_its_documents(shared_data):
    found = read_retrieval(shared_data / "cranfield")
    graded = {found.document_ids[number]: grade for number, grade in found.relevant[0].items()}
    assert found.queries[0].startswith("what similarity laws must be obeyed")
    assert (graded["184"], graded["13"], "486" in graded) == (2.0, 4.0, False)
    assert found.documents[183].startswith("scale models for thermo-aeroelastic research .")
