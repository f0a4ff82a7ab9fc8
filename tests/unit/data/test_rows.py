"""Rows know their length, their columns and where each of them came from."""

import pytest

from potstill.data import Rows
from potstill.data.rows import joined
from potstill.errors import DataError

LINES = Rows({"text": ["a", "b", "c"], "label": ["x", "y", "z"]}, "train.jsonl", [1, 4, 9])
NO_LINES = Rows({"text": ["a", "b", "c"]}, "train.parquet")


def test_a_row_is_named_by_file_line_and_field():
    assert LINES.where(1) == "train.jsonl, line 4"
    assert LINES.where(2, "label") == "train.jsonl, line 9, field 'label'"


def test_rows_without_lines_are_counted_from_one():
    assert NO_LINES.where(0) == "train.parquet, row 1"


@pytest.mark.parametrize(
    ("rows", "place"), [(LINES, "train.jsonl, line 9"), (NO_LINES, "train.parquet, row 3")]
)
def test_a_taken_row_still_knows_where_it_came_from(rows, place):
    twice = rows.take([2, 0]).take([0])
    assert twice.column("text") == ["c"]
    assert twice.where(0) == place


def test_taking_keeps_all_columns_in_the_order_given():
    taken = LINES.take([2, 0, 0])
    assert taken.columns == {"text": ["c", "a", "a"], "label": ["z", "x", "x"]}
    assert len(taken) == 3


def test_taking_nothing_gives_no_rows_but_the_same_columns():
    assert list(LINES.take([]).columns) == ["text", "label"]
    assert len(LINES.take([])) == len(NO_LINES.take([])) == 0


def test_a_missing_column_is_told_with_those_that_are_there():
    with pytest.raises(DataError, match=r"train.jsonl: .*'tokens'.*text, label"):
        LINES.column("tokens")


def test_a_long_list_of_columns_is_cut():
    wide = Rows({f"c{number}": [] for number in range(25)}, "wide.csv")
    assert wide.column_list().endswith("c18, c19 and 5 more")


def test_columns_of_two_lengths_are_a_bug():
    with pytest.raises(AssertionError):
        Rows({"text": ["a"], "label": []}, "list")
    with pytest.raises(AssertionError):
        Rows({"text": ["a"]}, "list", line_numbers=[1, 2])


def test_rows_of_several_sources_keep_the_columns_that_all_have() -> None:
    pairs = Rows({"text": ["a", "b"], "text_pair": ["x", "y"], "label": ["1", "2"]}, "one")
    more = Rows({"text": ["c", ""], "text_pair": ["z", "w"], "id": ["3", "4"]}, "two")
    found = joined([pairs, more], without="label")
    assert dict(found.columns) == {"text": ["a", "b", "c"], "text_pair": ["x", "y", "z"]}
    assert found.source == "one, two"
    texts = Rows({"text": ["d"]}, "three")
    assert dict(joined([pairs, texts]).columns) == {"text": ["a", "b", "d"]}


def test_of_several_sources_only_rows_without_a_value_are_left_out() -> None:
    values = [0, False, 0.0, [], None, "", "x"]
    first = Rows({"text": [str(n) for n in range(7)], "idx": values}, "one")
    found = joined([first, Rows({"text": ["z"], "idx": [0]}, "two")])
    assert found.column("text") == ["0", "1", "2", "3", "6", "z"]
    assert found.column("idx") == [0, False, 0.0, [], "x", 0]


def test_sources_without_a_common_column_are_refused() -> None:
    with pytest.raises(DataError, match=r"^one, two: these sources have no column in common"):
        joined([Rows({"text": ["a"]}, "one"), Rows({"body": ["b"]}, "two")])
