"""The process in which one model is measured: `python -m potstill.measure.child CORES`.

One JSON object a line comes in, one goes out; between two commands the process sleeps, so that the
models of a comparison can take turns. Nothing heavy is imported before the process is pinned:
threads that a library starts inherit the processors of the moment.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import TextIO


def main(arguments: list[str]) -> int:
    """Obey commands until standard input ends."""
    _pin(arguments[0] if arguments else "")
    answers = _take_standard_output()
    from potstill.errors import PotstillError
    from potstill.measure.subject import Subject

    subject = Subject()
    for line in sys.stdin:
        command = json.loads(line)
        try:
            told = {"answer": subject.obey(command.pop("command"), command)}
        except PotstillError as error:
            told = {"error": _parts(error)}
        answers.write(json.dumps(told) + "\n")
        answers.flush()
    return 0


def _pin(cores: str) -> None:
    if cores and hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, {int(core) for core in cores.split(",")})


def _take_standard_output() -> TextIO:
    """Keep the pipe for answers; what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _parts(error: Exception) -> dict[str, str | None]:
    names = ("what", "where", "allowed", "cure")
    return {"kind": type(error).__name__, **{name: getattr(error, name) for name in names}}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
