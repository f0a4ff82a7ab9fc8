"""A child process that holds one model and obeys commands: JSON lines over pipes, no pickle."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from potstill import errors
from potstill.errors import OutOfMemory, PotstillError, RunError
from potstill.measure.machine import quiet_cores

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
)
_LONGEST_LINE = 400  # characters of a child's last words that are shown


class Commanded:
    """One child process; a context manager that leaves none behind."""

    def __init__(self, name: str, *, threads: int, complaints: Path) -> None:
        """Start the process.

        Args:
            name: the model's, for messages.
            threads: that its libraries may use; it is pinned to as many cores where it can be.
            complaints: the file that takes its standard error.
        """
        self.name = name
        self._complaints = complaints
        self._process = self._start(threads)

    def __enter__(self) -> Commanded:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            _close(pipe)

    @property
    def process_id(self) -> int:
        """Return the number of the process."""
        return self._process.pid

    def ask(self, command: str, **details: Any) -> dict[str, Any]:
        """Run one command and wait for its answer.

        Raises:
            PotstillError: what the child met, with the model's name.
            OutOfMemory, RunError: the child died.
        """
        commands, answers = self._process.stdin, self._process.stdout
        assert commands is not None
        assert answers is not None
        try:
            commands.write(json.dumps({"command": command, **details}).encode() + b"\n")
            commands.flush()
            line = answers.readline()
        except BrokenPipeError:
            line = b""
        if not line.endswith(b"\n"):
            raise self._death()
        told: dict[str, Any] = json.loads(line)
        if "error" in told:
            raise _rebuilt(told["error"], self.name)
        answer: dict[str, Any] = told["answer"]
        return answer

    def _start(self, threads: int) -> subprocess.Popen[bytes]:
        cores = ",".join(map(str, quiet_cores(threads) or []))
        with self._complaints.open("wb") as stream:
            # -P: the folder one stands in is no place for modules
            return subprocess.Popen(  # noqa: S603 (this Python, our own module)
                [sys.executable, "-P", "-m", "potstill.measure.child", cores],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                env=_environment(threads),
            )

    def _death(self) -> PotstillError:
        status = self._process.wait()
        if status == -signal.SIGKILL:
            return OutOfMemory(
                "the process that measured it was killed by the system, as it does when memory "
                "runs out",
                where=f"model {self.name}",
                cure="compare fewer models at once, or on a machine with more memory",
            )
        words = self._complaints.read_text(encoding="utf-8", errors="replace").strip()
        last_line = words.rpartition("\n")[2][:_LONGEST_LINE]
        return RunError(
            f"the process that measured it ended with status {status}: "
            f"{last_line or 'it said nothing'}",
            where=f"model {self.name}",
            cure="see whether potstill info and potstill predict work with it",
        )


def _environment(threads: int) -> dict[str, str]:
    """Return this process's environment with the threads of all libraries pinned."""
    package = str(Path(errors.__file__).parents[1])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    pinned = dict.fromkeys(_THREAD_VARIABLES, str(threads))
    return {**os.environ, **pinned, "PYTHONPATH": os.pathsep.join(paths)}


def _rebuilt(parts: Mapping[str, str | None], name: str) -> PotstillError:
    """Return the child's error, told about this model."""
    kind = getattr(errors, str(parts["kind"]), RunError)
    assert issubclass(kind, PotstillError), "a child passes on errors of our tree only"
    if kind is errors.MissingExtraError:  # composed by its class; its words are whole
        kind = errors.InputError
    where = parts["where"]
    return kind(
        str(parts["what"]),
        where=f"model {name}" + (f", {where}" if where else ""),
        allowed=parts["allowed"],
        cure=parts["cure"],
    )


def _close(pipe: IO[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError):  # of a command that nobody will read
        pipe.close()
