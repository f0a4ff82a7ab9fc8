"""Whatever is written to a file of rows is read back, at its line."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from potstill.data import Columns, Rows, read_rows, select_columns
from potstill.errors import DataError, MissingExtraError, RecipeError

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
tables = st.lists(st.tuples(texts, texts), min_size=1, max_size=8)
ENDS = ["\n", "\r\n"]
fields = st.text(
    st.one_of(st.sampled_from('"\tab '), st.characters(codec="utf-8", exclude_characters="\0\r\n"))
)
plain_fields = fields.map(lambda text: text.replace("\t", " "))
NASTY = [('say "hi"', "a\nb"), ("\u2028\u2029\x85\x0b\x0c\x1c", "\t,;"), ("\r", "\r\n"), ("", "")]

DIALECTS = [
    {"lineterminator": "\r\n"},
    # csv quotes a bare carriage return only where it is part of the line end
    {"lineterminator": "\n", "quoting": csv.QUOTE_ALL},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("rows")


def write_delimited(path: Path, table, delimiter: str, **dialect) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter=delimiter, **dialect)
        writer.writerows([("text", "text_pair"), *table])


def write_jsonl(path: Path, table, *, ensure_ascii: bool) -> None:
    rows = [{"text": text, "text_pair": pair} for text, pair in table]
    lines = [json.dumps(row, ensure_ascii=ensure_ascii) for row in rows]
    path.write_bytes("\n".join(lines).encode())


def table_of(rows: Rows) -> list[tuple[str, str]]:
    return list(zip(rows.column("text"), rows.column("text_pair"), strict=True))


@given(table=tables, ensure_ascii=st.booleans())
@example(table=NASTY, ensure_ascii=False)
def test_jsonl_gives_back_what_was_written(folder, table, ensure_ascii):
    write_jsonl(folder / "t.jsonl", table, ensure_ascii=ensure_ascii)
    rows = read_rows(folder / "t.jsonl")
    assert table_of(rows) == table
    assert rows.line_numbers == list(range(1, len(table) + 1))


@given(table=tables, dialect=st.sampled_from(DIALECTS))
@example(table=NASTY, dialect=DIALECTS[0])
@example(table=NASTY, dialect=DIALECTS[1])
def test_csv_gives_back_what_was_written(folder, table, dialect):
    write_delimited(folder / "t.csv", table, ",", **dialect)
    rows = read_rows(folder / "t.csv")
    assert table_of(rows) == table
    assert rows.line_numbers == lines_of_records(table)


@given(
    table=st.lists(st.tuples(fields, fields), min_size=1, max_size=8), ends=st.sampled_from(ENDS)
)
@example(table=[('say "hi"', '"'), ('""', '"a" b'), ("a\tb", '"c\t"'), ("", "")], ends="\n")
def test_tsv_gives_back_what_the_csv_module_wrote(folder, table, ends):
    write_delimited(folder / "t.tsv", table, "\t", lineterminator=ends)
    rows = read_rows(folder / "t.tsv")
    assert table_of(rows) == table
    assert rows.line_numbers == list(range(2, 2 + len(table)))


@given(
    table=st.lists(st.tuples(plain_fields, plain_fields), min_size=1, max_size=8),
    ends=st.sampled_from(ENDS),
)
@example(table=[('"Hello there', "pos"), ("fine", "neg"), ('world"', "neg")], ends="\n")
@example(table=[('"a" and "b"', 'c "d"'), ('"', 'e"'), ('""', '"""')], ends="\r\n")
def test_tsv_without_quoting_is_read_row_for_row(folder, table, ends):
    lines = ["text\ttext_pair", *("\t".join(row) for row in table)]
    (folder / "p.tsv").write_bytes("".join(line + ends for line in lines).encode())
    rows = read_rows(folder / "p.tsv")
    assert rows.line_numbers == list(range(2, 2 + len(table)))
    for found, written in zip(table_of(rows), table, strict=True):
        for field, text in zip(found, written, strict=True):
            assert field == (text[1:-1].replace('""', '"') if is_in_marks(text) else text)


def is_in_marks(text: str) -> bool:
    """Tell whether csv would read a field of this text as one in marks, and find it in order."""
    if not text.startswith('"'):
        return False
    try:
        return len(next(csv.reader([text], strict=True), [])) == 1 and text[-1] == '"'
    except csv.Error:
        return False


def test_a_column_of_plain_lines_may_hold_marks(tmp_path):
    lines = ['"Well', "said", 'he "said', '"so" it', '"whole"', 'end"', '"open']
    (tmp_path / "a.tsv").write_text("\n".join(["text", *lines]))
    assert read_rows(tmp_path / "a.tsv").column("text") == [*lines[:4], "whole", *lines[5:]]


def lines_of_records(table) -> list[int]:
    """Count the line breaks in the fields of all records before each one."""
    breaks = [sum(field.count("\n") for field in record) for record in table]
    return [2 + index + sum(breaks[:index]) for index in range(len(table))]


@given(table=tables)
@example(table=NASTY)
def test_parquet_gives_back_what_was_written(folder, table):
    pyarrow = pytest.importorskip("pyarrow", reason="pip install 'potstill[parquet]'")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"text": [text for text, _ in table], "text_pair": [pair for _, pair in table]}
    parquet.write_table(pyarrow.table(columns), folder / "t.parquet")
    rows = read_rows(folder / "t.parquet")
    assert table_of(rows) == table
    assert rows.where(0) == f"{folder / 't.parquet'}, row 1"


