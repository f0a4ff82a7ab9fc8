"""Splits: a partition, stratified, without leaks, the same on every machine."""

import math
from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from potstill.data import Rows, find_overlap, read_rows, split_rows
from potstill.errors import DataError, RecipeError

class_sizes = st.lists(st.integers(1, 25), min_size=1, max_size=5)
labels = class_sizes.map(
    lambda sizes: "".join(name * n for name, n in zip("abcde", sizes, strict=False))
)
fractions = st.floats(0.02, 0.98)
seeds = st.integers(-(2**40), 2**40)


def rows_of(classes, texts=None) -> Rows:
    texts = texts or [f"text {number}" for number in range(len(classes))]
    return Rows({"text": texts, "label": list(classes)}, "list")


def counts(rows: Rows) -> Counter:
    return Counter(rows.column("label"))


def can_be_split(classes: str, fraction: float) -> bool:
    is_spared = max(Counter(classes).values()) > 1  # one text of some class
    return is_spared and 0 < round(fraction * len(classes)) < len(classes)


def can_be_spared(rows: Rows, text: str) -> bool:
    """Tell whether every class of a text has another text."""
    texts = [other.lower().strip() for other in rows.column("text")]
    pairs = list(zip(texts, rows.column("label"), strict=True))
    others = {name for other, name in pairs if other != text}
    return {name for other, name in pairs if other == text} <= others


@given(labels, st.data(), fractions, seeds)
def test_a_split_is_a_partition_in_which_no_text_straddles(classes, data, fraction, seed):
    texts = data.draw(st.lists(st.sampled_from("ABab "), min_size=len(classes)))[: len(classes)]
    assume(can_be_split(classes, fraction))
    texts_of = {(text.lower().strip(), name) for text, name in zip(texts, classes, strict=True)}
    assume(len({text for text, _ in texts_of}) > 1)
    rows = rows_of(classes, texts)
    if not any(can_be_spared(rows, text) for text, _ in texts_of):
        with pytest.raises(DataError, match="the only one of some label"):
            split_rows(rows, fraction=fraction, seed=seed)
        return
    rest, part = split_rows(rows, fraction=fraction, seed=seed)
    assert len(rest) > 0
    assert len(part) > 0
    assert set(part.column("label")) <= set(rest.column("label"))
    assert sorted(rest.row_numbers + part.row_numbers) == list(range(1, len(classes) + 1))
    assert rest.row_numbers == sorted(rest.row_numbers)
    assert part.row_numbers == sorted(part.row_numbers)
    assert find_overlap(rest, part).count == 0


@given(labels, fractions, seeds)
def test_each_class_keeps_its_share_within_one_row(classes, fraction, seed):
    assume(can_be_split(classes, fraction))
    _, part = split_rows(rows_of(classes), fraction=fraction, seed=seed)
    for name, count in Counter(classes).items():
        assert abs(counts(part)[name] - fraction * count) < 1


@given(labels, fractions, seeds)
def test_a_class_of_two_rows_or_more_stands_on_both_sides(classes, fraction, seed):
    assume(can_be_split(classes, fraction))
    rest, part = split_rows(rows_of(classes), fraction=fraction, seed=seed)
    for name, count in Counter(classes).items():
        if count > 1:
            assert counts(rest)[name] > 0
            assert counts(part)[name] > 0


@given(labels, fractions, seeds)
def test_the_size_is_exact_where_the_classes_allow_it(classes, fraction, seed):
    assume(can_be_split(classes, fraction))
    _, part = split_rows(rows_of(classes), fraction=fraction, seed=seed)
    sizes = Counter(classes).values()
    fewest = sum(max(1, math.floor(fraction * size)) for size in sizes if size > 1)
    most = sum(min(size - 1, math.ceil(fraction * size)) for size in sizes)
    assert len(part) == min(max(round(fraction * len(classes)), fewest), most)


@given(labels, fractions, seeds)
def test_without_strata_the_size_is_always_exact(classes, fraction, seed):
    assume(can_be_split(classes, fraction))
    _, part = split_rows(rows_of(classes), fraction=fraction, seed=seed, stratify_by=None)
    assert len(part) == round(fraction * len(classes))


@given(labels, fractions, seeds)
def test_neither_the_order_of_columns_nor_that_of_rows_matters(classes, fraction, seed):
    assume(can_be_split(classes, fraction))
    rows = rows_of(classes)
    turned = Rows(dict(reversed(rows.columns.items())), "list").take(range(len(rows))[::-1])
    _, part = split_rows(rows, fraction=fraction, seed=seed)
    _, turned_part = split_rows(turned, fraction=fraction, seed=seed)
    assert sorted(turned_part.column("text")) == sorted(part.column("text"))


