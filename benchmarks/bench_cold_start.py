"""How long does `potstill predict` take for one text, and how much memory?

A [CLS] classifier in DistilBERT-base's shape with random weights: in int8 through OpenVINO and
through ONNX Runtime, and in fp32 through ONNX Runtime. Twenty starts each, in turn, with files in
the system's cache, from process start to end; memory is the peak that is resident.

    python benchmarks/bench_cold_start.py            # three minutes
    python benchmarks/bench_cold_start.py --tiny     # two starts of a small model: does it run?
"""

from __future__ import annotations

import json
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

STARTS, TINY_STARTS = 20, 2
SIDES = {"openvino int8": "openvino", "onnx int8": "onnx", "onnx fp32": "source"}  # their folders
TEXT = "where is my parcel?"


def main() -> None:
    is_tiny = "--tiny" in sys.argv
    if sys.argv[1:2] == ["--prepare"]:
        prepare(Path(sys.argv[2]), is_tiny=is_tiny)
        return
    with tempfile.TemporaryDirectory() as place:
        # A child's peak begins at that of its parent: what needs much memory runs elsewhere.
        more = ["--tiny"] if is_tiny else []
        subprocess.run([sys.executable, __file__, "--prepare", place, *more], check=True)
        commands = {
            side: ["predict", str(Path(place) / folder), TEXT, "--engine", side.split()[0]]
            for side, folder in SIDES.items()
        }
        for words in commands.values():
            started(words)
        runs: dict[str, list[tuple[float, int]]] = {name: [] for name in commands}
        starts = TINY_STARTS if is_tiny else STARTS
        for _ in range(starts):
            for name, words in commands.items():
                runs[name].append(started(words))
    result = {"starts": starts, "sides": [told(name, runs[name]) for name in runs]}
    if is_tiny:
        print(json.dumps(result))
    else:
        store("cold_start", result)


def prepare(place: Path, *, is_tiny: bool) -> None:
    """Write the model and what is quantized of it."""
    from bench_engine import calibration_rows, write_model

    import potstill

    folder = write_model(place / SIDES["onnx fp32"], "cls", is_tiny=is_tiny)
    rows = calibration_rows(folder)
    for engine in ("openvino", "onnx"):
        small = place / SIDES[f"{engine} int8"]
        potstill.quantize(folder, small, engine=engine, calibration=rows)


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
