"""Names on the hub: how they are read, which split is taken, what is told when they fail."""

import sys

import pytest

from potstill.data import read_rows
from potstill.errors import DataError, MissingExtraError

datasets = pytest.importorskip("datasets", reason="pip install 'potstill[hub]'")


@pytest.fixture
def asked(monkeypatch):
    """Put a small hub in the place of the real one; return the list of what it was asked."""
    split = datasets.Dataset.from_list([{"text": "a"}, {"text": "b"}])
    everything = {
        ("one", None): {"train": split},
        ("owner/two", None): {"train": split, "test": split.select([1])},
        ("owner/two", "small"): {"test": split},
        ("glue", "sst2"): {"train": split},
    }
    calls = []

    def load_dataset(path, name=None, *, split=None):
        calls.append((path, name, split))
        if (path, name) not in everything:
            raise datasets.exceptions.DatasetNotFoundError(f"Dataset '{path}' doesn't exist")
        splits = everything[path, name]
        if split is not None and split not in splits:
            raise ValueError(f'Unknown split "{split}".\nShould be one of {list(splits)}.')
        return datasets.DatasetDict(splits) if split is None else splits[split]

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return calls


def test_an_only_split_needs_no_name(asked):
    rows = read_rows("hub:one")
    assert rows.columns == {"text": ["a", "b"]}
    assert rows.where(1) == "hub:one, row 2"
    assert read_rows("hub:one", limit=1).columns == {"text": ["a"]}


def test_one_of_several_splits_must_be_named(asked):
    with pytest.raises(DataError, match=r"several splits: train, test; .*hub:owner/two:train"):
        read_rows("hub:owner/two")
    assert read_rows("hub:owner/two:test").columns == {"text": ["b"]}


def test_a_third_part_is_the_configuration(asked):
    read_rows("hub:owner/two/small:test")
    assert asked == [("owner/two", "small", "test")]


def test_two_parts_are_owner_and_name_or_else_name_and_configuration(asked):
    read_rows("hub:glue/sst2")
    assert asked == [("glue/sst2", None, None), ("glue", "sst2", None)]


@pytest.mark.parametrize("name", ["hub:", "hub:/", "hub:a/", "hub:a/b/c/d", "hub::train"])
def test_a_malformed_name_never_reaches_the_hub(asked, name):
    with pytest.raises(DataError, match="OWNER/NAME/CONFIG"):
        read_rows(name)
    assert asked == []


def told_by(name: str) -> str:
    with pytest.raises(DataError) as caught:
        read_rows(name)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{name}: ")
    return str(caught.value)


def test_an_unknown_name_is_told_with_the_cure(asked):
    assert "'owner/none' doesn't exist" in told_by("hub:owner/none")
    assert "hf auth login" in told_by("hub:owner/none")


def test_an_unknown_split_is_told_with_those_that_are_there(asked):
    assert "Should be one of ['train']" in told_by("hub:one:dev")


def test_out_of_reach_is_told_with_the_reason(asked, monkeypatch):
    def unreachable(*args, **kwargs):
        raise ConnectionError("Couldn't reach 'one' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    assert "check the network" in told_by("hub:one")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in told_by("hub:one")


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'potstill\[hub\]'"):
        read_rows("hub:one")
