"""Progress as TensorBoard's event files, beside the log that is always written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from potstill.errors import MissingExtraError
from potstill.files import told_in_one_line
from potstill.train.progress import Listener, Progress


def events_to(folder: Path) -> Listener:
    """Return a listener that writes each moment's numbers; every training has its own folder.

    Raises:
        MissingExtraError: TensorBoard is not installed.
        StorageError: the folder cannot be written.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError(
            "tensorboard", extra="tensorboard", needed_for="writing event files"
        ) from error
    writers: dict[str, Any] = {}

    @told_in_one_line(folder)
    def write(progress: Progress) -> None:
        place = (
            folder / progress.run.replace("/", " ").replace(", ", "/") if progress.run else folder
        )
        writer = writers.get(progress.run)
        if writer is None:
            writer = writers[progress.run] = SummaryWriter(str(place))
        for name, value in _numbers(progress).items():
            writer.add_scalar(name, value, progress.step)
        writer.flush()

    return write


def _numbers(progress: Progress) -> dict[str, float]:
    """Return what a moment tells, by the name of its curve."""
    if not progress.losses:  # work that is counted, no training
        return {}
    told = {f"loss/{name}": value for name, value in progress.losses.items()}
    told |= {
        "learning_rate": progress.learning_rate,
        "gradient_norm": progress.gradient_norm,
        "tokens_per_second": progress.tokens_per_second,
        "peak_bytes": float(progress.peak_bytes),
        "padding_share": progress.padding_share,
    }
    if progress.score is not None:
        told["dev/score"] = progress.score
    return told | {f"dev/{name}": value for name, value in progress.parts.items()}
