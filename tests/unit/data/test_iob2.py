"""IOB2 tags are told from those of other schemes; types and tags follow from them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data import Columns, Rows, read_rows, select_columns
from potstill.data.iob2 import entity_types, require_iob2, tag_names
from potstill.errors import DataError

TAGS = tag_names(["A", "B-C"])


def rows_of(*tags: list[str]) -> Rows:
    return Rows({"tokens": [["w"] * len(row) for row in tags], "tags": list(tags)}, "list")


def is_iob2(*tags: list[str]) -> bool:
    try:
        require_iob2(rows_of(*tags), Columns())
    except DataError:
        return False
    return True


def tags_of(entities: list[tuple[str, int]]) -> list[str]:
    """Write entities (type, words) as IOB2; a type "" is outside."""
    tags = []
    for kind, length in entities:
        tags += [f"B-{kind}"] + [f"I-{kind}"] * (length - 1) if kind else ["O"] * length
    return tags


entities = st.lists(st.tuples(st.sampled_from(["", "A", "B-C", "Ä"]), st.integers(1, 3)))


@given(entities)
def test_whatever_entities_are_written_is_iob2(found):
    assert is_iob2(tags_of(found))
    assert entity_types(rows_of(tags_of(found))) == sorted({kind for kind, _ in found if kind})


def slow_twin(tags: list[str]) -> bool:
    """Each I- has a B- of its type to its left, with nothing but I- of that type between."""
    for place, tag in enumerate(tags):
        if tag.startswith("I-"):
            start = place
            while start and tags[start] == tag:
                start -= 1
            if tags[start] != f"B-{tag[2:]}":
                return False
    return True


@given(st.lists(st.sampled_from(TAGS), max_size=6))
def test_the_check_finds_what_a_slow_twin_finds(tags):
    assert is_iob2(tags) == slow_twin(tags)


def test_an_entity_never_goes_on_from_one_row_to_the_next():
    assert not is_iob2(["B-A"], ["I-A"])


@pytest.mark.parametrize("tag", ["B-", "I-", "", "B", "o", "b-A", "B_A", "3", "S-A", "X-A"])
def test_another_tag_is_refused_wherever_it_stands(tag):
    assert is_iob2(["O", "B-A", "O"])
    assert not is_iob2(["O", "B-A", tag])


def test_types_are_sorted_and_each_has_two_tags():
    rows = rows_of(["B-PER", "I-PER"], ["O"], ["B-LOC"])
    assert entity_types(rows) == ["LOC", "PER"]
    assert tag_names(entity_types(rows)) == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert tag_names([]) == ("O",)


@pytest.mark.parametrize(
    ("name", "types"),
    [("conll2003", ["LOC", "MISC", "ORG", "PER"]), ("ncbi_disease", ["Disease"])],
)
def test_real_tags_are_iob2(shared_data, name, types):
    rows = read_rows(shared_data / name / "train.jsonl")
    rows = select_columns(rows, Columns(), ("tokens", "tags"), optional=())
    require_iob2(rows, Columns())
    assert entity_types(rows) == types
