"""Stop at the next step when asked to: SIGTERM, SIGHUP and the first Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, Mapping
from types import FrameType, TracebackType
from typing import Any


class StopRequest:
    """Remembers, while active, that a signal asked to stop; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.is_made = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        self._before = _handed_to(self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._give_back()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.is_made and number == signal.SIGINT:
            before = self._before[signal.SIGINT]
            self._give_back()
            if callable(before):  # the command line's passes over what comes while it cleans up
                before(number, frame)
            raise KeyboardInterrupt
        self.is_made = True

    def _give_back(self) -> None:
        """Put back the handlers that stood there before, once."""
        _put_back(self._before)
        self._before = {}


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let signals end the process at once, meanwhile.

    For a wait inside a library, to whose end Python puts off every handler, and only where nothing
    is half-written.
    """
    before = _handed_to(signal.SIG_DFL)
    try:
        yield
    finally:
        _put_back(before)


def _handed_to(handler: Any) -> dict[signal.Signals, Any]:
    """Let a handler have what asks to end; return whose that was.

    Python delivers signals to the main thread alone; elsewhere the caller keeps its handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {kind: signal.signal(kind, handler) for kind in _kinds()}


def _put_back(before: Mapping[signal.Signals, Any]) -> None:
    for kind, handler in before.items():
        signal.signal(kind, handler)


def _kinds() -> Iterator[signal.Signals]:
    yield from (signal.SIGTERM, signal.SIGINT)
    # Windows knows no hang-up, and nohup asks that none is heeded.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        yield signal.SIGHUP
