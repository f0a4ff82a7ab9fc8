"""Texts to check or to measure on are read as strictly as all others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from potstill.data.plain_texts import plain_texts
from potstill.errors import DataError


def file_of(place: Path, values: list[object]) -> Path:
    file = place / "rows.jsonl"
    file.write_text("".join(json.dumps({"body": value}) + "\n" for value in values))
    return file


def test_a_column_comes_out_as_it_is(tmp_path: Path) -> None:
    file = file_of(tmp_path, ["a film", "", " boring "])
    assert plain_texts(file, "body") == ["a film", "", " boring "]
    assert plain_texts(file, "body", limit=1) == ["a film"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a film", None], r"rows\.jsonl, line 2, field 'body': the value is missing"),
        (["a film", ["a", "b"]], r"rows\.jsonl, line 2, field 'body': \['a', 'b'\] is not a str"),
        ([7], r"rows\.jsonl, line 1, field 'body': 7 is not a string"),
        (["", " \n"], r"rows\.jsonl: all 2 texts are empty"),
    ],
)
def test_what_is_no_text_is_refused_with_its_line(
    tmp_path: Path, values: list[object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        plain_texts(file_of(tmp_path, values), "body")


def test_no_row_and_no_such_column_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there are no rows"):
        plain_texts([], "text")
    with pytest.raises(DataError, match=r"no column 'text' .*body.*--text-column"):
        plain_texts(file_of(tmp_path, ["a film"]), "text")
