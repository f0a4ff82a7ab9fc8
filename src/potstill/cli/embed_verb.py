"""`potstill embed MODEL`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from potstill.cli import flags

if TYPE_CHECKING:
    from potstill.search.vector_forms import Form

_PIPE_EVERY_S = 10.0


def embed(  # noqa: PLR0913 - a verb's flags are its parameters
    model: Annotated[str, typer.Argument(help="Model folder, or hub:NAME.")],
    *,
    rows: Annotated[str, typer.Option("--input", help="Rows: .jsonl .csv .tsv .parquet")],
    output: Annotated[
        Path, typer.Option("--output", help="File of vectors: .npy .safetensors .parquet")
    ],
    text_column: flags.TextColumn = "text",
    dimensions: Annotated[
        int | None, typer.Option(help="Keep the first so many, normed to length 1.", min=1)
    ] = None,
    form: Annotated[
        str, typer.Option(help="Stored as float32, float16, int8 or binary.")
    ] = "float32",
    max_length: flags.MaxLength = None,
    engine: flags.Engine = "auto",
    precision: flags.Precision = "auto",
    threads: flags.Threads = None,
    device: flags.Device = "auto",
    allow_pickle: flags.AllowPickle = False,
    json: flags.Json = False,
) -> None:
    """Write one vector a row."""
    from potstill.cli.render import print_facts, print_json, print_warnings
    from potstill.workflows.embed import EmbedOptions
    from potstill.workflows.embed import embed as run

    options = EmbedOptions(
        text_column=text_column,
        dimensions=dimensions,
        form=cast("Form", form),  # `embed` refuses what is none
        max_length=max_length,
        engine=engine,
        precision=precision,
        threads=threads,
        device=device,
        allow_pickle=allow_pickle,
    )
    told = run(model, rows, output, options, _teller())
    if json:
        print_json(told)
    else:
        warnings = told.pop("warnings")
        print_facts(told)
        print_warnings(warnings)


def _teller() -> Callable[[int, int], None]:
    """Return what tells how far the work is; a pipe hears of it some seconds apart."""
    from potstill.cli.render import print_progress

    renews = sys.stderr.isatty()
    told_at = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal told_at
        if renews or time.monotonic() - told_at >= _PIPE_EVERY_S:
            told_at = time.monotonic()
            print_progress(f"embedded {done:,} of {total:,} rows", stays=done == total)

    return tell
