"""A comparison in words and cells, for the terminal and the page alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from potstill.metrics.bootstrap import Interval
from potstill.workflows.comparison import ComparedModel, Comparison, Quality

METRIC_WORDS: Mapping[str, str] = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "matthews": "Matthews correlation",
}
NOTHING = "–"  # noqa: RUF001 - an en dash stands for an empty cell


@dataclass(frozen=True, slots=True)
class Line:
    """One measure of all models."""

    title: str
    cells: tuple[str, ...]  # one a model, the baseline first
    group: str = ""


def metric_words(name: str) -> str:
    """Return a metric's name for readers."""
    if name.startswith("f1:"):
        return f"F1 of {name.removeprefix('f1:')}"
    return METRIC_WORDS.get(name, name)


def sentence(comparison: Comparison, model: ComparedModel) -> str:
    """Say in one sentence what a model keeps of the baseline and what it saves."""
    baseline = comparison.baseline.name
    speed, size = times(model.speedup), times(size_ratio(comparison, model))
    kept = model.quality.retention if model.quality else None
    if comparison.primary is not None and kept is not None:
        metric = metric_words(comparison.primary)
        return (
            f"{model.name} keeps {percent(kept)} of {baseline}'s {metric} "
            f"at {speed} times the speed and {size} times the size"
        )
    return f"{model.name} runs at {speed} times the speed and {size} times the size of {baseline}"


def headlines(comparison: Comparison) -> list[str]:
    """Return one sentence for each model beside the baseline, or one about a model alone."""
    sentences = [sentence(comparison, model) for model in comparison.others]
    if sentences:
        return sentences
    alone = comparison.baseline
    p50 = milliseconds(alone.measured.percentiles_ms["p50"])
    return [f"{alone.name} answers a text in {p50} ms (median)"]


def lines(comparison: Comparison) -> list[Line]:
    """Return the table: a line for each measure."""
    groups = {
        "quality": _quality_lines(comparison),
        "speed": _speed_lines(comparison),
        "size": _size_lines(comparison),
    }
    return [
        replace(line, group=group)
        for group, found in groups.items()
        for line in found
        if any(cell != NOTHING for cell in line.cells)
    ]


def size_ratio(comparison: Comparison, model: ComparedModel) -> float:
    """Return the model's bytes on disk over the baseline's."""
    return model.size_bytes / comparison.baseline.size_bytes


def percent(interval: Interval) -> str:
    """Return "98.7 % (97.4 to 99.9)"."""
    value, low, high = (f"{100 * part:.1f}" for part in _parts(interval))
    return f"{value} % ({low} to {high})"


def score(interval: Interval) -> str:
    """Return "0.912 (0.893 to 0.931)"."""
    value, low, high = (f"{part:.3f}" for part in _parts(interval))
    return f"{value} ({low} to {high})"


def times(ratio: float) -> str:
    """Return a ratio with as many places as it needs: 2.0, 0.6, 0.07, 120."""
    if ratio >= 100:
        return f"{ratio:,.0f}"
    return f"{ratio:.1f}" if ratio >= 0.1 else f"{ratio:.2g}"


def milliseconds(value: float) -> str:
    """Return milliseconds with three digits that count."""
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def megabytes(size_bytes: float) -> str:
    """Return bytes as megabytes, of 10^6 bytes each."""
    megas = size_bytes / 1e6
    return f"{megas:,.{0 if megas >= 100 else 1 if megas >= 1 else 2}f}"


def rate(value: float) -> str:
    """Return something a second."""
    return f"{value:,.{0 if value >= 100 else 1}f}"


def _quality_lines(comparison: Comparison) -> list[Line]:
    if comparison.test is None or comparison.primary is None:
        return []
    metric = metric_words(comparison.primary)
    names = [model.name for model in comparison.models]
    return [
        *(
            _line(comparison, metric_words(name), _of_metric(name))
            for name in comparison.test.majority_metrics
        ),
        _line(comparison, f"retention of {metric}", _of_quality(lambda q: q.retention)),
        _line(comparison, "gain retained", _of_quality(lambda q: q.gain_retained)),
        Line(
            "same answer as the baseline",
            tuple(
                percent(comparison.agreement[name]) if name in comparison.agreement else NOTHING
                for name in names
            ),
        ),
        Line("right, where the baseline is wrong", _flip_cells(comparison, is_won=True)),
        Line("wrong, where the baseline is right", _flip_cells(comparison, is_won=False)),
    ]


def _speed_lines(comparison: Comparison) -> list[Line]:
    def ranks(model: ComparedModel) -> str:
        return " / ".join(milliseconds(value) for value in model.measured.percentiles_ms.values())

    def cost(model: ComparedModel) -> str:
        return NOTHING if model.cost_per_million is None else f"{model.cost_per_million:,.3g}"

    return [
        _line(comparison, "one text, p50 / p95 / p99 (ms)", ranks),
        _line(comparison, "times the baseline's speed", lambda model: times(model.speedup)),
        _line(comparison, "texts/s", lambda model: rate(model.measured.texts_per_second)),
        _line(comparison, "real tokens/s", lambda model: rate(model.measured.tokens_per_second)),
        _line(comparison, "cost of a million texts", cost),
    ]


def _size_lines(comparison: Comparison) -> list[Line]:
    def memory(model: ComparedModel) -> str:
        return megabytes(model.measured.peak_memory_bytes)

    def card(model: ComparedModel) -> str:
        peak = model.measured.peak_device_memory_bytes
        return NOTHING if peak is None else megabytes(peak)

    return [
        _line(comparison, "layers", lambda model: str(model.layers)),
        _line(comparison, "parameters", lambda model: f"{model.parameters:,}"),
        _line(comparison, "on disk (MB)", lambda model: megabytes(model.size_bytes)),
        _line(comparison, "peak memory (MB)", memory),
        _line(comparison, "peak memory of the card (MB)", card),
        _line(comparison, "precision", lambda model: model.measured.precision),
    ]


def _line(comparison: Comparison, title: str, cell: Callable[[ComparedModel], str]) -> Line:
    return Line(title, tuple(cell(model) for model in comparison.models))


def _of_metric(name: str) -> Callable[[ComparedModel], str]:
    def cell(model: ComparedModel) -> str:
        found = model.quality.metrics.get(name) if model.quality else None
        return score(found) if found else NOTHING

    return cell


def _of_quality(part: Callable[[Quality], Interval | None]) -> Callable[[ComparedModel], str]:
    def cell(model: ComparedModel) -> str:
        found = part(model.quality) if model.quality else None
        return percent(found) if found else NOTHING

    return cell


def _flip_cells(comparison: Comparison, *, is_won: bool) -> tuple[str, ...]:
    cells = []
    for model in comparison.models:
        flips = comparison.flips.get(model.name)
        count = None if flips is None else flips.won if is_won else flips.lost
        cells.append(NOTHING if count is None else f"{count:,}")
    return tuple(cells)


def _parts(interval: Interval) -> tuple[float, ...]:
    """Return value and ends; an end that is not known is the value itself."""
    value = interval.value
    ends = (end if math.isfinite(end) else value for end in (interval.low, interval.high))
    return (value, *ends)
