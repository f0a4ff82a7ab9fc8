"""Entities: strict, as seqeval counts them in its strict mode of IOB2."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.scheme import IOB2

from potstill.metrics.entities import (
    Entity,
    EntityF1,
    EntityPrecision,
    EntityRecall,
    entities_of,
    scores_per_type,
)
from potstill.metrics.metric import point

TAGS = st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])
PAIRS = st.lists(st.tuples(TAGS, TAGS), min_size=1, max_size=12)  # (predicted, true) a word
DOCUMENTS = st.lists(PAIRS, min_size=1, max_size=6)
Documents = list[list[tuple[str, str]]]


def tags_of(documents: Documents) -> tuple[list[list[str]], list[list[str]]]:
    sides = [tuple(zip(*sentence, strict=True)) for sentence in documents]
    return [list(ours) for ours, _ in sides], [list(true) for _, true in sides]


def by_pattern(tags: list[str]) -> list[Entity]:
    """Restate the rule as one pattern over a letter a word: b and i of PER, B and I of LOC."""
    letters = "".join(
        {"B-PER": "b", "I-PER": "i", "B-LOC": "B", "I-LOC": "I"}.get(t, "o") for t in tags
    )
    return [
        ("PER" if match[0][0] == "b" else "LOC", match.start(), match.end())
        for match in re.finditer("bi*|BI*", letters)
    ]


@pytest.mark.parametrize(
    ("tags", "entities"),
    [
        ("", []),
        ("O O", []),
        ("B-PER", [("PER", 0, 1)]),
        ("O B-PER I-PER O", [("PER", 1, 3)]),
        ("B-PER B-PER", [("PER", 0, 1), ("PER", 1, 2)]),
        ("B-PER I-LOC I-LOC", [("PER", 0, 1)]),
        ("B-PER I-LOC I-PER", [("PER", 0, 1)]),
        ("I-PER I-PER O I-LOC", []),
        ("B-a-b I-a-b", [("a-b", 0, 2)]),
    ],
)
def test_only_a_b_opens_an_entity(tags: str, entities: list[Entity]) -> None:
    assert entities_of(tags.split()) == entities


@given(st.lists(TAGS, max_size=20))
def test_entities_are_those_of_the_pattern(tags: list[str]) -> None:
    assert entities_of(tags) == by_pattern(tags)


def test_conll2003_has_as_many_entities_as_its_paper_tells(shared_data: Path) -> None:
    lines = (shared_data / "conll2003" / "test.jsonl").read_bytes().splitlines()
    types = [kind for line in lines for kind, *_ in entities_of(orjson.loads(line)["tags"])]
    assert {kind: types.count(kind) for kind in sorted(set(types))} == {
        "LOC": 1668,
        "MISC": 702,
        "ORG": 1661,
        "PER": 1617,
    }


@settings(deadline=None)
@given(DOCUMENTS)
def test_the_scores_are_those_of_one_set_of_all_entities(documents: Documents) -> None:
    ours, true = (
        {(row, *entity) for row, tags in enumerate(side) for entity in by_pattern(tags)}
        for side in tags_of(documents)
    )
    hits = len(ours & true)
    f1, precision, recall = _scores(documents)
    assert precision == pytest.approx(hits / len(ours) if ours else 0.0)
    assert recall == pytest.approx(hits / len(true) if true else 0.0)
    assert f1 == pytest.approx(2 * precision * recall / (precision + recall) if hits else 0.0)


@settings(deadline=None, max_examples=50)
@given(DOCUMENTS)
def test_the_scores_are_seqevals(documents: Documents) -> None:
    ours, true = tags_of(documents)
    strict = {"mode": "strict", "scheme": IOB2, "zero_division": 0}
    expected = [
        score(true, ours, average="micro", **strict)
        for score in (f1_score, precision_score, recall_score)
    ]
    np.testing.assert_allclose(_scores(documents), expected)


@settings(deadline=None)
@given(DOCUMENTS)
def test_types_add_up_to_the_whole(documents: Documents) -> None:
    ours, true = ([entities_of(tags) for tags in side] for side in tags_of(documents))
    per_type = scores_per_type(ours, true)
    assert [each.label for each in per_type] == sorted(
        {entity[0] for row in [*ours, *true] for entity in row}
    )
    assert sum(each.support for each in per_type) == sum(map(len, true))
    hits = sum(each.recall * each.support for each in per_type)
    assert hits == pytest.approx(EntityF1().statistics(ours, true)[:, 0].sum())
    for each in per_type:
        metric = EntityF1(type=each.label, name=f"f1:{each.label}")
        assert point(metric, metric.statistics(ours, true)) == pytest.approx(each.f1)


def test_a_sentence_counts_right_predicted_and_actual() -> None:
    ours = [[("PER", 0, 2), ("LOC", 3, 4)], []]
    true = [[("PER", 0, 2), ("LOC", 3, 5), ("LOC", 6, 7)], [("PER", 1, 2)]]
    np.testing.assert_array_equal(EntityF1().statistics(ours, true), [[1, 2, 3], [0, 0, 1]])
    np.testing.assert_array_equal(EntityF1("LOC").statistics(ours, true), [[0, 1, 2], [0, 0, 0]])
    assert scores_per_type([[]], [[]]) == []


def _scores(documents: Documents) -> list[float]:
    ours, true = ([entities_of(tags) for tags in side] for side in tags_of(documents))
    return [
        point(metric, metric.statistics(ours, true))
        for metric in (EntityF1(), EntityPrecision(), EntityRecall())
    ]
