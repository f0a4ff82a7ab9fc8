"""`potstill demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from potstill.cli import flags


def demo(
    *,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write; default: potstill-demo.")
    ] = None,
    threads: flags.Threads = None,
    settings: flags.Settings = None,
    json: flags.Json = False,
) -> None:
    """Shrink the packaged model on the example data."""
    from potstill.workflows.requirements import require_torch

    require_torch("the demo")
    from potstill.cli.progress import progress_listener
    from potstill.cli.render import print_progress
    from potstill.cli.render_training import print_shrink
    from potstill.recipe import settings_from_words
    from potstill.workflows.demo import SETTINGS
    from potstill.workflows.demo import demo as run
    from potstill.workflows.shrink_recipe import Run

    how = Run(
        threads=threads,
        listeners=(progress_listener(),),
        tell=lambda line: print_progress(line, stays=True),
    )
    report = run(out, run=how, settings={**SETTINGS, **settings_from_words(settings or [])})
    print_shrink(report, as_json=json)
