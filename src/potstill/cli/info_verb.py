"""`potstill info MODEL`."""

from __future__ import annotations

from typing import Annotated

import typer

from potstill.cli.flags import AllowPickle, Json


def info(
    model: Annotated[str, typer.Argument(help="Model folder, or hub:NAME.")],
    *,
    allow_pickle: AllowPickle = False,
    json: Json = False,
) -> None:
    """Describe a folder."""
    from potstill.cli.render import print_info, print_json
    from potstill.workflows.info import describe

    facts = describe(model, allow_pickle=allow_pickle)
    if json:
        print_json(facts)
    else:
        print_info(facts)
