"""`potstill suite FILE.toml`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from potstill.cli import flags


def suite(  # noqa: PLR0913 - a verb's flags are its parameters
    file: Annotated[Path, typer.Argument(help="Tasks, seeds and settings: TOML.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of cells and bundles; goes on there.")],
    *,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the tasks' files; default: that of FILE.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Name of a task; may be repeated.")] = None,
    table: Annotated[
        bool, typer.Option("--table", help="Show what is stored, run nothing.")
    ] = False,
    markdown: Annotated[
        Path | None, typer.Option(help="Write the table to this file too: .md")
    ] = None,
    threads: flags.Threads = None,
    device: flags.Device = "auto",
    json: flags.Json = False,
) -> None:
    """Run a suite."""
    from potstill.workflows.requirements import require_torch

    require_torch("a suite")
    from potstill.cli.progress import progress_listener
    from potstill.cli.render import print_json
    from potstill.cli.render_suite import print_suite
    from potstill.workflows.suite import SuiteOptions, run_suite
    from potstill.workflows.suite_table import suite_table, write_markdown

    options = SuiteOptions(
        out=out,
        data=data,
        only=tuple(only or ()),
        device=device,
        threads=threads,
        listeners=(progress_listener(),),
    )
    if not table:
        run_suite(file, options)
    found = suite_table(file, options)
    if markdown is not None:
        write_markdown(found, markdown)
    if json:
        print_json(found.to_json())
    else:
        print_suite(found)
