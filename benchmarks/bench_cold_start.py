"""How long does `potstill predict` take for one text, and how much memory?

A [CLS] classifier in DistilBERT-base's shape with random weights: in int8 through OpenVINO, and in
fp32 through ONNX Runtime, which has no quantized bundles yet. Twenty starts each, in turn, with
files in the system's cache, from process start to end; memory is the peak that is resident.

    python benchmarks/bench_cold_start.py    # two minutes
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facts import store

STARTS = 20
TEXT = "where is my parcel?"


def main() -> None:
    if sys.argv[1:2] == ["--prepare"]:
        prepare(*map(Path, sys.argv[2:]))
        return
    with tempfile.TemporaryDirectory() as place:
        folder, small = Path(place) / "cls", Path(place) / "int8"
        # A child's peak begins at that of its parent: what needs much memory runs elsewhere.
        subprocess.run([sys.executable, __file__, "--prepare", folder, small], check=True)
        commands = {
            "openvino int8": ["predict", str(small), TEXT, "--engine", "openvino"],
            "onnx fp32": ["predict", str(folder), TEXT, "--engine", "onnx"],
        }
        for words in commands.values():
            started(words)
        runs: dict[str, list[tuple[float, int]]] = {name: [] for name in commands}
        for _ in range(STARTS):
            for name, words in commands.items():
                runs[name].append(started(words))
    store("cold_start", {"starts": STARTS, "sides": [told(name, runs[name]) for name in runs]})


def prepare(folder: Path, small: Path) -> None:
    """Write both models."""
    from bench_engine import calibration_rows, write_model

    import potstill

    write_model(folder, "cls", is_tiny=False)
    potstill.quantize(folder, small, calibration=calibration_rows(folder))


def started(words: Sequence[str]) -> tuple[float, int]:
    """Run a verb in a process of its own; return its seconds and its peak in bytes."""
    sink = os.open(os.devnull, os.O_WRONLY)
    began = time.perf_counter()
    child = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "potstill", *words],
        dict(os.environ),
        file_actions=[(os.POSIX_SPAWN_DUP2, sink, 1)],
    )
    _, status, used = os.wait4(child, 0)
    seconds = time.perf_counter() - began
    os.close(sink)
    if status != 0:
        raise SystemExit(f"{' '.join(words)} ended with {os.waitstatus_to_exitcode(status)}")
    return seconds, used.ru_maxrss * 1024


def told(name: str, runs: Sequence[tuple[float, int]]) -> dict[str, Any]:
    seconds, peaks = zip(*runs, strict=True)
    return {
        "side": name,
        "p50_seconds": round(statistics.median(seconds), 3),
        "best_seconds": round(min(seconds), 3),
        "peak_bytes": max(peaks),
    }


if __name__ == "__main__":
    main()
