"""SQuAD: the scores of the official scripts, restated here from their description."""

from __future__ import annotations

import re
import string

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from potstill.metrics.metric import point
from potstill.metrics.squad import AnswerExact, AnswerF1, normalized_answer

WORDS = ["the", "a", "An", "cat", "Cat", "sat", "theory", "1,000", "U.S.", "—", "!", "café", "ÉTÉ"]
ANSWER = st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join) | st.text(max_size=8)
QUESTIONS = st.lists(st.tuples(ANSWER, st.lists(ANSWER, max_size=3)), min_size=1, max_size=8)
Questions = list[tuple[str, list[str]]]


def plain(text: str) -> str:
    """Restate the normalization one character and one word at a time."""
    kept = "".join(letter for letter in text.lower() if letter not in set(string.punctuation))
    return " ".join(re.sub(r"\b(?:the|an|a)\b", " ", kept).split())


def exact_2_0(answer: str, true: list[str]) -> float:
    known = [each for each in true if plain(each)] or [""]
    return max(float(plain(answer) == plain(each)) for each in known)


def f1_2_0(answer: str, true: list[str]) -> float:
    known = [each for each in true if plain(each)] or [""]
    return max(f1_of_words(plain(answer).split(), plain(each).split()) for each in known)


def f1_of_words(ours: list[str], theirs: list[str]) -> float:
    if not ours or not theirs:
        return float(ours == theirs)
    left = list(theirs)
    for word in ours:
        if word in left:
            left.remove(word)
    shared = len(theirs) - len(left)
    if shared == 0:
        return 0.0
    precision, recall = shared / len(ours), shared / len(theirs)
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("The  Cat,\tsat!", "cat sat"),
        ("a", ""),
        ("theory of a theme", "theory of theme"),
        ("U.S.", "us"),
        ("an-other", "another"),
        ("Ünïcode — ÉTÉ", "ünïcode — été"),  # only ASCII punctuation is stripped
        ("«the»", "« »"),
    ],
)
def test_an_answer_is_normalized_as_officially(text: str, normalized: str) -> None:
    assert normalized_answer(text) == normalized


@given(ANSWER)
def test_normalizing_is_as_restated(text: str) -> None:
    assert normalized_answer(text) == plain(text)


@pytest.mark.parametrize(
    ("answer", "true", "exact", "f1"),
    [
        ("the cat", ["Cat."], 1, 1),
        ("black cat", ["cat", "a black dog"], 0, 2 / 3),
        ("cat cat", ["cat"], 0, 2 / 3),
        ("dog", ["cat"], 0, 0),
        ("", ["cat"], 0, 0),
        ("", [], 1, 1),
        ("the", [], 1, 1),
        ("cat", [], 0, 0),
        ("", ["the", "!"], 1, 1),
        ("", ["the", "cat"], 0, 0),
    ],
)
def test_known_answers_score_so(answer: str, true: list[str], exact: float, f1: float) -> None:
    assert AnswerExact().statistics([answer], [true])[0, 0] == exact
    assert AnswerF1().statistics([answer], [true])[0, 0] == pytest.approx(f1)


@settings(deadline=None)
@given(QUESTIONS)
def test_scores_are_those_of_2_0(questions: Questions) -> None:
    answers, true = zip(*questions, strict=True)
    for metric, official in ((AnswerExact(), exact_2_0), (AnswerF1(), f1_2_0)):
        expected = [official(*each) for each in questions]
        found = metric.statistics(answers, true)
        np.testing.assert_allclose(found[:, 0], expected, atol=1e-12)
        assert point(metric, found) == pytest.approx(np.mean(expected))


@settings(deadline=None)
@given(ANSWER, st.lists(ANSWER.filter(plain), min_size=1, max_size=3))
def test_scores_are_those_of_1_1_where_true_answers_say_something(
    answer: str, true: list[str]
) -> None:
    assume(plain(answer))
    best = max(f1_of_words(plain(answer).split(), plain(each).split()) for each in true)
    assert AnswerF1().statistics([answer], [true])[0, 0] == pytest.approx(best)
    is_exact = plain(answer) in {plain(each) for each in true}
    assert AnswerExact().statistics([answer], [true])[0, 0] == is_exact


@settings(deadline=None)
@given(QUESTIONS)
def test_the_parts_make_the_whole(questions: Questions) -> None:
    answers, true = zip(*questions, strict=True)
    for kind in (AnswerExact, AnswerF1):
        whole, has_answer, no_answer = (
            kind(part).statistics(answers, true) for part in ("all", "has_answer", "no_answer")
        )
        np.testing.assert_array_equal(whole, has_answer + no_answer)
        np.testing.assert_array_equal(has_answer[:, 1], [bool(each) for each in true])


@settings(deadline=None)
@given(ANSWER, st.lists(ANSWER, max_size=3))
def test_an_exact_answer_has_all_words(answer: str, true: list[str]) -> None:
    exact = AnswerExact().statistics([answer], [true])[0, 0]
    f1 = AnswerF1().statistics([answer], [true])[0, 0]
    assert 0 <= exact <= f1 <= 1


def test_a_part_without_questions_has_no_value() -> None:
    metric = AnswerExact("no_answer", name="no_answer_exact")
    assert np.isnan(point(metric, metric.statistics(["cat"], [["cat"]])))
