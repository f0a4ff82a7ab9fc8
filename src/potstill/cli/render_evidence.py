"""How answers and their worth are shown."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from potstill.cli.render import print_error, print_json, print_table, print_warnings

if TYPE_CHECKING:
    from potstill.workflows.evaluate import EvaluatedModel
    from potstill.workflows.predict import Answers


def print_evaluation(found: EvaluatedModel) -> None:
    """Print the metrics with their intervals, then each class."""
    told = found.evaluation
    rows = [
        [
            f"{name} (primary)" if name == told.primary else name,
            f"{measured.value:.4f}",
            f"{measured.low:.4f} to {measured.high:.4f}",
            f"{told.majority[name]:.4f}",
        ]
        for name, measured in told.metrics.items()
    ]
    header = ["metric", "value", "95 % interval", f"trivial ({told.majority_label})"]
    print_table(header, rows, title=f"{found.model} on {told.examples:,} rows")
    classes = [
        [
            scores.label,
            f"{scores.precision:.3f}",
            f"{scores.recall:.3f}",
            f"{scores.f1:.3f}",
            str(scores.support),
        ]
        for scores in told.per_class
    ]
    if classes:
        print_table(["class", "precision", "recall", "F1", "rows"], classes)
    print_warnings([*found.warnings, *told.warnings])


def print_answers(answers: Answers, *, as_json: bool) -> None:
    """Print one line a row as it comes: JSON, or the answer, how sure it is, and the text."""
    if as_json:
        for _, answer in answers.rows:
            print_json(answer)
        return
    rows = ([*_in_words(answer), text] for text, answer in answers.rows)
    if sys.stdout.isatty():
        print_table(["answer", "score", "text"], list(rows))
        who = f"{answers.engine} in {answers.precision}"
        print_error(f"answered by {who}: {answers.engine_reason}")
        return
    for row in rows:
        print_table(["", "", ""], [row])


def _in_words(answer: Mapping[str, Any]) -> tuple[str, str]:
    """Return an answer of any task and its score."""
    if "entities" in answer:
        found = answer["entities"]
        words = ", ".join(f"{each['word']} ({each['entity']})" for each in found) or "(none)"
        return words, f"{min((each['score'] for each in found), default=1.0):.4f}"
    if "embedding" in answer:
        vector = answer["embedding"]
        return f"{len(vector)} numbers", f"{vector[0]:.4f} …"
    if "answer" in answer:
        return answer["answer"] or "(no answer)", f"{answer['score']:.4f}"
    if "labels" in answer:
        return ", ".join(answer["labels"]) or "(none)", f"{answer['score']:.4f}"
    return str(answer.get("label", "")), f"{answer['score']:.4f}"
