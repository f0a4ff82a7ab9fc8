"""Kill a real training 20 times at random moments; are the weights those of an unbroken run?

Through the command line; `kill -9` after a random time, then the same command again. Both final
bundles must have one fingerprint (config, weights, tokenizer).

    python benchmarks/soak_kills.py            # all-MiniLM-L6-v2 tuned on sst2; 5 minutes
    python benchmarks/soak_kills.py general    # 6 -> 3 layers on a corpus; 10 minutes on 2 cores
"""

from __future__ import annotations

import itertools
import json
import lzma
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from facts import SHARED_DATA, store

from potstill.workflows.demo import packaged_model

KILLS, SEED = 20, 11
PARAGRAPHS = 4_000
LEAST_S, MOST_S = 6.0, 9.0  # start-up takes about 4 s, and a checkpoint comes half a second later


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "finetune"
    command = {"finetune": finetuning, "general": general_distillation}[name]
    rng = np.random.default_rng(SEED)
    with tempfile.TemporaryDirectory() as place:
        whole = finish(command(Path(place), "whole"))
        broken = command(Path(place), "broken")
        steps = [kill_once(broken, float(rng.uniform(LEAST_S, MOST_S))) for _ in range(KILLS)]
        resumed = finish(broken)
    is_equal = whole["fingerprint"] == resumed["fingerprint"]
    store(
        "kills" if name == "finetune" else f"kills_{name}",
        {
            "kills": KILLS,
            "checkpoint_at_each_kill": steps,
            "steps": whole["steps"],
            "fingerprints": [whole["fingerprint"], resumed["fingerprint"]],
            "metrics": [
                {metric: found["value"] for metric, found in each["metrics"].items()}
                for each in (whole, resumed)
            ],
            "weights_equal_bit_for_bit": is_equal,
        },
    )
    sys.exit(0 if is_equal else 1)


def finetuning(place: Path, name: str) -> list[str]:
    return [
        *[sys.executable, "-m", "potstill", "finetune", "--json"],
        *["--model", str(packaged_model()), "--train", str(SHARED_DATA / "sst2" / "train.jsonl")],
        *["--dev", str(SHARED_DATA / "sst2" / "dev.jsonl"), "--out", str(place / name)],
        *["--epochs", "0.7", "--threads", "2", "--set", "checkpoint_every_s=0.5"],
    ]


def general_distillation(place: Path, name: str) -> list[str]:
    """Return the command, after giving the teacher a masked-LM head and building the corpus."""
    texts, teacher = place / "texts.txt", place / "teacher"
    potstill = [sys.executable, "-m", "potstill"]
    few = ["--threads", "2", "--set", "scores=3", "--set", "held_out_documents=50"]
    if not teacher.exists():
        with lzma.open(SHARED_DATA / "corpus" / "wikipedia-00.txt.xz", "rt") as stream:
            texts.write_text("".join(itertools.islice(stream, PARAGRAPHS)), encoding="utf-8")
        words = ["finetune", "--task", "masked-lm", "--model", str(packaged_model()), "--json"]
        words += ["--train", str(texts), "--out", str(teacher), "--set", "tokens=100000", *few]
        finish([*potstill, *words])
    return [
        *[*potstill, "distill", "--json", "--teacher", str(teacher), "--recipe", "potstill"],
        *["--corpus", f"{teacher}.corpus", "--layers", "3", "--out", str(place / name), *few],
        *["--set", "tokens=400000", "--set", "step_tokens=4096", "--set", "checkpoint_every_s=0.5"],
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
