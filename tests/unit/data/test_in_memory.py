"""Lists, pandas frames and datasets give the same rows as files do."""

import json

import numpy as np
import pytest

from potstill.data import Columns, Rows, read_rows, select_columns
from potstill.errors import DataError

RECORDS = [{"text": "a", "label": 1}, {"text": "b"}]


@pytest.fixture
def pandas():
    return pytest.importorskip("pandas", reason="pip install pandas")


@pytest.fixture(scope="module")
def datasets():
    return pytest.importorskip("datasets", reason="pip install 'potstill[hub]'")


def test_a_list_of_dicts_is_read_like_jsonl(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, RECORDS)))
    assert read_rows(RECORDS).columns == read_rows(tmp_path / "a.jsonl").columns
    assert read_rows(tuple(RECORDS), limit=1).columns == {"text": ["a"], "label": [1]}


def test_missing_values_of_pandas_become_none(pandas):
    frame = pandas.DataFrame(
        {
            "text": ["a", None, "c"],
            "float": [1.0, np.nan, 3.0],
            "time": [pandas.NaT, pandas.NaT, pandas.NaT],
            "int": pandas.array([1, None, 3], dtype="Int64"),
        }
    )
    assert read_rows(frame).columns == {
        "text": ["a", None, "c"],
        "float": [1.0, None, 3.0],
        "time": [None, None, None],
        "int": [1, None, 3],
    }


def test_a_frame_gives_plain_python_values(pandas):
    frame = pandas.DataFrame(
        {
            "label": np.array([1, 0]),
            "kind": pandas.Categorical(["x", "y"]),
            "object": np.array([np.int64(1), np.array([1, 2])], dtype=object),
        },
        index=[7, 3],
    )
    rows = read_rows(frame)
    assert rows.columns == {"label": [1, 0], "kind": ["x", "y"], "object": [1, [1, 2]]}
    assert [type(value) for value in rows.column("label")] == [int, int]
    assert type(rows.column("object")[0]) is int
    assert rows.where(1) == "DataFrame, row 2"
    assert read_rows(frame, limit=1).column("label") == [1]


def test_a_frame_with_a_column_twice_is_refused(pandas):
    frame = pandas.DataFrame([["a", "b"]], columns=["text", "text"])
    with pytest.raises(DataError, match="stands twice"):
        read_rows(frame)


def test_a_dataset_gives_its_rows_with_the_names_of_its_labels(datasets):
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["no", "yes"]),
            "tags": datasets.Sequence(datasets.ClassLabel(names=["O", "B-PER"])),
        }
    )
    columns = {"text": ["a", "b", "c"], "label": [1, 0, -1], "tags": [[0, 1], [], [1]]}
    dataset = datasets.Dataset.from_dict(columns, features=features)
    rows = read_rows(dataset.with_format("numpy"))
    assert rows == Rows(
        {
            "text": ["a", "b", "c"],
            "label": ["yes", "no", None],
            "tags": [["O", "B-PER"], [], ["B-PER"]],
        },
        "Dataset",
    )
    assert read_rows(dataset, limit=2).columns == rows.take([0, 1]).columns


def test_a_dataset_without_labels_keeps_its_values(datasets):
    dataset = datasets.Dataset.from_list([{"text": "a", "label": 1}, {"text": "b", "label": 0}])
    rows = select_columns(read_rows(dataset), Columns())
    assert rows.columns == {"text": ["a", "b"], "label": ["1", "0"]}


def test_a_dict_of_splits_asks_for_one(datasets):
    split = datasets.Dataset.from_list([{"text": "a"}])
    with pytest.raises(DataError, match="choose one of its splits: train, test"):
        read_rows(datasets.DatasetDict({"train": split, "test": split}))
