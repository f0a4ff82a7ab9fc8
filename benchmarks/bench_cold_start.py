"""How long does `potstill predict` take for one text, how much memory, how large are the files?

A [CLS] classifier in DistilBERT-base's shape with random weights: in int8 through OpenVINO (with
what an earlier start has compiled, and without) and through ONNX Runtime, and in fp32 through ONNX
Runtime. Twenty starts each, in turn, with files in the system's cache, from process start to end;
memory is the peak that is resident.

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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from facts import store

STARTS, TINY_STARTS = 20, 2
TEXT = "where is my parcel?"
SOURCE = "source"
SMALL = {  # folders, and how they are made of the source
    "openvino-int8": {"engine": "openvino", "precision": "int8"},
    "openvino-int4": {"engine": "openvino", "precision": "int4"},
    "onnx-int8": {"engine": "onnx", "precision": "int8"},
    "bf16": {"precision": "bf16"},
}
SIDES = {  # engine, folder, whether what was compiled is kept for the next start
    "openvino int8": ("openvino", "openvino-int8", True),
    "openvino int8, nothing kept": ("openvino", "openvino-int8", False),
    "onnx int8": ("onnx", "onnx-int8", False),
    "onnx fp32": ("onnx", SOURCE, False),
}


def main() -> None:
    is_tiny = "--tiny" in sys.argv
    if sys.argv[1:2] == ["--prepare"]:
        prepare(Path(sys.argv[2]), is_tiny=is_tiny)
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        # A child's peak begins at that of its parent: what needs much memory runs elsewhere.
        more = ["--tiny"] if is_tiny else []
        subprocess.run([sys.executable, __file__, "--prepare", folder, *more], check=True)
        for side in SIDES:
            start(side, place)
        starts = TINY_STARTS if is_tiny else STARTS
        runs: dict[str, list[tuple[float, int]]] = {side: [] for side in SIDES}
        for _ in range(starts):
            for side in SIDES:
                runs[side].append(start(side, place))
        sizes = {name: bytes_of(place / name) for name in (SOURCE, *SMALL)}
    result = {"starts": starts, "sides": [told(*each) for each in runs.items()], "bytes": sizes}
    if is_tiny:
        print(json.dumps(result))
    else:
        store("cold_start", result)


def prepare(place: Path, *, is_tiny: bool) -> None:
    """Write the model and what is quantized of it."""
    from bench_engine import calibration_rows, write_model

    import potstill

    folder = write_model(place / SOURCE, "cls", is_tiny=is_tiny)
    rows = calibration_rows(folder)
    for name, how in SMALL.items():
        texts = rows if name == "openvino-int8" else None  # fitted or rounded, int4 is as large
        potstill.quantize(folder, place / name, calibration=texts, tune=False, **how)


def bytes_of(folder: Path) -> int:
    """Return the size of all files of a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def start(side: str, place: Path) -> tuple[float, int]:
    """Answer one text in a process of its own; return its seconds and its peak in bytes."""
    engine, folder, is_kept = SIDES[side]
    cache = str(place / "cache") if is_kept else "off"
    words = ["predict", str(place / folder), TEXT, "--engine", engine]
    return started(words, {**os.environ, "POTSTILL_CACHE": cache})


def started(words: Sequence[str], environment: Mapping[str, str]) -> tuple[float, int]:
    """Run a verb; return its seconds and its peak in bytes."""
    sink = os.open(os.devnull, os.O_WRONLY)
    began = time.perf_counter()
    child = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "potstill", *words],
        dict(environment),
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
