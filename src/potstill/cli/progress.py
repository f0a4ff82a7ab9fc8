"""Progress on standard error: one line that renews itself on a terminal, plain lines in a pipe."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from potstill.cli.render import print_progress

if TYPE_CHECKING:
    from potstill.train.progress import Listener, Progress

_PIPE_EVERY_S = 10.0


def is_main_process() -> bool:
    """Tell whether this process prints: under torchrun only the first one does."""
    return os.environ.get("RANK", "0") == "0"


def progress_listener() -> Listener:
    """Return a listener for the training loop."""
    renews = sys.stderr.isatty()
    told = [0.0]

    def tell(progress: Progress) -> None:
        is_news = progress.score is not None or progress.step == progress.total_steps
        if renews:
            print_progress(progress.line(), stays=is_news)
        elif is_news or time.monotonic() - told[0] >= _PIPE_EVERY_S:
            told[0] = time.monotonic()
            print_progress(progress.line(), stays=True)

    return tell


def listeners(tensorboard: Path | None) -> tuple[Listener, ...]:
    """Return who listens to a training: the person at the terminal, and TensorBoard if asked for.

    Raises:
        MissingExtraError: TensorBoard is not installed.
    """
    if tensorboard is None or not is_main_process():
        return (progress_listener(),)
    from potstill.train.tensorboard import events_to

    return (progress_listener(), events_to(tensorboard))
