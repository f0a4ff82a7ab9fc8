"""Words of a text: each at its exact place, none lost, none in two."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from potstill.text.words import word_spans

LAWS = settings(deadline=None, max_examples=200)
PIECES = [
    *(
        "U.N.",
        "J.",
        "Asia-Pacific",
        "(Reuters),",
        "3.5",
        "don't",
        "...",
        ".",
        "a",
        "Zürich",
        '"',
        "'",
        "'s",
        "\u2019S",
    ),
    *("\t", "\n", "\u00a0", "\u2003", "\u3000", " ", "\x1f", "\x85"),
    *(
        "東京",
        "カタカナ",
        "한국",
        "e\u0301",
        "\u0301",
        "👩‍👩‍👧",
        "🇩🇪",
        "\u200d",
        "\u200b",
        "\ufe0f",
        "\ufeff",
    ),
    *("\x00", "\U00020000", "\U0001f600", "ﷺ", "١٢", "€5", "$", "\u2013", "\u202e"),
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=6), max_size=12).map("".join)


def words(text: str) -> list[str]:
    return [text[start:end] for start, end in word_spans(text)]


@LAWS
@given(TEXTS)
@example("")
@example(" \u3000\t")
def test_words_are_all_that_is_not_blank_each_character_once(text: str) -> None:
    spans = word_spans(text)
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    covered = {place for start, end in spans for place in range(start, end)}
    assert covered == {place for place, sign in enumerate(text) if not sign.isspace()}


@LAWS
@given(TEXTS)
def test_a_word_cut_again_is_the_words_it_was(text: str) -> None:
    assert [again for word in words(text) for again in words(word)] == words(text)


@LAWS
@given(TEXTS, TEXTS)
def test_words_do_not_depend_on_what_stands_behind_a_blank(one: str, other: str) -> None:
    assert words(f"{one} {other}") == words(one) + words(other)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the U.N. said", ["the", "U.N.", "said"]),
        ("J. Smith", ["J.", "Smith"]),
        ("the Asia-Pacific region.", ["the", "Asia-Pacific", "region", "."]),
        ("LONDON (Reuters), May", ["LONDON", "(", "Reuters", ")", ",", "May"]),
        ("(U.N.),", ["(", "U.N.", ")", ","]),
        ("up 3.5 %, don't", ["up", "3.5", "%", ",", "don't"]),
        ('"Yes," he said.', ['"', "Yes", ",", '"', "he", "said", "."]),
        ("Japan's U.N.'s", ["Japan", "'s", "U.N.", "'s"]),
        (
            "Ann\u2019s 'Bonn's', they're",
            ["Ann", "\u2019s", "'", "Bonn", "'s", "'", ",", "they", "'re"],
        ),
        ("Japan 's 's-Graveland O'Neal", ["Japan", "'s", "'s-Graveland", "O'Neal"]),
        ("'t 'so 'S.", ["'", "t", "'", "so", "'S", "."]),
        ("...", [".", ".", "."]),
        (". .", [".", "."]),
        ("7. then", ["7", ".", "then"]),
        ("東京 Tokyo", ["東", "京", "Tokyo"]),
        ("Sony東京.", ["Sony", "東", "京", "."]),
        ("カナ", ["カ", "ナ"]),
        ("서울 한국", ["서울", "한국"]),
        ("Mu\u0308nchen,\u00a0Bonn", ["Mu\u0308nchen", ",", "Bonn"]),
        ("ok😀!", ["ok", "😀", "!"]),
        ("", []),
    ],
)
def test_words_are_cut_as_in_entity_data(text: str, expected: list[str]) -> None:
    assert words(text) == expected
