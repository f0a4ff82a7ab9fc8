"""Overlap of test and train: the fast search finds what a slow twin finds."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data import Overlap, Rows, find_overlap, read_rows
from potstill.errors import DataError

words = st.sampled_from(
    ["a", "A", " a ", "a  b", "A\tb", "ß", "SS", "\ufb01", "fi", "e\u0301", "É"]
)
sides = st.lists(st.tuples(words, words, st.sampled_from("xy")), min_size=1, max_size=8)


def rows_of(side, source="list") -> Rows:
    texts, pairs, labels = map(list, zip(*side, strict=True))
    return Rows({"text": texts, "text_pair": pairs, "label": labels}, source)


def same(one: str, other: str) -> bool:
    def plain(text):
        folded = unicodedata.normalize("NFKC", text).casefold()
        return unicodedata.normalize("NFKC", folded).split()

    return plain(one) == plain(other)


def slow_twin(train, test) -> tuple[int, int]:
    """Compare every test row with every training row."""
    twins = [
        [there for there in train if same(here[0], there[0]) and same(here[1], there[1])]
        for here in test
    ]
    conflicts = [
        any(there[2] != here[2] for there in found) for here, found in zip(test, twins, strict=True)
    ]
    return sum(map(bool, twins)), sum(conflicts)


@given(sides, sides)
def test_the_fast_search_finds_what_the_slow_twin_finds(train, test):
    found = find_overlap(rows_of(train), rows_of(test))
    assert (found.count, found.conflicting) == slow_twin(train, test)
    assert found.share == found.count / len(test)
    assert len(found.examples) == min(5, found.count)


def test_the_real_overlap_of_the_treebank_is_found(shared_data):
    train = read_rows(shared_data / "sst2" / "train.jsonl")
    test = read_rows(shared_data / "sst2" / "test.jsonl")
    found = find_overlap(train, test)
    assert found.count == 2
    train, test = train.take(range(900, 1100)), test.take(range(100, 200))
    sliced = find_overlap(train, test)
    twin = slow_twin(*(triples(side) for side in (train, test)))
    assert (sliced.count, sliced.conflicting) == twin
    assert sliced.count >= 1
    assert sliced.examples[0].test_where.endswith("test.jsonl, line 153")
    assert sliced.examples[0].train_where.endswith("train.jsonl, line 941")


def triples(rows):
    return [(text, "", label) for text, label in zip(*rows.columns.values(), strict=True)]


def test_one_line_says_how_many_and_where():
    train = Rows({"text": ["b", "A a"], "label": ["x", "x"]}, "train.jsonl", [1, 3])
    test = Rows({"text": ["c", "a  A"], "label": ["x", "y"]}, "test.jsonl", [1, 2])
    found = find_overlap(train, test)
    assert found.describe() == (
        "1 of 2 test rows (50.0%) stand in the training rows, 1 of them with another label; "
        "the first: test.jsonl, line 2, seen at train.jsonl, line 3"
    )
    of_dev = found.describe(held_out="dev", beside="unlabelled")
    assert of_dev.startswith("1 of 2 dev rows (50.0%) stand in the unlabelled rows, 1 of them")


def test_no_overlap_is_said_too():
    train, test = Rows({"text": ["a"]}, "train.csv"), Rows({"text": ["b"]}, "test.csv")
    found = find_overlap(train, test)
    assert found == Overlap(count=0, conflicting=None, test_rows=1, examples=())
    assert found.describe() == "none of the 1 test rows stands in the training rows"


def test_pairs_are_compared_as_pairs_only_where_both_sides_have_them():
    pairs = Rows({"text": ["a", "a"], "text_pair": ["b", "c"]}, "train.csv")
    assert find_overlap(pairs, Rows({"text": ["a"], "text_pair": ["d"]}, "t")).count == 0
    assert find_overlap(pairs, Rows({"text": ["a"]}, "t")).count == 1


def test_the_border_of_text_and_pair_cannot_be_mistaken():
    train = Rows({"text": ["a"], "text_pair": ["b c"]}, "train.csv")
    test = Rows({"text": ["a b", "a\x1fb"], "text_pair": ["c", "c"]}, "test.csv")
    assert find_overlap(train, test).count == 0


def test_without_labels_on_both_sides_nothing_is_said_of_conflicts():
    train = Rows({"text": ["a"], "label": ["x"]}, "train.csv")
    found = find_overlap(train, Rows({"text": ["a"]}, "test.csv"))
    assert (found.count, found.conflicting) == (1, None)
    assert "label" not in found.describe()


def test_labels_that_are_lists_are_compared():
    train = Rows({"text": ["a", "b"], "label": [["x"], ["y"]]}, "train.csv")
    test = Rows({"text": ["a", "b"], "label": [["x"], ["x", "y"]]}, "test.csv")
    assert find_overlap(train, test).conflicting == 1


def test_rows_of_words_are_compared_as_texts():
    train = Rows({"tokens": [["EU", "rejects"]]}, "train.jsonl")
    assert find_overlap(train, Rows({"text": ["eu rejects"]}, "test.jsonl")).count == 1


def test_rows_without_text_are_refused():
    with pytest.raises(DataError, match=r"^t\.csv: there is no column 'text'"):
        find_overlap(Rows({"text": ["a"]}, "list"), Rows({"body": ["a"]}, "t.csv"))
