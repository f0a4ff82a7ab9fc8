"""Everything that is printed: tables on a terminal, plain lines in a pipe, JSON with --json."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from potstill.errors import StorageError

if TYPE_CHECKING:
    from potstill.report import Measured, Report

_INFO_LINES = {
    "architecture": "architecture",
    "task": "task",
    "labels": "labels",
    "layers": "layers",
    "hidden_size": "hidden size",
    "heads": "heads",
    "vocabulary_size": "vocabulary",
    "max_length": "longest text (tokens)",
    "parameters": "parameters",
    "size_bytes": "on disk (bytes)",
    "dtypes": "number formats",
    "weight_files": "weight files",
    "runtime_files": "runtime files",
    "pooling": "pooling",
    "transformers": "in transformers",
    "lineage": "lineage",
    "measurements": "measurements",
    "ignored_weights": "weights known and not used",
    "unknown_weights": "weights unknown and not used",
    "fingerprint": "fingerprint",
}


def print_line(line: str) -> None:
    """Print one line of answer.

    Raises:
        StorageError: standard output cannot be written; so for all answers here.
    """
    with _answering():
        print(line)


def print_error(line: str) -> None:
    """Print one line on standard error."""
    _say(f"{_over_progress()}potstill: {_on_one_line(line)}\n")


def print_json(answer: Any) -> None:
    """Print one JSON object on one line."""
    import orjson

    flush_answer()
    with _answering():
        sys.stdout.buffer.write(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
        sys.stdout.buffer.flush()


def flush_answer() -> None:
    """Write out what is still buffered."""
    with _answering():
        sys.stdout.flush()


def print_progress(line: str, *, stays: bool) -> None:
    """Print a line of progress; on a terminal the next one overwrites it unless it stays."""
    end = "" if sys.stderr.isatty() and not stays else "\n"
    _say(f"{_over_progress()}{line}{end}")


def print_warnings(warnings: list[str]) -> None:
    """Print warnings on standard error."""
    for warning in warnings:
        print_error(f"warning: {warning}")


def print_info(facts: Mapping[str, Any]) -> None:
    """Print what `info` found."""
    shown = {title: _in_words(facts[name]) for name, title in _INFO_LINES.items() if facts[name]}
    print_facts(shown, title=str(facts["path"]))
    print_warnings(facts["warnings"])


def print_report(report: Report) -> None:
    """Print what a verb that writes a bundle found."""
    metrics = {
        f"{name} ({report.details.get('metrics_on', 'test')})": _measured(measured)
        for name, measured in report.metrics.items()
    }
    facts = {
        "bundle": str(report.bundle),
        "task": report.task,
        **metrics,
        "steps": f"{report.steps:,}",
        "seconds": f"{report.seconds:,.1f}",
        "fingerprint": report.fingerprint,
    }
    print_facts(facts)
    print_warnings(report.warnings)


def _measured(found: Measured) -> str:
    """Return a value, with its interval where one was taken."""
    if found.low is None or found.high is None:
        return f"{found.value:.4f}"
    return f"{found.value:.4f} ({found.low:.4f} to {found.high:.4f})"


def print_facts(facts: Mapping[str, Any], *, title: str | None = None) -> None:
    """Print names and values, one pair a line."""
    print_table(["", ""], [[name, _in_words(value)] for name, value in facts.items()], title=title)


def print_table(header: list[str], rows: list[list[str]], *, title: str | None = None) -> None:
    """Print a table: drawn on a terminal, tab-separated in a pipe."""
    if not sys.stdout.isatty():
        for row in [header, *rows] if any(header) else rows:
            print_line("\t".join(_on_one_line(cell) for cell in row))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE, show_header=any(header), title_justify="left")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(_on_one_line(cell) for cell in row))
    with _answering():
        Console().print(table, markup=False)


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        _drop_answer()  # its reader has seen enough, as `head` has
    except OSError as error:
        _drop_answer()
        raise StorageError(
            f"the answer cannot be written: {error.strerror}", where="standard output"
        ) from error


def _drop_answer() -> None:
    """Send what is buffered, and all that follows, nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(told: str) -> None:
    """Write to standard error; where nobody hears it any more, a run goes on and ends unheard."""
    try:
        sys.stderr.write(told)
        sys.stderr.flush()
    except OSError:  # the terminal was closed, or the reader of a pipe has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _over_progress() -> str:
    """Return what wipes out an unfinished line of progress on a terminal."""
    return "\r\033[2K" if sys.stderr.isatty() else ""


def _on_one_line(text: str) -> str:
    """Return a text with escapes for what would break its line or command the terminal."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def _in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_in_words(item)}" for name, item in value.items() if item != "")
    if isinstance(value, list | tuple):
        return ", ".join(_in_words(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
