"""`potstill compare MODEL…`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from potstill.cli import flags
from potstill.cli.columns import columns_named


def compare(  # noqa: PLR0913 - a verb's flags are its parameters
    models: Annotated[list[str], typer.Argument(help="Model folders, or hub:NAME.")],
    *,
    baseline: Annotated[
        str | None, typer.Option(help="One of the models; default: the first.")
    ] = None,
    test: Annotated[
        str | None, typer.Option(help="Rows to answer: .jsonl .csv .tsv .parquet hub:")
    ] = None,
    primary: Annotated[
        str | None, typer.Option(help="accuracy, macro_f1, matthews or f1:LABEL.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Page to write.")] = None,
    flips: Annotated[Path | None, typer.Option(help="CSV of differing answers to write.")] = None,
    price_per_hour: Annotated[
        float | None, typer.Option(help="Of this machine, for the cost of a million texts.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Timed rounds of each model.", min=1)] = 5,
    text_column: flags.TextColumn = "text",
    text_pair_column: flags.TextPairColumn = "text_pair",
    label_column: flags.LabelColumn = "label",
    tokens_column: flags.TokensColumn = "tokens",
    tags_column: flags.TagsColumn = "tags",
    max_length: flags.MaxLength = None,
    engine: flags.Engine = "auto",
    precision: flags.Precision = "auto",
    threads: flags.Threads = None,
    device: flags.Device = "auto",
    seed: flags.Seed = None,
    allow_pickle: flags.AllowPickle = False,
    json: flags.Json = False,
) -> None:
    """Measure models side by side."""
    from potstill.cli.render import print_json, print_progress
    from potstill.cli.render_comparison import print_comparison
    from potstill.workflows.compare import CompareOptions
    from potstill.workflows.compare import compare as run

    options = CompareOptions(
        baseline=baseline,
        test=test,
        primary=primary,
        html=html,
        flips=flips,
        price_per_hour=price_per_hour,
        rounds=rounds,
        columns=columns_named(
            text_column, text_pair_column, label_column, tokens_column, tags_column
        ),
        max_length=max_length,
        engine=engine,
        precision=precision,
        threads=threads,
        device=device,
        seed=seed or 0,
        allow_pickle=allow_pickle,
    )
    found = run(models, options, tell=lambda line: print_progress(line, stays=False))
    if json:
        print_json(found.to_json())
    else:
        print_comparison(found)
