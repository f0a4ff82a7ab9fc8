"""Stop at the next step when asked to: SIGTERM and the first Ctrl-C."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class StopRequest:
    """Remembers, while active, that a signal asked to stop; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.is_made = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        # Python delivers signals to the main thread alone; elsewhere the caller keeps its handlers.
        if threading.current_thread() is threading.main_thread():
            for kind in (signal.SIGTERM, signal.SIGINT):
                self._before[kind] = signal.signal(kind, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for signal_kind, handler in self._before.items():
            signal.signal(signal_kind, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.is_made and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.is_made = True
