"""The plots of a comparison as inline SVG, in the colors of the page around them.

matplotlib writes colors as numbers; each color here stands for a variable of the page's style, so
that one drawing serves light and dark.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from potstill.workflows.comparison import ComparedModel, Comparison
from potstill.workflows.comparison_words import (
    megabytes,
    metric_words,
    milliseconds,
    score,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Numbers that occur nowhere else, and what they become.
_INK, _FAINT, _PAPER = "#010203", "#020304", "#030405"
_SERIES = ("#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04", "#0a0b05", "#0a0b06")
_VARIABLE_OF = {
    _INK: "var(--ink)",
    _FAINT: "var(--faint)",
    _PAPER: "var(--paper)",
    **{color: f"var(--series-{number})" for number, color in enumerate(_SERIES)},
}
_MARKERS = ("o", "s", "D", "^", "v", "P")  # color alone tells nobody apart who cannot see it
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "font.size": 10,
    "text.color": _INK,
    "text.parse_math": False,  # a $ in a name is a $
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "legend.frameon": False,
}
_WIDTH_IN = 5.0
_LONGEST_NAME = 26  # characters
_MOST_CLASSES = 15


@dataclass(frozen=True, slots=True)
class Plot:
    """One drawing with its words."""

    title: str
    words: str  # what it shows, for those who do not see it
    svg: str


def draw_plots(comparison: Comparison) -> list[Plot]:
    """Return the plots that the comparison has the figures for."""
    import matplotlib as mpl

    plots = []
    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        # Of a letter that matplotlib's own font lacks: the reader's fonts will draw it.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        for draw in (_speed, _footprint, _classes):
            plot = draw(comparison)
            if plot is not None:
                plots.append(plot)
    return plots


def _speed(comparison: Comparison) -> Plot:
    return _latency(comparison) if comparison.primary is None else _quality(comparison)


def _quality(comparison: Comparison) -> Plot:
    """Draw the primary metric against the median latency, both with their spread."""
    name = comparison.primary
    assert name is not None, "quality is drawn where it was measured"
    figure, axes = _canvas(3.4)
    told = []
    for model, color, marker in _styled(comparison):
        assert model.quality is not None, "all models answered the same rows"
        p50, p95 = (model.measured.percentiles_ms[rank] for rank in ("p50", "p95"))
        found = model.quality.metrics[name]
        axes.errorbar(
            [p50],
            [found.value],
            xerr=[[0.0], [p95 - p50]],
            yerr=[[max(0.0, found.value - found.low)], [max(0.0, found.high - found.value)]],
            color=color,
            marker=marker,
            markersize=8,
            capsize=3,
            linewidth=1.4,
        )
        axes.plot([], [], linestyle="none", color=color, marker=marker, label=_short(model.name))
        told.append(f"{model.name} {score(found)} at {milliseconds(p50)} ms")
    axes.set_xlim(left=0)
    axes.margins(y=0.15)
    axes.set_xlabel("one text (ms): median, whisker to p95")
    axes.set_ylabel(f"{metric_words(name)}, 95 % interval")
    _legend_above(axes, len(comparison.models))
    title = "Quality against latency"
    return Plot(
        title, f"{metric_words(name)} against median latency: {'; '.join(told)}.", _svg(figure)
    )


def _latency(comparison: Comparison) -> Plot:
    """Draw the median latency as bars, with a whisker to the 95th percentile."""
    p50s, p95s = (
        [model.measured.percentiles_ms[rank] for model in comparison.models]
        for rank in ("p50", "p95")
    )
    figure, axes = _canvas(0.9 + 0.45 * len(p50s))
    _bars(axes, comparison, p50s, milliseconds, beyond=p95s)
    axes.set_xlabel("one text (ms): median, whisker to p95")
    told = [
        f"{model.name} {milliseconds(p50)} ms, p95 {milliseconds(p95)} ms"
        for model, p50, p95 in zip(comparison.models, p50s, p95s, strict=True)
    ]
    return Plot("Latency", f"Median time of one text: {'; '.join(told)}.", _svg(figure))


def _footprint(comparison: Comparison) -> Plot:
    """Draw bytes on disk and peak memory as bars."""
    models = comparison.models
    sizes = [model.size_bytes for model in models]
    peaks = [model.measured.peak_memory_bytes for model in models]
    figure, upper, lower = _two_canvases(1.4 + 0.8 * len(models))
    for axes, values, title in (
        (upper, sizes, "on disk (MB)"),
        (lower, peaks, "peak memory above what the libraries take (MB)"),
    ):
        _bars(axes, comparison, [value / 1e6 for value in values], lambda v: megabytes(1e6 * v))
        axes.set_xlabel(title)
    told = [
        f"{model.name} {megabytes(size)} MB on disk, {megabytes(peak)} MB of memory"
        for model, size, peak in zip(models, sizes, peaks, strict=True)
    ]
    return Plot("Size and memory", f"{'; '.join(told)}.", _svg(figure))


def _classes(comparison: Comparison) -> Plot | None:
    """Draw the F1 of each class, those first that lost most; None without test rows."""
    labels = _most_changed(comparison)
    if not labels:
        return None
    figure, axes = _canvas(1.3 + 0.32 * len(labels))
    places = range(len(labels), 0, -1)
    for model, color, marker in _styled(comparison):
        assert model.quality is not None, "all models answered the same rows"
        axes.plot(
            [model.quality.f1_of[label] for label in labels],
            places,
            linestyle="none",
            color=color,
            marker=marker,
            markersize=8,
            alpha=0.9,
            label=_short(model.name),
        )
    axes.set_yticks(list(places), [_short(label) for label in labels])
    axes.set_ylim(0.4, len(labels) + 0.6)
    axes.set_xlabel("F1")
    _legend_above(axes, len(comparison.models))
    total = len(comparison.baseline.quality.f1_of) if comparison.baseline.quality else 0
    title = "F1 of each class"
    if len(labels) < total:
        title += f" ({len(labels)} of {total}, those that changed most)"
    return Plot(title, _classes_in_words(comparison, labels), _svg(figure))


def _classes_in_words(comparison: Comparison, labels: Sequence[str]) -> str:
    told = []
    for label in labels:
        values = ", ".join(
            f"{model.name} {model.quality.f1_of[label]:.3f}"
            for model in comparison.models
            if model.quality
        )
        told.append(f"{label}: {values}")
    return "; ".join(told) + "."


def _most_changed(comparison: Comparison) -> list[str]:
    """Return the labels, the greatest change against the baseline first where some are left out."""
    if comparison.baseline.quality is None:
        return []
    base = comparison.baseline.quality.f1_of

    def change(label: str) -> float:
        others = [model.quality.f1_of[label] for model in comparison.others if model.quality]
        return min((value - base[label] for value in others), default=0.0)

    return sorted(base, key=change)[:_MOST_CLASSES]


def _bars(
    axes: Axes,
    comparison: Comparison,
    values: Sequence[float],
    written: Callable[[float], str],
    *,
    beyond: Sequence[float] | None = None,
) -> None:
    """Draw one horizontal bar a model, the baseline on top, each with its number."""
    ends = beyond or values
    for place, (_model, color, _marker) in enumerate(_styled(comparison)):
        axes.barh([-place], [values[place]], color=color, height=0.6)
        if ends[place] > values[place]:
            axes.plot([values[place], ends[place]], [-place, -place], color=_INK, linewidth=1.2)
        axes.annotate(
            written(values[place]),
            (ends[place], -place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
        )
    names = [_short(model.name) for model in comparison.models]
    axes.set_yticks([-place for place in range(len(names))], names)
    axes.set_xlim(0, 1.25 * max(*ends, 1e-9))
    axes.grid(visible=False, axis="y")


def _styled(comparison: Comparison) -> Iterator[tuple[ComparedModel, str, str]]:
    """Yield each model with its color and marker; the baseline has the quiet ones."""
    for number, model in enumerate(comparison.models):
        place = number if number < len(_SERIES) else 1 + (number - 1) % (len(_SERIES) - 1)
        yield model, _SERIES[place], _MARKERS[number % len(_MARKERS)]


def _canvas(height_in: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
    return figure, figure.subplots()


def _two_canvases(height_in: float) -> tuple[Figure, Axes, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
    upper, lower = figure.subplots(2, 1)
    return figure, upper, lower


def _legend_above(axes: Axes, models: int) -> None:
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=min(models, 2),
        borderaxespad=0.2,
        handletextpad=0.4,
        columnspacing=1.2,
    )


def _short(name: str) -> str:
    """Return a name that fits beside a bar; of a longer one its two ends."""
    if len(name) <= _LONGEST_NAME:
        return name
    half = (_LONGEST_NAME - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def _svg(figure: Figure) -> str:
    """Return the drawing as an element of a page: no prolog, no metadata, no idle ids."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg")
    drawn = stream.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>\s*", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', _opening, drawn, count=1)
    drawn = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1; font-family: inherit", drawn)
    for color, variable in _VARIABLE_OF.items():
        drawn = drawn.replace(color, variable)
    return _with_own_ids(drawn)


def _opening(match: re.Match[str]) -> str:
    return (
        f'<svg viewBox="{match[1]}" role="img" aria-hidden="true" focusable="false" '
        'xmlns:xlink="http://www.w3.org/1999/xlink" xmlns="http://www.w3.org/2000/svg">'
    )


def _with_own_ids(drawn: str) -> str:
    """Drop ids that nothing refers to: they would stand in the page once for every plot."""
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', drawn))
    return re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", drawn)
