"""Bad rows: each fault ends in one line that names file, line and field, and says what is right."""

import errno
from pathlib import Path

import pytest

from potstill.data import Columns, read_rows, select_columns
from potstill.errors import DataError

JSONL = {
    "a comma at the end": (b'{"text": "a"}\n\n{"text": 1,}', "line 3, column 11: not valid JSON"),
    "an open string": (b'{"text": "a', "line 1, column 12: not valid JSON"),
    "a nan": (b'{"label": NaN}', "line 1, column 11: not valid JSON"),
    "two objects in a line": (b'{"text": "a"} {"text": "b"}', "line 1, column 15: not valid JSON"),
    "one big list": (b'[\n{"text": "a"}\n]', "one whole JSON object a line"),
    "a NUL": (b'{"text": "a\0"}', "line 1, column 12: not valid JSON"),
    "too deep": (b"[" * 5000, "line 1, column"),
    "a list": (b'{"text": "a"}\n["a"]', "line 2: the row is of type list"),
    "a bare number": (b"7", "line 1: the row is of type int"),
    "null": (b'{"text": "a"}\n\nnull', "line 3: the row is of type NoneType"),
    "no fields": (b"{}", "line 1: the row is an object without fields"),
    "latin-1": (b'{"text": "a"}\n{"text": "\xe9"}', "line 2: byte 11 of the line (0xe9) is not"),
    "encoded surrogate": (b'{"text": "\xed\xa0\x80"}', "line 1: byte 11 of the line (0xed) is not"),
    "escaped high surrogate": (b'{"text": "\\ud83d"}', "line 1, column 11: a lone surrogate"),
    "escaped low surrogate": (b'{"text": "\\ude00"}', "line 1, column 11: a lone surrogate"),
    "nothing but blank lines": (b"\n \n", "there are no rows"),
    "nothing but a mark": (b"\xef\xbb\xbf", "there are no rows"),
    "nothing at all": (b"", "the file is empty"),
}
CSV = {
    "too many fields": (b"text,label\na,b\n\nc,d,e\n", "line 4: the record has 3 fields"),
    "too few fields": (b"text,label\na,b\n\nd\n", "line 4: the record has 1 fields"),
    "bare carriage returns": (
        b"text,label\ra,b\r",
        "line 1: a carriage return stands outside of quotes",
    ),
    "a NUL": (b"text,label\na,\0\n", "line 2: byte 3 of the line is NUL"),
    "latin-1": (b"text,label\nb\xe9,c\n", "line 2: byte 2 of the line (0xe9) is not UTF-8"),
    "a name twice": (b"\ntext,label,text\na,b,c\n", "line 2: the header names 'text' more than"),
    "a header alone": (b"text,label\n", "there are no rows"),
    "nothing but blank lines": (b"\n\r\n", "there are no rows"),
    "nothing at all": (b"", "the file is empty"),
}
QUOTED_CSV = {
    "too few fields": (b'text,label\n"a\nb",c\nd\n', "line 4: the record has 1 fields"),
    "an open quote": (b'text,label\na,b\n"c,d\ne,f\n', "line 3: the quoting is broken"),
    "a quote in the middle": (b'text,label\n"a" b,c\n', "line 2: the quoting is broken"),
}
OTHER_FORMATS = (
    "allowed: one record a line, with a tab between fields; to mend it: write texts that hold line "
    "breaks or tabs to a .jsonl or .csv file"
)
OVER_LINES = "a quotation mark is opened that closes at the end of line"
QUOTED_TSV = {
    "a text of two lines, first": (
        b'text\tlabel\n"a\nb"\tc\n',
        "line 2: the record has 1 fields, the header has 2, and a quotation mark is opened that "
        f"does not close on the line; {OTHER_FORMATS}",
    ),
    "a text of two lines, last": (
        b'label\ttext\na\t"b\nc"\n',
        f"line 3: the record has 1 fields, the header has 2; {OTHER_FORMATS}",
    ),
    "a text of two lines, alone": (
        b'text\nx\n"a ""b\n""c""\n\nd"\ny\n',
        f"line 3: {OVER_LINES} 6: one text or several; {OTHER_FORMATS}",
    ),
    "a tab outside of marks": (
        b'text\tlabel\na "b\tc" d\te\n',
        f"line 2: the record has 3 fields, the header has 2; {OTHER_FORMATS}",
    ),
}


def told(source) -> str:
    """Return the one line in which reading and selecting fails."""
    with pytest.raises(DataError) as caught:
        select_columns(read_rows(source), Columns())
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    assert caught.value.exit_status == 2
    return line


