"""`predict`: an answer to each text, by the model's task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from potstill.data.columns import Columns
from potstill.data.opening import decoded, numbered_lines
from potstill.data.rows import Rows
from potstill.errors import InputError
from potstill.files import require_writable_file, write_output
from potstill.runtime.answering import rows_of_inputs
from potstill.runtime.model import Model, load
from potstill.tasks import reading
from potstill.tasks.task import texts_shown
from potstill.workflows.outputs import require_nothing_lost, require_suffix

_ROWS_AT_ONCE = 1_024
SUFFIXES = (".jsonl",)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictOptions:
    """How texts are read and the model is run."""

    columns: Columns = field(default_factory=Columns)
    top: int | None = None  # scores told of each text; None: of all classes
    max_length: int | None = None  # tokens; None: what the folder says
    engine: str = "auto"
    precision: str = "auto"
    device: str = "auto"
    threads: int | None = None
    allow_pickle: bool = False


def piped_texts(stream: TextIO | None) -> list[str]:
    """Read one text a line from standard input; none where it is a terminal or closed.

    Raises:
        DataError: a line is not UTF-8, with its number.
    """
    if stream is None or stream.isatty():
        return []
    source = "standard input"
    return [
        decoded(line, f"{source}, line {number}").rstrip("\r\n")
        for number, line in numbered_lines(stream.buffer, source)
    ]


@dataclass(frozen=True, slots=True)
class Answers:
    """Each row, in words, with its answer, in order, some at a time; and who gives them."""

    engine: str
    precision: str
    engine_reason: str
    rows: Iterator[tuple[str, dict[str, Any]]]
    warnings: list[str]  # of the model


def answers(
    model: str | Path, texts: Sequence[str], source: str | None, options: PredictOptions
) -> Answers:
    """Load the model and ask it.

    Args:
        model: a folder or hub name.
        texts: texts to answer, where there is no file.
        source: a file of rows.
        options: columns, length, engine.

    Raises:
        InputError: the model answers no task, or needs more than one text a row; told before the
            first answer.
    """
    loaded = load(
        model,
        engine=options.engine,
        device=options.device,
        precision=options.precision,
        threads=options.threads,
        max_length=options.max_length,
        allow_pickle=options.allow_pickle,
    )
    task = loaded.answered_task
    if source is not None:
        rows = reading.unlabelled(task.name, source, options.columns)
    else:
        rows = rows_of_inputs(task.name, list(texts))
    engine, parts = loaded.engine, _in_parts(loaded, rows, top=options.top)
    warnings = loaded.folder.warnings()
    return Answers(engine.name, engine.precision, engine.reason, parts, warnings)


def write_answers(found: Answers, output: Path) -> dict[str, Any]:
    """Write one JSON object a line, whole or not at all; return what was written, and by whom."""
    import orjson

    lines, truncated = [], 0
    for _, answer in found.rows:
        lines.append(orjson.dumps(answer) + b"\n")
        truncated += answer["truncated"]
    write_output(output, b"".join(lines))
    return {
        "output": str(output),
        "rows": len(lines),
        "truncated": truncated,
        "engine": found.engine,
        "precision": found.precision,
        "engine_reason": found.engine_reason,
    }


def require_output(output: Path, source: str | None, model: str) -> None:
    """Check where answers go, before any work.

    Raises:
        OutputError: another kind of file, a place that cannot be written, the rows themselves, or
            a file in the model's folder.
    """
    require_suffix(output, SUFFIXES)
    require_writable_file(output)
    require_nothing_lost(output, written="answers", rows=source, models=[model])


def require_one_source(texts: Sequence[str], source: str | None) -> None:
    """Check that texts come from one place.

    Raises:
        InputError: from two, or from none.
    """
    if texts and source is not None:
        raise InputError("texts are given twice, as words and by --input", cure="leave one out")
    if not texts and source is None:
        raise InputError(
            "there is no text to answer",
            cure="potstill predict MODEL 'a text', --input FILE, or lines on standard input",
        )


def _in_parts(model: Model, rows: Rows, *, top: int | None) -> Iterator[tuple[str, dict[str, Any]]]:
    starts = range(0, len(rows), _ROWS_AT_ONCE)
    parts = (rows.take(range(at, min(at + _ROWS_AT_ONCE, len(rows)))) for at in starts)
    for part, found in model.predict_parts(parts):
        for text, answer in zip(texts_shown(part), found, strict=True):
            if top is not None and "scores" in answer:
                answer["scores"] = answer["scores"][:top]
            yield text, answer
