"""Render a comparison as one self-contained HTML page."""

from __future__ import annotations

import importlib
from importlib.resources import files
from itertools import groupby
from typing import Any

from potstill.errors import MissingExtraError
from potstill.tasks.flips import FLIPS_SHOWN
from potstill.version import __version__
from potstill.workflows.comparison import ComparedModel, Comparison
from potstill.workflows.comparison_words import (
    headlines,
    lines,
    megabytes,
    metric_words,
    milliseconds,
    percent,
    size_ratio,
    times,
)

_LIBRARIES = ("jinja2", "matplotlib")


def require_page_libraries() -> None:
    """Check that what draws the page is installed.

    Raises:
        MissingExtraError: it is not; the message holds the install line.
    """
    for name in _LIBRARIES:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise MissingExtraError(name, extra="plots", needed_for="--html") from error


def render_page(comparison: Comparison) -> str:
    """Return the page; every word that came from outside is escaped.

    Raises:
        MissingExtraError: jinja2 or matplotlib is not installed.
    """
    require_page_libraries()
    import jinja2

    from potstill.workflows.report_page.plots import draw_plots

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "megabytes": megabytes,
        "metric": metric_words,
        "unbroken": _unbroken,
    }
    template = environment.from_string(_packaged("page.html"))
    return template.render(
        comparison=comparison,
        headlines=headlines(comparison),
        cards=[_card(comparison, model) for model in comparison.others],
        groups=groupby(lines(comparison), key=lambda line: line.group),
        plots=draw_plots(comparison),
        style=_packaged("style.css"),
        flips_shown=FLIPS_SHOWN,
        version=__version__,
    )


def _card(comparison: Comparison, model: ComparedModel) -> dict[str, Any]:
    """Return the three figures that one remembers of a model."""
    kept = model.quality.retention if model.quality else None
    return {
        "retention": None if kept is None else f"{100 * kept.value:.1f}",
        "interval": None if kept is None else f"{100 * kept.low:.1f} to {100 * kept.high:.1f}",
        "speed": times(model.speedup),
        "latency": milliseconds(model.measured.percentiles_ms["p50"]),
        "size": times(size_ratio(comparison, model)),
        "megabytes": megabytes(model.size_bytes),
    }


def _unbroken(text: str) -> str:
    """Keep a number and its percent sign on one line."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def _packaged(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
