"""One run at a time writes to a place: a second would overwrite the checkpoints of the first."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from potstill.files import require_free
from potstill.locks import locked
from potstill.train.world import World
from potstill.workflows.task_rows import run_folder


@contextlib.contextmanager
def sole_writer(out: Path, world: World) -> Iterator[None]:
    """Hold the folder of a run's state; among several processes the main one does it for all.

    Raises:
        OutputError: another run holds it, or has written to `out` in the meantime.
    """
    with locked(run_folder(out)) if world.is_main else contextlib.nullcontext():
        if world.is_main:
            require_free(out)
        yield
