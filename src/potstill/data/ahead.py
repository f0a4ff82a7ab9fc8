"""The next part is made ready while the present one is computed."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Part = TypeVar("Part")


def made_ahead(parts: Iterable[Part]) -> Iterator[Part]:
    """Give the parts in order, each made by a thread of its own while the caller uses the last.

    For tokens: the tokenizer's library does its work outside of Python's lock. At most one part
    waits; what making one raises is raised at its turn. A generator is closed when the caller
    leaves, by the thread that runs it.
    """
    source = iter(parts)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="ahead") as worker:
        try:
            waiting = worker.submit(_following, source)
            while part := waiting.result():
                waiting = worker.submit(_following, source)
                yield from part
        finally:
            if isinstance(source, Generator):
                worker.submit(source.close)


def _following(source: Iterator[Part]) -> list[Part]:
    """Return the next part, alone in a list; nothing at the end."""
    return [part for _, part in zip(range(1), source, strict=False)]
