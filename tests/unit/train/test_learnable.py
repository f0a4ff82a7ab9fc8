"""What a training reads: rows are taken and joined with their targets and readable tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.text.ragged import offsets_of, tokens_of
from potstill.train.learnable import Learnable, joined, known_targets
from tests.tiny import random_batch

LAWS = settings(deadline=None, max_examples=60)
LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=6)
UNKNOWN = -1


def learnable(lengths: list[int], kind: str, seed: int = 0) -> Learnable:
    """Return texts with targets of one kind, some of them unknown."""
    texts, rng = random_batch(lengths, seed=seed), np.random.default_rng(seed)
    tokens = texts.total_tokens
    if kind == "token":
        targets = rng.integers(-1, 3, tokens)
        return Learnable(texts, targets, rng.random(tokens) < 0.5, per_token=True)
    if kind == "span":
        targets = rng.integers(0, 3, (len(lengths), 2))
        targets[rng.random(len(lengths)) < 0.3] = UNKNOWN
        return Learnable(texts, targets, rng.random(tokens) < 0.5)
    if kind == "number":
        targets = rng.normal(size=len(lengths))
        return Learnable(texts, np.where(rng.random(len(lengths)) < 0.3, np.nan, targets))
    return Learnable(texts, rng.integers(-1, 3, len(lengths)))


KINDS = st.sampled_from(["token", "span", "number", "class"])


def facts(rows: Learnable) -> list[tuple[object, ...]]:
    """Return all that is known of each text."""
    found = []
    for text in range(len(rows)):
        part = slice(rows.texts.offsets[text], rows.texts.offsets[text + 1])
        targets = rows.targets[part] if rows.per_token else rows.targets[text]
        readable = None if rows.readable_N is None else rows.readable_N[part].tolist()
        found.append((rows.texts.text(text).tolist(), repr(targets), readable))
    return found


@LAWS
@given(lengths=LENGTHS, kind=KINDS, data=st.data())
def test_a_row_keeps_its_targets_and_tokens_wherever_it_goes(
    lengths: list[int], kind: str, data: st.DataObject
) -> None:
    whole = learnable(lengths, kind)
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=8))
    taken = whole.take(np.array(rows, dtype=np.int64))
    assert facts(taken) == [facts(whole)[row] for row in rows]
    assert taken.per_token is whole.per_token
    assert taken.is_labelled.tolist() == whole.is_labelled[rows].tolist()


@LAWS
@given(first=LENGTHS, second=LENGTHS, kind=KINDS)
def test_joined_parts_stand_one_after_another(
    first: list[int], second: list[int], kind: str
) -> None:
    parts = [learnable(first, kind), learnable(second, kind, seed=1)]
    whole = joined(parts)
    assert facts(whole) == facts(parts[0]) + facts(parts[1])
    assert whole.per_token is parts[0].per_token


@LAWS
@given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=6), data=st.data())
def test_the_tokens_of_rows_stand_row_by_row(lengths: list[int], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=8))
    offsets = offsets_of(lengths)
    expected = [token for row in rows for token in range(offsets[row], offsets[row + 1])]
    assert tokens_of(np.array(rows, dtype=np.int64), offsets).tolist() == expected


def test_a_text_is_labelled_if_any_of_its_tokens_is() -> None:
    targets = np.array([-1, 0, -1, -1, -1, 2])
    rows = Learnable(random_batch([2, 3, 1]), targets, per_token=True)
    assert rows.is_labelled.tolist() == [True, False, True]
    assert Learnable(random_batch([1]), np.array([-1]), per_token=True).is_labelled.tolist() == [
        False
    ]


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (np.array([-1, 0, 5]), [False, True, True]),
        (np.array([[0, 0], [-1, -1], [3, -1]]), [True, False, False]),
        (np.array([np.nan, -1.0, 0.0]), [False, True, True]),
        (np.array([[0.0, 1.0], [np.nan, 1.0], [np.nan, np.nan]]), [True, False, False]),
        (np.zeros(0), []),
    ],
)
def test_unknown_is_minus_one_of_whole_numbers_and_nan_of_others(
    targets: np.ndarray, expected: list[bool]
) -> None:
    assert known_targets(targets).tolist() == expected


def test_other_ids_keep_the_targets() -> None:
    rows = learnable([3, 2], "token")
    moved = rows.with_texts(random_batch([3, 2], seed=9))
    assert moved.texts.ids.tolist() != rows.texts.ids.tolist()
    assert moved.targets is rows.targets
    assert moved.readable_N is rows.readable_N


def test_a_target_too_few_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="one target a text"):
        Learnable(random_batch([3, 2]), np.zeros(5, dtype=int))
    with pytest.raises(AssertionError):
        Learnable(random_batch([3, 2]), np.zeros(2, dtype=int), np.ones(2, dtype=bool))
