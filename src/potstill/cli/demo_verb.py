"""`potstill demo`."""

from __future__ import annotations

from potstill.cli.flags import Json


def demo(*, json: Json = False) -> None:
    """Load the packaged model, describe it, embed a few sentences."""
    from potstill.cli.render import print_demo, print_json
    from potstill.workflows.demo import demo as run

    shown = run()
    if json:
        print_json(shown)
    else:
        print_demo(shown)
