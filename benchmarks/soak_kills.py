"""Kill a real training 20 times all over it; are the weights those of an unbroken run?

Through the command line, a checkpoint after every step. The steps after which it is killed are
drawn over the whole run, and `kill -9` comes a random part of a step later: inside a step, a score
or the writing of a checkpoint. Then the same command again. Both final bundles must have one
fingerprint (config, weights, tokenizer), and kills must fall before the first score and after each
but the last.

    python benchmarks/soak_kills.py            # all-MiniLM-L6-v2 tuned on sst2; 15 minutes
    python benchmarks/soak_kills.py general    # 6 -> 3 layers on a corpus; 40 minutes
"""

from __future__ import annotations

import itertools
import json
import lzma
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from facts import SHARED_DATA, store

from potstill.files import TEMPORARY_SUFFIX
from potstill.workflows.demo import packaged_model

KILLS, SEED = 20, 11
SCORES = 4  # in the run; the last one is at its end
PARAGRAPHS = 1_000
LOOKS_S = 0.02
EVERY_STEP = ("--threads", "1", "--set", "checkpoint_every_s=0")


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "finetune"
    command = {"finetune": finetuning, "general": general_distillation}[name]
    rng = np.random.default_rng(SEED)
    with tempfile.TemporaryDirectory() as place:
        whole = finish(command(Path(place), "whole"))
        step_s = whole["seconds"] / whole["steps"]
        broken = command(Path(place), "broken")
        # The last steps are left out: a kill that comes late must still find the run at work.
        steps = np.sort(rng.choice(np.arange(1, whole["steps"] - 3), KILLS, replace=False))
        kills = [kill_once(broken, int(step), float(rng.uniform(0, step_s))) for step in steps]
        resumed = finish(broken)
    is_equal = whole["fingerprint"] == resumed["fingerprint"]
    scores = [kill["scores"] for kill in kills]
    store(
        "kills" if name == "finetune" else f"kills_{name}",
        {
            "kills": KILLS,
            "steps": whole["steps"],
            "checkpoint_at_each_kill": [kill["step"] for kill in kills],
            "scores_before_each_kill": scores,
            "kills_that_left_a_file_half_written": sum(kill["is_torn"] for kill in kills),
            "fingerprints": [whole["fingerprint"], resumed["fingerprint"]],
            "metrics": [
                {metric: found["value"] for metric, found in each["metrics"].items()}
                for each in (whole, resumed)
            ],
            "weights_equal_bit_for_bit": is_equal,
        },
    )
    is_all_over = set(scores) == set(range(SCORES))
    sys.exit(0 if is_equal and is_all_over else 1)


def finetuning(place: Path, name: str) -> list[str]:
    return [
        *[sys.executable, "-m", "potstill", "finetune", "--json"],
        *["--model", str(packaged_model()), "--train", str(SHARED_DATA / "sst2" / "train.jsonl")],
        *["--dev", str(SHARED_DATA / "sst2" / "dev.jsonl"), "--out", str(place / name)],
        *["--epochs", "0.25", "--set", f"scores_per_epoch={4 * SCORES}", *EVERY_STEP],
    ]


def general_distillation(place: Path, name: str) -> list[str]:
    """Return the command, after giving the teacher a masked-LM head and building the corpus."""
    texts, teacher = place / "texts.txt", place / "teacher"
    potstill = [sys.executable, "-m", "potstill"]
    few = ["--set", f"scores={SCORES}", "--set", "held_out_documents=20"]
    if not teacher.exists():
        with lzma.open(SHARED_DATA / "corpus" / "wikipedia-00.txt.xz", "rt") as stream:
            texts.write_text("".join(itertools.islice(stream, PARAGRAPHS)), encoding="utf-8")
        words = ["finetune", "--task", "masked-lm", "--model", str(packaged_model()), "--json"]
        words += ["--train", str(texts), "--out", str(teacher), "--set", "tokens=20000", *few]
        finish([*potstill, *words, "--threads", "1"])
    return [
        *[*potstill, "distill", "--json", "--teacher", str(teacher), "--recipe", "potstill"],
        *["--corpus", f"{teacher}.corpus", "--layers", "3", "--out", str(place / name), *few],
        *["--set", "tokens=60000", "--set", "step_tokens=1024", *EVERY_STEP],
    ]


def finish(words: list[str]) -> dict:
    return json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)


def kill_once(words: list[str], step: int, after_s: float) -> dict[str, int]:
    """Run until a step's checkpoint stands, at least one step on, and kill it some time later."""
    folder = Path(words[words.index("--out") + 1] + ".run")
    step = max(step, newest_step(folder) + 1)
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while newest_step(folder) < step and child.poll() is None:
        time.sleep(LOOKS_S)
    time.sleep(after_s)
    child.kill()
    assert child.wait() == -signal.SIGKILL, (
        "the run ended before it could be killed: use more steps"
    )
    found = newest_step(folder)
    state = json.loads((folder / f"step-{found:09d}.json").read_bytes())
    is_torn = any(folder.glob(f"*{TEMPORARY_SUFFIX}"))
    print(f"killed {after_s:.1f} s after step {step}, newest checkpoint: step {found}", flush=True)
    return {"step": found, "scores": len(state["scores"]), "is_torn": is_torn}


def newest_step(folder: Path) -> int:
    files = folder.glob("step-*.json")
    return max((int(file.stem.removeprefix("step-")) for file in files), default=0)


if __name__ == "__main__":
    main()
