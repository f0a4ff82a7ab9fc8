"""Many calls of an OpenVINO graph side by side, and what takes their outputs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from potstill.architectures.config import EncoderConfig
from potstill.runtime.openvino_library import openvino
from potstill.runtime.packed_engine import Take, graph_inputs
from potstill.runtime.packed_rows import PackedRows


class CallQueue:
    """A queue of calls, whose outputs are handed on as they come."""

    def __init__(
        self, compiled: Any, config: EncoderConfig, *, jobs: int, only: str | None
    ) -> None:
        """Make so many calls ready.

        Args:
            compiled: the graph.
            config: sizes of the encoder.
            jobs: calls that wait or run at the same time.
            only: the one output of a graph that knows it by this name alone; None: all by theirs.
        """
        self._config = config
        self._taker = _Taker(only)
        self._queue = openvino("the openvino engine").AsyncInferQueue(compiled, jobs)
        # Once: the process is aborted where the last call still ends while another is set.
        self._queue.set_callback(self._taker)

    def run(self, requests: Sequence[PackedRows], take: Take) -> None:
        """Compute all requests and hand each to `take`, in any order."""
        self._taker.begin(take)
        try:
            for rows in requests:
                self._queue.start_async(graph_inputs(rows, self._config), rows)
            self._queue.wait_all()
        except BaseException:
            for request in self._queue:  # those beside the one that failed still write
                with contextlib.suppress(Exception):
                    request.wait()
            raise
        finally:
            faults = self._taker.end()
        if faults:
            raise faults[0]


class _Taker:
    """What a queue calls: it holds the results of a batch while that runs, and no longer."""

    def __init__(self, only: str | None) -> None:
        self._only = only
        self._take: Take | None = None
        self._faults: list[BaseException] = []

    def begin(self, take: Take) -> None:
        self._take, self._faults = take, []

    def end(self) -> list[BaseException]:
        faults, self._faults, self._take = self._faults, [], None
        return faults

    def __call__(self, request: Any, rows: PackedRows) -> None:
        take = self._take
        if take is None:
            return  # of a batch that failed already
        try:
            take(rows, lambda name: request.get_tensor(self._only or name).data)
        except BaseException as error:
            self._faults.append(error)
