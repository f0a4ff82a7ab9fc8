"""Kill a real fine-tuning 20 times at random moments; are the weights those of an unbroken run?

all-MiniLM-L6-v2 on sst2, 152 steps, through the command line; `kill -9` after a random time, then
the same command again. Both final bundles must have one fingerprint (config, weights, tokenizer).

    python benchmarks/soak_kills.py            # about five minutes on 2 cores
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from facts import SHARED_DATA, store

from potstill.workflows.demo import packaged_model

KILLS, SEED = 20, 11
LEAST_S, MOST_S = 6.0, 9.0  # start-up takes about 4 s, and a checkpoint comes half a second later


def main() -> None:
    rng = np.random.default_rng(SEED)
    with tempfile.TemporaryDirectory() as place:
        whole = finish(command(Path(place) / "whole"))
        broken = command(Path(place) / "broken")
        steps = [kill_once(broken, float(rng.uniform(LEAST_S, MOST_S))) for _ in range(KILLS)]
        resumed = finish(broken)
    is_equal = whole["fingerprint"] == resumed["fingerprint"]
    store(
        "kills",
        {
            "kills": KILLS,
            "checkpoint_at_each_kill": steps,
            "steps": whole["steps"],
            "fingerprints": [whole["fingerprint"], resumed["fingerprint"]],
            "dev_accuracy": [
                whole["metrics"]["accuracy"]["value"],
                resumed["metrics"]["accuracy"]["value"],
            ],
            "weights_equal_bit_for_bit": is_equal,
        },
    )
    sys.exit(0 if is_equal else 1)


def command(out: Path) -> list[str]:
    return [
        *[sys.executable, "-m", "potstill", "finetune", "--json"],
        *["--model", str(packaged_model()), "--train", str(SHARED_DATA / "sst2" / "train.jsonl")],
        *["--dev", str(SHARED_DATA / "sst2" / "dev.jsonl"), "--out", str(out)],
        *["--epochs", "0.7", "--threads", "2", "--set", "checkpoint_every_s=0.5"],
    ]


def finish(words: list[str]) -> dict:
    return json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)


def kill_once(words: list[str], after_s: float) -> int:
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(after_s)
    assert child.poll() is None, "the run ended before it could be killed: use more epochs"
    child.kill()
    child.wait()
    out = Path(words[words.index("--out") + 1])
    found = [
        int(file.stem.removeprefix("step-")) for file in Path(f"{out}.run").glob("step-*.json")
    ]
    step = max(found, default=0)
    print(f"killed after {after_s:.1f} s, newest checkpoint: step {step}", flush=True)
    return step


if __name__ == "__main__":
    main()
