"""Tell the end of memory in one line, on every device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from potstill.errors import OutOfMemory

# The CPU's allocator, MPS and some of CUDA's libraries raise a plain RuntimeError.
_WORDS = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")


@contextlib.contextmanager
def told_when_memory_ends(
    device: str | None, *, what: str = "this batch", cure: str | None = None
) -> Iterator[None]:
    """Turn torch's out-of-memory errors into ours.

    Args:
        device: whose memory it is; None: what ended says it.
        what: for what it is too small.
        cure: the setting that makes it smaller.

    Raises:
        OutOfMemory: memory has ended.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is one
        is_of_card = isinstance(error, torch.OutOfMemoryError)
        is_typed = is_of_card or isinstance(error, MemoryError)
        if not is_typed and not any(words in str(error) for words in _WORDS):
            raise
        whose = device or ("the card" if is_of_card else "the machine")
        raise OutOfMemory(
            f"{whose} has no memory left for {what}",
            cure=cure or "lower --batch-tokens or --max-length",
        ) from error