def told_of(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    line = told(path)
    assert line.startswith(str(path))
    return line


@pytest.mark.parametrize("fault", JSONL)
def test_a_fault_in_jsonl_is_named_by_file_and_line(tmp_path, fault):
    content, expected = JSONL[fault]
    assert expected in told_of(tmp_path / "train.jsonl", content)


@pytest.mark.parametrize("fault", CSV)
def test_a_fault_in_csv_is_named_by_file_and_line(tmp_path, fault):
    content, expected = CSV[fault]
    assert expected in told_of(tmp_path / "train.csv", content)
    tabs = content.replace(b",", b"\t")
    assert expected in told_of(tmp_path / "train.tsv", tabs)


@pytest.mark.parametrize(
    ("name", "fault"),
    [*(("csv", each) for each in QUOTED_CSV), *(("tsv", each) for each in QUOTED_TSV)],
)
def test_a_fault_of_quoting_is_named_by_file_and_line(tmp_path, name, fault):
    content, expected = (QUOTED_CSV if name == "csv" else QUOTED_TSV)[fault]
    assert expected in told_of(tmp_path / f"train.{name}", content)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["train.jsonl", "train.csv", "train.tsv"])
def test_another_unicode_encoding_is_told_by_its_name(tmp_path, name, encoding):
    line = told_of(tmp_path / name, '{"text": "a"}\n'.encode(encoding))
    assert f"the file is {encoding[:6].upper()}" in line
    assert "iconv -f" in line


def test_a_missing_file_is_told_with_a_close_name(tmp_path):
    (tmp_path / "train.jsonl").write_text("{}")
    line = told(tmp_path / "trains.jsonl")
    assert "there is no such file" in line
    assert f"did you mean {tmp_path / 'train.jsonl'}?" in line


@pytest.mark.parametrize("name", ["no/such/train.csv", "train.parquet", "\0.jsonl"])
def test_a_missing_file_without_a_close_name_is_told(tmp_path, name):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="pip install 'potstill[parquet]'")
    assert "there is no such file; to mend it: check the path" in told(tmp_path / name)


def test_a_name_too_long_is_told(tmp_path):
    assert "cannot be read: File name too long" in told(tmp_path / f"{'x' * 300}.csv")


@pytest.mark.parametrize("name", ["train", "train.jsonl"])
def test_a_folder_is_told(tmp_path, name):
    (tmp_path / name).mkdir()
    assert "this is a folder" in told(tmp_path / name)


