"""What `compare` prints: models side by side, the sentence that sums it up, the first flips."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from potstill.cli.render import print_facts, print_line, print_table, print_warnings
from potstill.metrics.bootstrap import Interval
from potstill.tasks.flips import FLIPS_SHOWN

if TYPE_CHECKING:
    from potstill.workflows.comparison import ComparedModel, Comparison

_TEXT_SHOWN = 90  # characters of a text on a terminal

# The columns of a pipe: plain numbers, one model a line.
_PLAIN: Mapping[str, Callable[[ComparedModel], object]] = {
    "model": lambda model: model.name,
    "parameters": lambda model: model.parameters,
    "size_bytes": lambda model: model.size_bytes,
    "peak_memory_bytes": lambda model: model.measured.peak_memory_bytes,
    "p50_ms": lambda model: f"{model.measured.percentiles_ms['p50']:.3f}",
    "p95_ms": lambda model: f"{model.measured.percentiles_ms['p95']:.3f}",
    "p99_ms": lambda model: f"{model.measured.percentiles_ms['p99']:.3f}",
    "texts_per_second": lambda model: f"{model.measured.texts_per_second:.1f}",
    "tokens_per_second": lambda model: f"{model.measured.tokens_per_second:.0f}",
    "speedup": lambda model: f"{model.speedup:.3f}",
    "cost_per_million": lambda model: _number(model.cost_per_million),
}
_OF_INTERVAL = ("", "_low", "_high")


def print_comparison(comparison: Comparison) -> None:
    """Print a comparison: drawn on a terminal, one model a line in a pipe."""
    if sys.stdout.isatty():
        _print_drawn(comparison)
    else:
        _print_plain(comparison)
    print_warnings(list(comparison.warnings))


def _print_drawn(comparison: Comparison) -> None:
    from potstill.workflows.comparison_words import headlines, lines

    names = [model.name for model in comparison.models]
    names[0] += " (baseline)"
    rows = [[line.title, *line.cells] for line in lines(comparison)]
    print_table(["measure", *names], rows)
    for name, flips in comparison.flips.items():
        shown = [
            [_cut(flip.text), flip.gold, flip.teacher, f"{flip.teacher_margin:.2f}", flip.student]
            for flip in flips.rows[:FLIPS_SHOWN]
        ]
        if shown:
            header = ["text", "right", comparison.baseline.name, "margin", name]
            print_table(header, shown, title=f"where {name} answers differently")
    if comparison.baseline.note:
        print_line(f"{comparison.baseline.name}: {comparison.baseline.note}")
    for line in headlines(comparison):
        print_line(f"{line}.")
    print_facts({"to repeat it": comparison.command})


def _print_plain(comparison: Comparison) -> None:
    header = [
        *_PLAIN,
        *(name + end for name in _interval_names(comparison) for end in _OF_INTERVAL),
    ]
    rows = []
    for model in comparison.models:
        cells = [str(value(model)) for value in _PLAIN.values()]
        for name in _interval_names(comparison):
            cells += _interval_cells(_interval(comparison, model, name))
        rows.append([*cells, *([model.note] if model.note else [])])
    print_table([*header, *(["note"] if comparison.baseline.note else [])], rows)


def _interval_names(comparison: Comparison) -> list[str]:
    if comparison.test is None:
        return []
    return [*comparison.test.majority_metrics, "retention", "gain_retained", "agreement"]


def _interval(comparison: Comparison, model: ComparedModel, name: str) -> Interval | None:
    quality = model.quality
    if name == "agreement":
        return comparison.agreement.get(model.name)
    if quality is None:
        return None
    by_name = {"retention": quality.retention, "gain_retained": quality.gain_retained}
    return by_name[name] if name in by_name else quality.metrics.get(name)


def _interval_cells(interval: Interval | None) -> list[str]:
    if interval is None:
        return [""] * len(_OF_INTERVAL)
    return [f"{value:.4f}" for value in (interval.value, interval.low, interval.high)]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_SHOWN else text[: _TEXT_SHOWN - 1] + "…"
