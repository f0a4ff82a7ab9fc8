"""`potstill tune MODEL`."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer

from potstill.cli import flags


def tune(
    model: Annotated[str, typer.Argument(help="Model folder; its potstill.json is written.")],
    *,
    goal: Annotated[str, typer.Option(help="throughput or latency.")] = "throughput",
    source: Annotated[
        str | None, typer.Option("--input", help="Rows to measure on; default: our sentences.")
    ] = None,
    text_column: flags.TextColumn = "text",
    threads: flags.Threads = None,
    json: flags.Json = False,
) -> None:
    """Measure which engine serves a model best here, and store the choice."""
    from potstill.cli.render import print_json, print_progress
    from potstill.workflows.tune import TuneOptions
    from potstill.workflows.tune import tune as run

    options = TuneOptions(goal=goal, source=source, text_column=text_column, threads=threads)
    found = run(model, options, partial(print_progress, stays=False))
    if json:
        print_json(found)
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    from potstill.cli.render import print_facts, print_table

    rows = [
        [
            each["engine"],
            each["device"],
            each["precision"],
            f"{each['row_tokens']} / {each['request_tokens']}",
            f"{each['threads']}",
            f"{each['tokens_per_second']:,.0f}",
            f"{each['p50_ms']:.2f}",
        ]
        for each in found["measured"]
    ]
    header = ["engine", "device", "precision", "slots of a row / call", "threads"]
    print_table([*header, "tokens/s", "one text, ms"], rows)
    best, chosen = found["measured"][0], found["chosen"]
    told = f"{chosen['name']}, {chosen['precision']}"
    print_facts({"goal": found["goal"], "chosen": told, "threads": best["threads"]})
