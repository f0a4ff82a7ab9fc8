"""`potstill predict MODEL TEXT…`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from potstill.cli import flags


def predict(  # noqa: PLR0913 - a verb's flags are its parameters
    model: Annotated[str, typer.Argument(help="Model folder, or hub:NAME.")],
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts; default: lines of standard input.")
    ] = None,
    *,
    rows: Annotated[
        str | None, typer.Option("--input", help="Rows: .jsonl .csv .tsv .parquet .conll .json")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", help="File of answers: .jsonl")] = None,
    text_column: flags.TextColumn = "text",
    text_pair_column: flags.TextPairColumn = "text_pair",
    tokens_column: flags.TokensColumn = "tokens",
    top: Annotated[int | None, typer.Option(help="Scores told of each text.", min=1)] = None,
    max_length: flags.MaxLength = None,
    engine: flags.Engine = "auto",
    precision: flags.Precision = "auto",
    threads: flags.Threads = None,
    device: flags.Device = "auto",
    allow_pickle: flags.AllowPickle = False,
    json: flags.Json = False,
) -> None:
    """Answer texts."""
    from potstill.cli.render import print_facts, print_json, print_warnings
    from potstill.cli.render_evidence import print_answers
    from potstill.data.columns import Columns
    from potstill.workflows.predict import (
        PredictOptions,
        answers,
        piped_texts,
        require_one_source,
        require_output,
        write_answers,
    )

    options = PredictOptions(
        columns=Columns(text=text_column, text_pair=text_pair_column, tokens=tokens_column),
        top=top,
        max_length=max_length,
        engine=engine,
        precision=precision,
        device=device,
        threads=threads,
        allow_pickle=allow_pickle,
    )
    if output is not None:
        require_output(output, rows, model)
    words = list(texts or [])
    if not words and rows is None:
        words = piped_texts(sys.stdin)
    require_one_source(words, rows)
    found = answers(model, words, rows, options)
    print_warnings(found.warnings)
    if output is None:
        print_answers(found, as_json=json)
        return
    told = write_answers(found, output)
    if json:
        print_json(told)
    else:
        print_facts(told)
