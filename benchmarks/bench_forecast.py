"""Does `potstill forecast` say what a run will take? Three real runs on the shared corpus.

Each is forecast and then run, through the command line, each in a process of its own: a masked-LM
head for all-MiniLM-L6-v2, then students of 3 layers with two presets. Time is what the run's report
calls seconds; memory the peak of its process.

    python benchmarks/bench_forecast.py [THREADS]   # a quarter of an hour
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facts import SHARED_DATA, store

from potstill.workflows.demo import packaged_model

TOKENS = 400_000  # of each run: minutes


@dataclass(frozen=True)
class Run:
    """One training: how it is forecast, and how it is run."""

    name: str
    forecast: Sequence[str]
    verb: Sequence[str]


def main() -> None:
    threads = ["--threads", sys.argv[1]] if len(sys.argv) > 1 else []
    corpus = str(SHARED_DATA / "corpus" / "wikipedia-00.txt.xz")
    with tempfile.TemporaryDirectory() as place:
        shared = ["--corpus-folder", f"{place}/corpus", "--set", f"tokens={TOKENS}", *threads]
        rows = [compared(run, Path(place), shared) for run in runs(place, corpus)]
    store("forecast", {"tokens": TOKENS, "threads": " ".join(threads) or "all", "runs": rows})


def runs(place: str, corpus: str) -> list[Run]:
    head = ["--model", str(packaged_model())]
    teacher = ["--teacher", f"{place}/masked-lm"]
    return [
        Run(
            "masked-lm",
            [*head, "--corpus", corpus],
            ["finetune", "--task", "masked-lm", *head, "--train", corpus],
        ),
        *(
            Run(
                name,
                [*teacher, "--corpus", corpus, "--recipe", name, "--layers", "3"],
                ["distill", *teacher, "--corpus", corpus, "--recipe", name, "--layers", "3"],
            )
            for name in ("distilbert", "relations")
        ),
    ]


def compared(run: Run, place: Path, shared: Sequence[str]) -> dict[str, Any]:
    out = ["--out", str(place / run.name), *shared]
    said, _ = told(["forecast", *run.forecast, *out])
    found, peak = told([*run.verb, *out])
    row = {
        "run": run.name,
        "said_seconds": round(said["seconds"], 1),
        "took_seconds": round(found["seconds"], 1),
        "said_bytes": said["peak_bytes"],
        "took_bytes": peak,
    }
    row["seconds_said_of_taken"] = round(row["said_seconds"] / row["took_seconds"], 3)
    row["bytes_said_of_taken"] = round(row["said_bytes"] / row["took_bytes"], 3)
    print(json.dumps(row), file=sys.stderr)
    return row


def told(words: Sequence[str]) -> tuple[dict[str, Any], int]:
    """Run a verb; return its JSON and the peak of its process in bytes."""
    with tempfile.TemporaryFile() as answer:
        command = [sys.executable, "-m", "potstill", *words, "--json"]
        child = os.posix_spawn(
            sys.executable,
            command,
            dict(os.environ),
            file_actions=[(os.POSIX_SPAWN_DUP2, answer.fileno(), 1)],
        )
        _, status, used = os.wait4(child, 0)
        if status != 0:
            raise SystemExit(f"{' '.join(words)} ended with {os.waitstatus_to_exitcode(status)}")
        answer.seek(0)
        found: dict[str, Any] = json.loads(answer.read())
    return found, used.ru_maxrss * 1024


if __name__ == "__main__":
    main()