def test_a_seed_gives_the_same_rows_on_every_machine():
    _, part = split_rows(rows_of("ab" * 10), fraction=0.3, seed=13)
    assert part.row_numbers == [3, 4, 7, 9, 14, 18]


def test_another_seed_gives_other_rows():
    parts = {
        tuple(split_rows(rows_of("ab" * 10), fraction=0.3, seed=seed)[1].row_numbers)
        for seed in range(5)
    }
    assert len(parts) == 5


def test_the_largest_remainder_is_rounded_up():
    _, part = split_rows(rows_of("a" * 14 + "b" * 16), fraction=0.1, seed=0)
    assert counts(part) == {"a": 1, "b": 2}  # of 1.4 and 1.6


def test_a_share_too_small_for_any_text_takes_the_smallest():
    texts = ["same"] * 10 + ["twice"] * 2
    for seed in range(5):
        _, part = split_rows(rows_of("a" * 12, texts), fraction=0.1, seed=seed)
        assert part.column("text") == ["twice"] * 2


@pytest.mark.parametrize("lone", ["c", "cdefghij"])
def test_the_only_text_of_a_class_is_never_held_out(lone):
    rest, part = split_rows(rows_of("a" * 20 + "b" * 20 + lone), fraction=0.3, seed=0)
    assert set(counts(part)) == {"a", "b"}
    assert set(counts(rest)) == {"a", "b", *lone}


def test_classes_of_one_text_each_are_not_split():
    with pytest.raises(DataError, match=r"^list: each text is the only one of some label.*--dev"):
        split_rows(rows_of("aabb", ["x", "x", "y", "y"]), fraction=0.25, seed=0)


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=3), min_size=4), fractions, seeds)
def test_of_many_labels_none_is_held_out_alone(found, fraction, seed):
    found += [["a"], ["a"], ["a"]]
    assume(0 < round(fraction * len(found)) < len(found))
    rows = Rows({"text": [str(n) for n in range(len(found))], "label": found}, "list")
    rest, part = split_rows(rows, fraction=fraction, seed=seed, stratify_by=None, known_by="label")
    known = {label for each in rest.column("label") for label in each}
    assert {label for each in part.column("label") for label in each} <= known
    assert 0 < len(part) <= round(fraction * len(found))
    often = [each for each in found if each in ([], ["a"])]  # at most one of them has to stay
    assert len(part) >= min(round(fraction * len(found)), len(often) - 1)


def test_duplicates_are_filled_in_without_losing_the_exact_size():
    texts = ["same"] * 5 + [f"text {number}" for number in range(15)]
    _, part = split_rows(rows_of("a" * 20, texts), fraction=0.2, seed=1)
    assert len(part) == 4


def test_a_text_with_two_labels_stays_on_one_side():
    texts = ["x", "x", "X ", *(f"text {number}" for number in range(7))]
    for seed in range(10):
        rest, _ = split_rows(rows_of("abababbaab", texts), fraction=0.5, seed=seed)
        assert sum(text.strip().lower() == "x" for text in rest.column("text")) in {0, 3}


def test_rows_of_words_are_split_too():
    rows = Rows({"tokens": [["EU", str(n)] for n in range(10)]}, "list")
    _, part = split_rows(rows, fraction=0.2, seed=0, stratify_by=None)
    assert len(part) == 2


def test_a_real_split_keeps_shares_and_lines(shared_data):
    rows = read_rows(shared_data / "sms_spam" / "train.jsonl")
    rest, part = split_rows(rows, fraction=0.1, seed=7)
    assert len(part) == round(0.1 * len(rows))
    assert abs(counts(part)["spam"] - 0.1 * counts(rows)["spam"]) < 1
    assert sorted(rest.line_numbers + part.line_numbers) == rows.line_numbers


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(RecipeError, match="above 0 and below 1"):
        split_rows(rows_of("ab"), fraction=fraction, seed=0)


def test_too_few_rows_are_told_with_the_cure():
    with pytest.raises(DataError, match=r"^list: 4 rows are too few .*0\.1.*--dev"):
        split_rows(rows_of("abab"), fraction=0.1, seed=0)


def test_rows_of_one_text_cannot_be_split():
    with pytest.raises(DataError, match="the same text"):
        split_rows(rows_of("abab", ["x", "X", " x", "x"]), fraction=0.5, seed=0)