@pytest.mark.parametrize(
    ("code", "expected"),
    [(errno.EACCES, "no permission to read the file"), (errno.EIO, "cannot be read: ")],
)
def test_a_file_that_cannot_be_opened_is_told(tmp_path, monkeypatch, code, expected):
    (tmp_path / "train.jsonl").write_text('{"text": "a"}')

    def refuse(path, *args, **kwargs):
        raise OSError(code, "refused", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    assert expected in told(tmp_path / "train.jsonl")


@pytest.mark.parametrize("name", ["train.xlsx", "train", "train.jsonl.gz"])
def test_an_unknown_suffix_is_told_with_those_that_are_known(tmp_path, name):
    assert "allowed: .jsonl, .csv, .tsv, .parquet" in told(tmp_path / name)


def test_a_json_file_is_told_to_become_jsonl(tmp_path):
    line = told_of(tmp_path / "train.json", b'[{"text": "a", "label": "x"}]')
    assert "name the file .jsonl" in line


@pytest.mark.parametrize("content", [b"not parquet", b"PAR1 cut off PAR1"])
def test_a_broken_parquet_file_is_told(tmp_path, content):
    pytest.importorskip("pyarrow", reason="pip install 'potstill[parquet]'")
    assert "not a whole Parquet file" in told_of(tmp_path / "train.parquet", content)


def test_a_parquet_file_cut_short_is_told(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pip install 'potstill[parquet]'")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"text": ["a"] * 1000}), tmp_path / "whole.parquet")
    whole = (tmp_path / "whole.parquet").read_bytes()
    assert "not a whole Parquet file" in told_of(tmp_path / "cut.parquet", whole[:-10])
    holed = whole[:4] + b"\xff" * 40 + whole[44:]
    assert "read" in told_of(tmp_path / "holed.parquet", holed)


def test_a_parquet_file_with_a_column_twice_is_told(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pip install 'potstill[parquet]'")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table([["a"], ["b"]], names=["text", "text"])
    parquet.write_table(table, tmp_path / "train.parquet")
    assert "stands twice" in told(tmp_path / "train.parquet")


@pytest.mark.parametrize("source", [None, 7, {"text": ["a"]}, {"a"}, (x for x in "ab")])
def test_a_source_of_another_type_is_told_with_those_that_are_known(source):
    assert "allowed: a path (.jsonl" in told(source)


def test_a_list_is_named_by_its_rows():
    assert told([{"text": "a"}, "b"]).startswith("list, row 2: the row is of type str")
    assert told([{"text": "a"}, {}]).startswith("list, row 2: the row is an object without")
    assert told([{1: "a"}]).startswith("list: the field name 1 is of type int")
    assert told([]) == "list: there are no rows"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ('{"text": null, "label": "x"}', "field 'text': the value is missing"),
        ('{"label": "x"}', "field 'text': the value is missing"),
        ('{"text": 3.5, "label": "x"}', "field 'text': 3.5 is not a string"),
        ('{"text": ["a"], "label": "x"}', "field 'text': ['a'] is not a string"),
        ('{"text": "a", "text_pair": "b", "label": "x"}', "field 'text_pair': the value is miss"),
        ('{"text": "a"}', "field 'label': the label is empty"),
        ('{"text": "a", "label": null}', "field 'label': the label is empty"),
        ('{"text": "a", "label": ""}', "field 'label': the label is empty"),
        ('{"text": "a", "label": " "}', "field 'label': the label is empty"),
        ('{"text": "a", "label": 2.5}', "field 'label': 2.5 is not the name of a class"),
        ('{"text": "a", "label": 1e999}', "column"),
        ('{"text": "a", "label": ["x"]}', "field 'label': ['x'] is not the name of a class"),
    ],
)
def test_a_wrong_value_is_named_by_file_line_and_field(tmp_path, fields, expected):
    path = tmp_path / "train.jsonl"
    line = told_of(path, b'\n{"text": "a", "label": "x"}\n' + fields.encode())
    # where the pair is the fault, it is the first row that lacks it
    number = 2 if "text_pair" in expected else 3
    assert f"train.jsonl, line {number}" in line
    assert expected in line


def test_a_field_is_named_as_the_user_names_it(tmp_path):
    (tmp_path / "train.csv").write_text('sentence,gold\n"a\nb",x\nc,\n')
    with pytest.raises(DataError, match="line 4, field 'gold': the label is empty"):
        select_columns(read_rows(tmp_path / "train.csv"), Columns(text="sentence", label="gold"))


def test_a_missing_column_is_told_with_flag_and_names(tmp_path):
    line = told_of(tmp_path / "train.csv", b"Texts,label\na,b\n")
    assert "there is no column 'text' (the columns are: Texts, label)" in line
    assert "did you mean 'Texts'? then add --text-column Texts" in line


@pytest.mark.parametrize("header", ["body,intent", "intent,body", "context,label_id", "next,class"])
def test_a_column_that_is_only_a_little_like_the_missing_one_is_not_proposed(tmp_path, header):
    line = told_of(tmp_path / "train.csv", f"{header}\na,b\n".encode())
    assert f"(the columns are: {header.replace(',', ', ')})" in line
    assert line.endswith("to mend it: name the right one with --text-column NAME")


@pytest.mark.parametrize("name", ["texts", "TEXT", "text_", "teext"])
def test_a_column_that_is_much_like_the_missing_one_is_proposed(tmp_path, name):
    line = told_of(tmp_path / "train.csv", f"{name},intent\na,b\n".encode())
    assert line.endswith(f"did you mean {name!r}? then add --text-column {name}")


def test_a_lone_surrogate_in_a_list_is_told_with_its_place():
    line = told([{"text": "a", "label": "x"}, {"text": "ab\ud800", "label": "x"}])
    assert "list, row 2, field 'text': a lone surrogate U+D800 stands at character 3" in line
    assert "field 'label': a lone surrogate U+DC00" in told([{"text": "a", "label": "\udc00"}])


def test_a_long_value_is_cut_in_the_message():
    assert len(told([{"text": ["x" * 10_000], "label": "x"}])) < 150


@pytest.mark.parametrize("value", ["high", None, True, float("nan"), float("inf"), [1.0], ""])
def test_a_target_that_is_no_number_is_told(value):
    with pytest.raises(DataError, match=r"field 'label': .*allowed: a finite number"):
        select_columns(read_rows([{"text": "a", "label": value}]), Columns(), label_kind="number")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"tokens": "EU rejects", "tags": ["O"]}, "field 'tokens': 'EU rejects' is not a list"),
        ({"tokens": ["EU", None], "tags": ["O", "O"]}, "field 'tokens': the value is missing"),
        ({"tokens": ["EU"], "tags": [""]}, "field 'tags': the label is empty"),
        ({"tokens": ["EU"], "tags": None}, "field 'tags': the value is missing"),
        ({"tokens": ["EU", "rejects"], "tags": ["O"]}, "field 'tags': 1 tags for 2 tokens"),
    ],
)
def test_wrong_tokens_and_tags_are_told(row, expected):
    with pytest.raises(DataError, match=f"list, row 1, {expected}"):
        select_columns(read_rows([row]), Columns(), ("tokens", "tags"))