@pytest.mark.parametrize("batch_rows", [4, 65_536])
def test_every_table_stops_at_the_limit(folder, monkeypatch, batch_rows):
    monkeypatch.setattr("potstill.data.parquet._BATCH_ROWS", batch_rows)
    pyarrow = pytest.importorskip("pyarrow", reason="pip install 'potstill[parquet]'")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = [(str(number), "") for number in range(20)]
    write_jsonl(folder / "l.jsonl", table, ensure_ascii=True)
    write_delimited(folder / "l.csv", table, ",")
    write_delimited(folder / "l.tsv", table, "\t")
    columns = {"text": [text for text, _ in table], "text_pair": [""] * 20}
    parquet.write_table(pyarrow.table(columns), folder / "l.parquet", row_group_size=3)
    for suffix in (".jsonl", ".csv", ".tsv", ".parquet"):
        assert table_of(read_rows(folder / f"l{suffix}", limit=7)) == table[:7]
        assert table_of(read_rows(folder / f"l{suffix}", limit=99)) == table


def test_faults_behind_the_limit_are_not_met(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\nbroken\n')
    assert len(read_rows(tmp_path / "a.jsonl", limit=1)) == 1


def test_a_limit_below_one_is_refused():
    with pytest.raises(RecipeError, match="1 or more"):
        read_rows([{"text": "a"}], limit=0)


def test_blank_lines_are_skipped_and_counted(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'\n{"text": "a"}\r\n \t\r\n\n{"text": "b"}')
    (tmp_path / "a.csv").write_bytes(b'text\n\n"a\n\nb"\n\r\nc\n')
    assert read_rows(tmp_path / "a.jsonl").line_numbers == [2, 5]
    assert read_rows(tmp_path / "a.csv").line_numbers == [3, 7]
    assert read_rows(tmp_path / "a.csv").column("text") == ["a\n\nb", "c"]


@pytest.mark.parametrize(
    ("name", "content"), [("a.jsonl", '{"text": "ä"}'), ("a.csv", "text\nä"), ("a.tsv", "text\nä")]
)
def test_a_byte_order_mark_at_the_start_is_skipped(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8-sig")
    assert read_rows(tmp_path / name).columns == {"text": ["ä"]}


def test_a_byte_order_mark_inside_a_text_stays(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "\ufeffa"}\n{"text": "\ufeff"}', encoding="utf-8")
    assert read_rows(tmp_path / "a.jsonl").column("text") == ["\ufeffa", "\ufeff"]


def test_columns_are_the_union_of_keys_and_gaps_are_none(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"label": 1, "text": "b"}\n{"id": 2}')
    assert read_rows(tmp_path / "a.jsonl").columns == {
        "text": ["a", "b", None],
        "label": [None, 1, None],
        "id": [None, None, 2],
    }


def test_of_a_key_that_stands_twice_the_last_value_wins(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "first", "text": "last"}')
    assert read_rows(tmp_path / "a.jsonl").column("text") == ["last"]


def test_a_field_may_be_longer_than_the_csv_module_allows_and_its_limit_stays(tmp_path):
    before = csv.field_size_limit()
    text = "x" * (before + 1)
    write_delimited(tmp_path / "a.csv", [(text, "")], ",")
    assert read_rows(tmp_path / "a.csv").column("text") == [text]
    assert csv.field_size_limit() == before
    write_delimited(tmp_path / "a.tsv", [(f"\t{text}", "")], "\t")
    assert read_rows(tmp_path / "a.tsv").column("text") == [f"\t{text}"]
    assert csv.field_size_limit() == before
    (tmp_path / "b.csv").write_text('text\n"open')
    with pytest.raises(DataError):
        read_rows(tmp_path / "b.csv")
    assert csv.field_size_limit() == before


def test_the_suffix_is_known_in_capitals_and_paths_may_be_strings(tmp_path):
    (tmp_path / "A.JSONL").write_text('{"text": "a"}')
    rows = read_rows(str(tmp_path / "A.JSONL"))
    assert rows.source == str(tmp_path / "A.JSONL")


def test_rows_pass_through_and_are_limited():
    rows = Rows({"text": ["a", "b"]}, "list")
    assert read_rows(rows) is rows
    assert read_rows(rows, limit=1).column("text") == ["a"]
    assert read_rows(rows, limit=5).column("text") == ["a", "b"]


def test_parquet_without_pyarrow_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'potstill\[parquet\]'"):
        read_rows(tmp_path / "a.parquet")


def test_every_real_file_with_text_and_label_loads(shared_data):
    loaded = 0
    for path in sorted(shared_data.glob("*/*.jsonl")):
        rows = read_rows(path)
        with path.open("rb") as stream:
            assert len(rows) == sum(1 for _ in stream)
        if "text" in rows and "label" in rows:
            kind = "number" if path.parent.name == "stsb" else "class"
            assert len(select_columns(rows, Columns(), label_kind=kind)) == len(rows)
            loaded += 1
    assert loaded >= 24


def test_the_sentiment_treebank_has_its_published_sizes(shared_data):
    sizes = [len(read_rows(shared_data / "sst2" / f"{n}.jsonl")) for n in ("train", "dev", "test")]
    assert sizes == [6920, 872, 1821]


def test_importing_the_package_loads_no_optional_library():
    heavy = {"torch", "transformers", "pandas", "pyarrow", "datasets", "orjson"}
    code = "import sys, potstill.data; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ended.stdout.split())
    assert "potstill.data" in loaded
    assert not heavy & loaded
