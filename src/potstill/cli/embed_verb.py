"""`potstill embed MODEL`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from potstill.cli import flags


def embed(  # noqa: PLR0913 - a verb's flags are its parameters
    model: Annotated[str, typer.Argument(help="Model folder, or hub:NAME.")],
    *,
    rows: Annotated[str, typer.Option("--input", help="Rows: .jsonl .csv .tsv .parquet")],
    output: Annotated[Path, typer.Option("--output", help="File of vectors: .npy")],
    text_column: flags.TextColumn = "text",
    max_length: flags.MaxLength = None,
    precision: flags.Precision = "auto",
    threads: flags.Threads = None,
    device: flags.Device = "auto",
    allow_pickle: flags.AllowPickle = False,
    json: flags.Json = False,
) -> None:
    """Write one vector a row."""
    from potstill.cli.render import print_facts, print_json
    from potstill.workflows.embed import EmbedOptions
    from potstill.workflows.embed import embed as run

    options = EmbedOptions(
        text_column=text_column,
        max_length=max_length,
        precision=precision,
        threads=threads,
        device=device,
        allow_pickle=allow_pickle,
    )
    told = run(model, rows, output, options)
    if json:
        print_json(told)
    else:
        print_facts(told)
