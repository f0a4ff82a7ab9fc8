"""Columns are renamed, checked and brought into canonical form."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data import Columns, Rows, count_empty_texts, select_columns
from potstill.errors import DataError


def one_label(value, **settings):
    rows = Rows({"text": ["a"], "label": [value]}, "list")
    return select_columns(rows, Columns(), **settings).column("label")[0]


def test_columns_are_renamed_and_all_others_left_out():
    rows = Rows({"sentence": ["a"], "gold": ["x"], "id": [7]}, "train.csv", [2])
    selected = select_columns(rows, Columns(text="sentence", label="gold"))
    assert selected == Rows({"text": ["a"], "label": ["x"]}, "train.csv", [2])


def test_an_optional_column_is_taken_if_it_is_there():
    rows = Rows({"text": ["a"], "b": ["c"], "label": ["x"]}, "list")
    assert select_columns(rows, Columns(text_pair="b")).column("text_pair") == ["c"]


def test_an_optional_column_without_any_value_counts_as_absent():
    rows = Rows({"text": ["a"], "text_pair": [None], "label": ["x"]}, "list")
    assert "text_pair" not in select_columns(rows, Columns())


@pytest.mark.parametrize(
    ("value", "canonical"),
    [
        ("1", "1"),
        (1, "1"),
        (1.0, "1"),
        (-0.0, "0"),
        (True, "true"),
        (False, "false"),
        (np.int64(1), "1"),
        (np.float32(1), "1"),
        (np.bool_(True), "true"),  # noqa: FBT003  the value itself is under test
        (" spam ", "spam"),
        ("1.0", "1.0"),
        ("Ärger", "Ärger"),
    ],
)
def test_a_label_has_one_canonical_form(value, canonical):
    assert one_label(value) == canonical


@given(st.one_of(st.integers(), st.booleans(), st.text(st.characters(codec="utf-8"), min_size=1)))
def test_the_canonical_form_of_a_label_is_its_own(value):
    if isinstance(value, str) and not value.strip():
        return
    assert one_label(one_label(value)) == one_label(value)


@pytest.mark.parametrize(("value", "target"), [(2.5, 2.5), ("2.5", 2.5), (3, 3.0), ("-1e3", -1e3)])
def test_a_label_of_kind_number_is_a_float(value, target):
    found = one_label(value, label_kind="number")
    assert found == target
    assert type(found) is float


def test_tags_take_the_form_of_labels_and_arrays_become_lists():
    rows = Rows({"tokens": [np.array(["EU", "rejects"])], "tags": [np.array([3, 0])]}, "list")
    selected = select_columns(rows, Columns(), ("tokens", "tags"))
    assert selected.columns == {"tokens": [["EU", "rejects"]], "tags": [["3", "0"]]}


def test_an_empty_text_is_allowed_but_counted():
    rows = Rows({"text": ["", "a", " \n", "\u3000"], "label": [1, 1, 0, 0]}, "list")
    assert count_empty_texts(select_columns(rows, Columns())) == 3


def test_texts_are_never_changed():
    odd = ["  a ", "\u2028", "e\u0301", "\U0001f600", "\0"]
    rows = Rows({"text": odd}, "list")
    assert select_columns(rows, Columns(), ("text",)).column("text") == odd


def test_the_input_is_never_changed():
    rows = Rows({"text": ["a"], "label": [1]}, "list")
    select_columns(rows, Columns())
    assert rows == Rows({"text": ["a"], "label": [1]}, "list")


def test_a_close_name_is_offered_with_its_flag():
    rows = Rows({"My Text": ["a"], "label": ["x"]}, "train.csv")
    with pytest.raises(DataError, match="--text-column 'My Text'"):
        select_columns(rows, Columns(text="my_text"))


def test_a_column_that_has_its_own_use_is_not_offered_for_another():
    rows = Rows({"text": ["a"], "label": ["x"]}, "pairs.csv")
    with pytest.raises(DataError, match=r"--text-pair-column NAME$"):
        select_columns(rows, Columns(), ("text", "text_pair"))


def test_a_name_without_a_close_one_names_the_flag():
    rows = Rows({"text": ["a"], "b": ["x"]}, "train.csv")
    with pytest.raises(DataError, match=r"text, b.*--text-pair-column NAME"):
        select_columns(rows, Columns(), ("text", "text_pair"))
