"""Ranking: grades of pairs, scores of pairs, metrics of queries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from potstill.data.rows import Rows
from potstill.errors import DataError, RecipeError
from potstill.metrics.metric import point
from potstill.tasks.ranking import Ranking
from potstill.tasks.task import Lengths
from potstill.text.tokenizer import Tokenizer
from potstill.text.tokenizer_files import load_tokenizer
from tests.tiny import write_tiny_tokenizer

LAWS = settings(deadline=None, max_examples=60)
CANDIDATES = st.lists(
    st.tuples(st.sampled_from("pqr"), st.sampled_from([0.0, 0.0, 1.0, 2.0])),
    min_size=1,
    max_size=25,
)
TASK = Ranking(highest=4.0)


def rows_of(*candidates: tuple[str, float]) -> Rows:
    return Rows(
        {
            "text": [query for query, _ in candidates],
            "text_pair": [f"document {number}" for number in range(len(candidates))],
            "label": [grade for _, grade in candidates],
        },
        "list",
    )


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder: Path = tmp_path_factory.mktemp("words")
    write_tiny_tokenizer(folder)
    return load_tokenizer(folder, family="bert")


def score(name: str, answers: np.ndarray, rows: Rows) -> float:
    metric = TASK.metric(name)
    return point(metric, TASK.statistics(metric, answers, TASK.gold(rows)))


@LAWS
@given(CANDIDATES)
def test_grades_stand_with_their_queries(candidates: list[tuple[str, float]]) -> None:
    gold = TASK.gold(rows_of(*candidates))
    queries = list(dict.fromkeys(query for query, _ in candidates))
    for query, grades in zip(queries, gold.by_query(), strict=True):
        own = [grade for each, grade in candidates if each == query]
        assert grades == {place: grade for place, grade in enumerate(own) if grade > 0}


@LAWS
@given(CANDIDATES, st.randoms(use_true_random=False))
def test_metrics_are_those_of_scikit_learn(candidates: list[tuple[str, float]], rng) -> None:
    rows, answers = rows_of(*candidates), np.arange(len(candidates), dtype=np.float64)
    rng.shuffle(answers)
    values: dict[str, list[float]] = {"ndcg@10": [], "map": [], "mrr@10": []}
    for query in "pqr":
        own = np.array([each == query for each, _ in candidates])
        grades = np.array([grade for _, grade in candidates])[own]
        if not (grades > 0).any():
            continue
        scores = answers[own]
        ranks = 1 + np.argsort(np.argsort(-scores))
        first = int(ranks[grades > 0].min())
        values["mrr@10"].append(1 / first if first <= 10 else 0.0)
        values["map"].append(average_precision_score(grades > 0, scores))
        is_alone = len(grades) == 1  # scikit-learn refuses a query of one candidate
        values["ndcg@10"].append(1.0 if is_alone else ndcg_score([grades], [scores], k=10))
    for name, each in values.items():
        if each:
            assert score(name, answers, rows) == pytest.approx(np.mean(each))
        else:
            assert np.isnan(score(name, answers, rows))


def test_equal_scores_gain_nothing_from_the_order_of_the_file() -> None:
    rows = rows_of(("p", 1.0), ("p", 0.0), ("p", 0.0))
    assert score("mrr@10", np.zeros(3), rows) == pytest.approx(1 / 3)


def test_the_rows_of_a_query_need_not_stand_together() -> None:
    rows = rows_of(("p", 1.0), ("q", 0.0), ("p", 0.0), ("q", 2.0))
    assert score("map", np.array([2.0, 1.0, 1.0, 2.0]), rows) == 1.0
    assert score("map", np.array([1.0, 2.0, 2.0, 1.0]), rows) == 0.5


def test_agreement_with_a_teacher_is_that_of_the_scores() -> None:
    metric = TASK.metric(TASK.primary(has_gold=False))
    answers = np.array([3.0, 1.0, 2.0])
    for theirs, expected in ((answers * 2 + 1, 1.0), (-answers, -1.0)):
        found = point(metric, TASK.statistics(metric, answers, TASK.as_gold(theirs)))
        assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("grades", "told"),
    [
        ([0.0, -1.0], "list, field 'label': no document is relevant; allowed: grades above 0"),
        ([1.0, 2.0], "all are relevant"),
        ([], "no document is relevant"),
    ],
)
def test_grades_that_rank_nothing_are_refused(grades: list[float], told: str) -> None:
    with pytest.raises(DataError, match=told):
        Ranking.from_rows(rows_of(*[("p", grade) for grade in grades]))


def test_targets_are_shares_of_the_best_grade(tokenizer: Tokenizer) -> None:
    rows = rows_of(("fun film", 4.0), ("fun film", 1.0), ("fun film", -1.0), ("a", 8.0))
    windows = TASK.windows(tokenizer, rows, Lengths(max_length=16))
    targets = TASK.targets(rows, windows)
    assert targets.tolist() == [[1.0], [0.25], [0.0], [1.0]]  # test rows may know better grades
    assert targets.dtype == np.float32
    unknown = TASK.unknown_targets(windows)
    assert unknown.shape == targets.shape
    assert np.isnan(unknown).all()
    assert Ranking.from_rows(rows).highest == 8.0


def test_a_document_in_windows_is_worth_its_best_one(tokenizer: Tokenizer) -> None:
    rows = Rows({"text": ["fun", "fun"], "text_pair": ["a " * 12, "film"]}, "list")
    lengths = Lengths(max_length=9, long_texts="windows", overlap=1)
    windows = TASK.windows(tokenizer, rows, lengths)
    assert windows.rows.tolist() == [0, 0, 0, 1]
    outputs = np.array([[1.0], [-3.0], [2.0], [-5.0]], dtype=np.float32)
    assert TASK.answers(outputs, windows, rows).tolist() == [2.0, -5.0]


def test_scores_are_told_from_0_to_1() -> None:
    answers = np.array([-1e4, 0.0, 1e4])
    items = TASK.items(answers, rows_of(*[("p", 0.0)] * 3), np.array([False, True, False]))
    assert [item["score"] for item in items] == [0.0, 0.5, 1.0]
    assert [item["truncated"] for item in items] == [False, True, False]
    assert TASK.sureness(answers).tolist() == [1.0, 0.0, 1.0]


def test_who_learned_nothing_counts_shared_words() -> None:
    rows = Rows(
        {
            "text": ["Fun film?", "Fun film?", "..."],
            "text_pair": ["the FILM, good", "boring", "a"],
            "label": [1.0, 0.0, 0.0],
        },
        "list",
    )
    answers, name = TASK.trivial(TASK.gold(rows))
    assert answers.tolist() == [0.5, 0.0, 0.0]
    assert name == "shared words"


def test_the_same_side_of_zero_is_the_same_answer() -> None:
    one, other = np.array([2.0, -1.0, 0.1]), np.array([0.5, 1.0, -0.1])
    assert TASK.same(one, other).tolist() == [True, False, False]
    gold = TASK.gold(rows_of(("p", 2.0), ("p", 0.0), ("q", 0.0)))
    assert TASK.right(one, gold).tolist() == [True, True, False]


def test_an_unknown_metric_is_told_with_those_there_are() -> None:
    with pytest.raises(RecipeError, match="primary is 'f1'; allowed: ndcg@10, mrr@10, map"):
        TASK.metric("f1")
