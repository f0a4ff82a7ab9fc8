"""Does an engine grow while it answers? Resident memory after 200 and after 2,000 random batches.

And the most that was held until then.

The real all-MiniLM-L6-v2, 1 to 8 texts of 1 to 99 tokens a batch, each side in a process of its
own that imports what it needs and no more. Shapes never repeat for long, which is what makes caches
and allocators grow.

    python benchmarks/bench_memory.py    # some minutes
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from facts import store

EARLY, LATE = 200, 2_000
MOST_TEXTS, MOST_TOKENS = 8, 100
FIRST_WORD, LAST_WORD = 2_000, 29_000  # ids of plain words
SIDES = {  # engine, precision, which folder
    "openvino fp32": ("openvino", "fp32", "source"),
    "openvino bf16": ("openvino", "bf16", "source"),
    "openvino int8": ("openvino", "int8", "openvino-int8"),
    "onnx fp32": ("onnx", "fp32", "source"),
    "onnx int8": ("onnx", "int8", "onnx-int8"),
    "torch fp32": ("torch", "fp32", "source"),
}


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(grown(sys.argv[1], Path(sys.argv[2]))))
        return
    with tempfile.TemporaryDirectory() as place:
        prepare(Path(place))
        sides: list[dict[str, Any]] = []
        for side in SIDES:  # stored one by one: the torch engine takes longer than all others
            sides.append(in_process(side, place))
            store("memory", {"batches": [EARLY, LATE], "sides": sides})


def prepare(place: Path) -> None:
    """Lay out the model and what is quantized of it."""
    from bench_engine import calibration_rows

    import potstill
    from potstill.workflows.demo import packaged_model

    (place / "source").symlink_to(packaged_model(), target_is_directory=True)
    rows = calibration_rows(place / "source")
    for engine in ("openvino", "onnx"):
        texts = rows if engine == "openvino" else None  # the other reads none
        potstill.quantize(
            *(place / "source", place / f"{engine}-int8"),
            engine=engine,
            calibration=texts,
            tune=False,
        )


def in_process(side: str, place: str) -> dict[str, Any]:
    told = subprocess.run(
        [sys.executable, __file__, side, place], check=True, capture_output=True, text=True
    )
    found: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
    return found


def grown(side: str, place: Path) -> dict[str, Any]:
    """Answer random batches; return what was held after so many."""
    import potstill
    from potstill.held_memory import resident_bytes
    from potstill.text.ragged import RaggedBatch

    engine_name, precision, folder = SIDES[side]
    engine = potstill.load(place / folder, engine=engine_name, precision=precision).engine
    rng, most = np.random.default_rng(0), 0
    held: dict[int, tuple[int, int]] = {}  # after so many batches: what is held, the most so far
    for number in range(1, LATE + 1):
        lengths = rng.integers(1, MOST_TOKENS, rng.integers(1, MOST_TEXTS + 1))
        texts = [rng.integers(FIRST_WORD, LAST_WORD, length) for length in lengths]
        engine.run(RaggedBatch.from_lists(texts))
        now = resident_bytes()
        most = max(most, now)  # it goes up and down where freed memory is given back
        if number in (EARLY, LATE):
            held[number] = now, most
    return {
        "side": side,
        "early_bytes": held[EARLY][0],
        "late_bytes": held[LATE][0],
        "late_of_early": round(held[LATE][0] / held[EARLY][0], 3),
        "most_early_bytes": held[EARLY][1],
        "most_late_bytes": held[LATE][1],
        "most_late_of_early": round(held[LATE][1] / held[EARLY][1], 3),
    }


if __name__ == "__main__":
    main()
