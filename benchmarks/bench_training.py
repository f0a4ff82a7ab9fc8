"""How fast is our fine-tuning step beside the usual loop?

The usual loop: transformers, fp32, batches in random order padded to their longest text, fused
AdamW (the Trainer's default). Then two of our savings are given to it one after the other (bf16
autocast; batches of like lengths), so that the gain can be split. Same rows per optimizer step,
same epochs, same learning rate and schedule, evaluation left out of the time. All sides run in this
one process; ours runs last, because it changes how the process's memory is kept (which would help
the others too), and three times, so that a drifting machine shows. The time of ours is that of its
steps, as the usual loop writes no checkpoint.

The rows are the first 1,152 of sst2's training rows, so that all sides end within minutes.

    python benchmarks/bench_training.py        # about two minutes on 2 cores, on a quiet machine
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from facts import SHARED_DATA, store

from potstill.bundle.folder import open_folder
from potstill.data import Columns, read_rows, select_columns
from potstill.hardware import usable_threads
from potstill.models.loading import load_with_new_head
from potstill.recipe import TrainingRecipe
from potstill.runtime.torch_engine import TorchEngine
from potstill.tasks.classification import Classification
from potstill.text.batching import batches_by_tokens
from potstill.text.ragged import RaggedBatch
from potstill.train.checkpoints import CheckpointFolder
from potstill.train.compact_words import only_words_of
from potstill.train.label_objective import LabelObjective
from potstill.train.learnable import Learnable
from potstill.train.loop import train
from potstill.workflows.demo import packaged_model

ROWS_PER_STEP, LEARNING_RATE, EPOCHS, SEED = 32, 1e-4, 1, 0
TRAIN_ROWS = 1_152
WARMUP_SHARE, WEIGHT_DECAY, CLIP_NORM = 0.06, 0.01, 1.0


@dataclass(frozen=True, slots=True)
class Data:
    """Tokenized rows of one task."""

    task: Classification
    train: RaggedBatch
    train_targets: np.ndarray
    dev: RaggedBatch
    dev_targets: np.ndarray


def main() -> None:
    torch.set_num_threads(usable_threads())
    torch.set_flush_denormal(True)
    data = sst2()
    usual = run_usual(data, epochs=EPOCHS)
    with_bf16 = run_usual(data, epochs=1, bf16=True)
    with_lengths = run_usual(data, epochs=1, bf16=True, like_lengths=True)
    ours = [run_ours(data) for _ in range(3)]
    speed = mean(run["tokens_per_second"] for run in ours)
    base = usual["tokens_per_second"]
    store(
        "training",
        {
            "task": "sst2, all-MiniLM-L6-v2, [CLS] head",
            "recipe": {
                "train_rows": TRAIN_ROWS,
                "rows_per_step": ROWS_PER_STEP,
                "epochs": EPOCHS,
                "learning_rate": LEARNING_RATE,
            },
            "ours": ours,
            "usual": usual,
            "usual_with_bf16": with_bf16,
            "usual_with_bf16_and_like_lengths": with_lengths,
            "times_faster": round(speed / base, 2),
            "gain": {
                "bf16": round(with_bf16["tokens_per_second"] / base, 2),
                "padding": round(
                    with_lengths["tokens_per_second"] / with_bf16["tokens_per_second"], 2
                ),
                "the rest": round(speed / with_lengths["tokens_per_second"], 2),
            },
        },
    )


def sst2() -> Data:
    tokenizer = open_folder(packaged_model()).tokenizer()
    parts = {}
    for name in ("train", "dev"):
        path = SHARED_DATA / "sst2" / f"{name}.jsonl"
        rows = select_columns(read_rows(path, limit=TRAIN_ROWS), Columns())
        parts[name] = (rows, tokenizer.encode(rows.column("text"), max_length=128).batch)
    task = Classification.from_rows(parts["train"][0])
    return Data(
        task=task,
        train=parts["train"][1],
        train_targets=task.gold(parts["train"][0]),
        dev=parts["dev"][1],
        dev_targets=task.gold(parts["dev"][0]),
    )


def run_ours(data: Data) -> dict[str, Any]:
    recipe = TrainingRecipe(
        epochs=EPOCHS, rows_per_step=ROWS_PER_STEP, learning_rate=LEARNING_RATE, seed=SEED
    )
    model = load_with_new_head(open_folder(packaged_model()), data.task.head("first"), seed=SEED)
    with (
        tempfile.TemporaryDirectory() as place,
        only_words_of(model, [data.train, data.dev]) as renumber,
    ):
        objective = LabelObjective(Learnable(renumber(data.train), data.train_targets))
        result = train(
            model,
            objective,
            recipe,
            checkpoints=CheckpointFolder(Path(place)),
        )
        engine = TorchEngine(model, precision=result.precision)
        score = data.task.score(engine.run(renumber(data.dev))["logits"], data.dev_targets)
    return told("ours", result.train_tokens, result.seconds, result.steps, score)


def run_usual(
    data: Data, *, epochs: int, bf16: bool = False, like_lengths: bool = False
) -> dict[str, Any]:
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(SEED)
    model = AutoModelForSequenceClassification.from_pretrained(
        packaged_model(), num_labels=len(data.task.labels)
    ).train()
    steps_per_epoch = math.ceil(len(data.train) / ROWS_PER_STEP)
    optimizer = torch.optim.AdamW(usual_groups(model), lr=LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, linear(epochs * steps_per_epoch))
    rng = np.random.default_rng(SEED)
    tokens, steps = 0, 0
    began = time.perf_counter()
    for _ in range(epochs):
        for rows in usual_order(data.train.lengths, rng, like_lengths=like_lengths):
            texts = data.train.take(rows)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = model(
                    **padded(texts), labels=torch.from_numpy(data.train_targets[rows])
                ).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            tokens, steps = tokens + texts.total_tokens, steps + 1
    seconds = time.perf_counter() - began
    name = "usual" + (" + bf16" if bf16 else "") + (" + like lengths" if like_lengths else "")
    return told(name, tokens, seconds, steps, usual_score(model, data))


def usual_groups(model: torch.nn.Module) -> list[dict[str, Any]]:
    named = dict(model.named_parameters())
    plain = [named[name] for name in named if name.endswith("bias") or "LayerNorm" in name]
    decayed = [tensor for name, tensor in named.items() if all(tensor is not one for one in plain)]
    return [
        {"params": decayed, "weight_decay": WEIGHT_DECAY},
        {"params": plain, "weight_decay": 0.0},
    ]


def linear(total_steps: int) -> Callable[[int], float]:
    warmup = round(WARMUP_SHARE * total_steps)

    def share(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return max(0.0, (total_steps - step) / max(1, total_steps - warmup))

    return share


def usual_order(
    lengths: np.ndarray, rng: np.random.Generator, *, like_lengths: bool
) -> list[np.ndarray]:
    order = rng.permutation(len(lengths))
    if like_lengths:  # as the Trainer's group_by_length: sorted inside pools of 50 batches
        pool = 50 * ROWS_PER_STEP
        pools = [order[at : at + pool] for at in range(0, len(order), pool)]
        order = np.concatenate([rows[np.argsort(lengths[rows])] for rows in pools])
    return [order[at : at + ROWS_PER_STEP] for at in range(0, len(order), ROWS_PER_STEP)]


def padded(texts: RaggedBatch) -> dict[str, torch.Tensor]:
    ids = torch.zeros(len(texts), texts.longest, dtype=torch.int64)
    places = torch.arange(texts.longest) < torch.from_numpy(texts.lengths)[:, None]
    ids[places] = torch.from_numpy(texts.ids).long()
    return {"input_ids": ids, "attention_mask": places.long()}


@torch.inference_mode()
def usual_score(model: torch.nn.Module, data: Data) -> float:
    model.eval()
    right = 0
    for rows in batches_by_tokens(data.dev.lengths, max_tokens=4096):
        logits = model(**padded(data.dev.take(rows))).logits.numpy()
        right += int((logits.argmax(-1) == data.dev_targets[rows]).sum())
    return right / len(data.dev)


def told(side: str, tokens: int, seconds: float, steps: int, score: float) -> dict[str, Any]:
    result = {
        "side": side,
        "tokens_per_second": round(tokens / seconds),
        "seconds": round(seconds, 1),
        "steps": steps,
        "dev_accuracy": round(score, 4),
    }
    print(result, flush=True)
    return result


if __name__ == "__main__":
    main()
