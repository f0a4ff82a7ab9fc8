"""How answers and their worth are shown."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from potstill.cli.render import print_json, print_table, print_warnings

if TYPE_CHECKING:
    from potstill.workflows.evaluate import EvaluatedModel


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
    header = ["metric", "value", "95 % interval", f"always {told.majority_label!r}"]
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
    print_table(["class", "precision", "recall", "F1", "rows"], classes)
    print_warnings([*found.warnings, *told.warnings])


def print_answers(answers: Iterable[tuple[str, Mapping[str, Any]]], *, as_json: bool) -> None:
    """Print one line a text as it comes: JSON, or class, probability and text."""
    if as_json:
        for _, answer in answers:
            print_json(answer)
        return
    rows = ([str(answer["label"]), f"{answer['score']:.4f}", text] for text, answer in answers)
    if sys.stdout.isatty():
        print_table(["class", "probability", "text"], list(rows))
        return
    for row in rows:
        print_table(["", "", ""], [row])
