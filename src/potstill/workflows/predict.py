"""`predict`: an answer to each text, by the model's task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from potstill.data.columns import Columns, select_columns
from potstill.data.opening import decoded, numbered_lines
from potstill.data.readers import read_rows
from potstill.errors import InputError, OutputError
from potstill.files import require_writable_file, write_atomically
from potstill.runtime.model import Model, load

_TEXTS_AT_ONCE = 1_024
SUFFIXES = (".jsonl",)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictOptions:
    """How texts are read and the model is run."""

    text_column: str = "text"
    top: int | None = None  # scores told of each text; None: of all classes
    max_length: int | None = None  # tokens; None: what the folder says
    precision: str = "auto"
    device: str = "auto"
    threads: int | None = None
    allow_pickle: bool = False


def texts_of(source: str, options: PredictOptions) -> list[str]:
    """Read the texts of a file of rows.

    Raises:
        DataError: with file, line and field.
    """
    columns = Columns(text=options.text_column)
    rows = select_columns(read_rows(source), columns, required=("text",), optional=())
    texts: list[str] = rows.column("text")
    return texts


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


def answers(
    model: str | Path, texts: Sequence[str], options: PredictOptions
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Load the model and give each text with its answer, in order, some at a time.

    Raises:
        InputError: the model answers no task; told before the first text.
    """
    loaded = load(
        model,
        device=options.device,
        precision=options.precision,
        threads=options.threads,
        max_length=options.max_length,
        allow_pickle=options.allow_pickle,
    )
    loaded.predict([])  # refuses a model without a head
    return _in_parts(loaded, texts, top=options.top)


def write_answers(found: Iterable[tuple[str, Mapping[str, Any]]], output: Path) -> dict[str, Any]:
    """Write one JSON object a line, whole or not at all, and return what was written."""
    import orjson

    lines, truncated = [], 0
    for _, answer in found:
        lines.append(orjson.dumps(answer) + b"\n")
        truncated += answer["truncated"]
    write_atomically(output, b"".join(lines))
    return {"output": str(output), "rows": len(lines), "truncated": truncated}


def require_output(output: Path, source: str | None) -> None:
    """Check where answers go, before any work.

    Raises:
        OutputError: another kind of file, a place that cannot be written, or the rows themselves.
    """
    if output.suffix not in SUFFIXES:
        raise OutputError(
            f"unknown kind of file {output.suffix!r}",
            where=str(output),
            allowed=", ".join(SUFFIXES),
        )
    require_writable_file(output)
    if source is not None and _is_same_file(output, Path(source)):
        raise OutputError(
            "the answers would replace the rows", where=str(output), cure="name another file"
        )


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


def _is_same_file(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def _in_parts(
    model: Model, texts: Sequence[str], *, top: int | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        part = texts[start : start + _TEXTS_AT_ONCE]
        for text, answer in zip(part, model.predict(part), strict=True):
            yield text, {**answer, "scores": answer["scores"][:top]}
