"""How the verbs that train show what they found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from potstill.cli.render import print_report, print_table
from potstill.report import Report


def print_distillation(report: Report) -> None:
    """Print the student, how it began, the ranking of layers, and the control beside it."""
    details = report.details
    if details["search"]:
        print_search(details["search"])
    _print_start(details)
    if "control" in details:
        _print_control(report, details["control"])
    print_report(report)


def print_search(ranking: list[dict[str, Any]]) -> None:
    """Print the candidates of a layer search, the best first."""
    rows = [
        [
            " ".join(map(str, candidate["layers"])),
            f"{candidate['divergence']:.4f}",
            f"{candidate['agreement']:.4f}",
        ]
        for candidate in ranking
    ]
    print_table(["layers", "KL of a linear fit", "agreement"], rows, title="layer search")


def _print_start(details: Mapping[str, Any]) -> None:
    start = details["start"]
    rows = [
        [side, f"{start[side]['hard_labels']:.4f}", f"{start[side]['soft_targets']:.4f}"]
        for side in ("teacher", "student")
    ]
    difference = start["embedding_difference"]
    title = f"before the first step (embedding outputs differ by {difference:.1e})"
    print_table(["dev loss", "to labels", "to teacher"], rows, title=title)


def _print_control(report: Report, control: Mapping[str, Any]) -> None:
    primary = report.details["primary"]
    rows = [
        ["student", *_run_cells(report.to_json(), primary)],
        [f"control ({control['control']})", *_run_cells(control, primary)],
    ]
    header = ["", f"{primary} (dev)", "steps", "tokens", "learning rate"]
    print_table(header, rows, title="student and control")


def _run_cells(told: Mapping[str, Any], primary: str) -> list[str]:
    return [
        f"{told['metrics'][primary]['value']:.4f}",
        f"{told['steps']:,}",
        f"{told['train_tokens']:,}",
        f"{told['learning_rate']:g}",
    ]
