"""Evaluation: metrics as scikit-learn has them, the majority answer, warnings of weak proof."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from potstill.data.rows import Rows
from potstill.errors import RecipeError
from potstill.tasks.classification import Classification
from potstill.tasks.evaluation import FEW_ROWS, Evaluation, evaluate_answers
from potstill.tasks.ranking import Ranking

TASK = Classification(("ham", "spam", "other"))


def logits_and_targets(rows: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = rng.choice(3, rows, p=[0.7, 0.2, 0.1])
    return rng.normal(size=(rows, 3)) + 1.5 * np.eye(3)[targets], targets


def evaluate(logits: np.ndarray, targets: np.ndarray, *, primary: str) -> Evaluation:
    return evaluate_answers(TASK, logits, targets, rows=len(targets), primary=primary)


def test_the_metrics_are_scikit_learns() -> None:
    logits, targets = logits_and_targets()
    predicted = logits.argmax(axis=1)
    found = evaluate(logits, targets, primary="f1:spam")
    assert list(found.metrics) == ["f1:spam", "accuracy", "macro_f1", "matthews"]
    expected = {
        "accuracy": accuracy_score(targets, predicted),
        "macro_f1": f1_score(targets, predicted, average="macro"),
        "matthews": matthews_corrcoef(targets, predicted),
        "f1:spam": f1_score(targets == 1, predicted == 1),
    }
    for name, value in expected.items():
        assert found.metrics[name].value == pytest.approx(value)
        assert found.metrics[name].low < value < found.metrics[name].high


def test_the_majority_answer_is_of_these_rows() -> None:
    logits, targets = logits_and_targets()
    found = evaluate(logits, targets, primary="accuracy")
    assert found.majority_label == "ham"
    assert found.majority["accuracy"] == pytest.approx(np.mean(targets == 0))
    assert found.majority["matthews"] == 0.0


def test_few_rows_and_a_single_class_are_warned_of() -> None:
    logits, targets = logits_and_targets(FEW_ROWS)
    assert evaluate(logits, targets, primary="accuracy").warnings == []
    few = evaluate(logits[:3], targets[:3], primary="accuracy")
    assert "3 rows cannot prove" in few.warnings[0]
    same = np.zeros(FEW_ROWS, dtype=np.int64)
    told = evaluate(logits, same, primary="accuracy").warnings
    assert "all rows are of the class 'ham'" in told[0]


@pytest.mark.parametrize(("queries", "is_warned_of"), [(2, True), (FEW_ROWS, False)])
def test_of_a_ranking_the_queries_are_counted(queries: int, *, is_warned_of: bool) -> None:
    """Candidates of one query stand or fall together: many of them prove no more."""
    rows = Rows(
        {
            "text": [f"query {number}" for number in range(queries) for _ in range(30)],
            "text_pair": [f"document {number}" for number in range(30 * queries)],
            "label": [1.0, *[0.0] * 29] * queries,
        },
        "rows",
    )
    task = Ranking()
    scores = -np.arange(30.0 * queries)
    found = evaluate_answers(task, scores, task.gold(rows), rows=len(rows), primary="ndcg@10")
    assert found.examples == 30 * queries
    assert found.to_json()["queries"] == queries
    assert found.warnings == (
        [
            f"2 queries cannot prove anything: give {FEW_ROWS} at the least, some hundreds for an "
            "interval of a few points"
        ]
        if is_warned_of
        else []
    )


def test_the_json_has_the_shape_of_the_contract() -> None:
    told = evaluate(*logits_and_targets(), primary="macro_f1").to_json()
    assert told["examples"] == 200
    assert told["primary"] == "macro_f1"
    assert set(told["metrics"]["macro_f1"]) == {"value", "low", "high"}
    assert [each["label"] for each in told["per_class"]] == list(TASK.labels)
    assert sum(each["support"] for each in told["per_class"]) == 200


@pytest.mark.parametrize("name", ["beauty", "f1:eggs", "f1"])
def test_an_unknown_metric_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match="primary is"):
        evaluate(*logits_and_targets(), primary=name)
