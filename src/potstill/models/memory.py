"""Tell the end of memory in one line, on every device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from potstill.errors import OutOfMemory


@contextlib.contextmanager
def told_when_memory_ends(device: str, *, cure: str | None = None) -> Iterator[None]:
    """Turn torch's out-of-memory errors into ours.

    Raises:
        OutOfMemory: with the setting that makes batches smaller.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _told(device, cure) from error
    except RuntimeError as error:
        # The CPU's allocator raises a plain RuntimeError.
        if "can't allocate memory" in str(error) or "not enough memory" in str(error):
            raise _told(device, cure) from error
        raise


def _told(device: str, cure: str | None) -> OutOfMemory:
    return OutOfMemory(
        f"{device} has no memory left for this batch",
        cure=cure or "lower --batch-tokens or --max-length",
    )
