"""How fast does one card answer? DistilBERT's shape on real lengths, as variable-length attention.

A [CLS] classifier of random weights (speed does not depend on them) in bf16 and in fp16, the texts
of sst2, ag_news and imdb in the order of arrival, `transformers` beside it on sst2 in bf16, batches
of 32 and of 256 texts of like length: all in one run, with the share of the card's own bf16 rate.

    python benchmarks/gpu_engine.py           # some minutes on a card; stores gpu_engine.json
    python benchmarks/gpu_engine.py --tiny    # on a CPU: does it run?
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from facts import RESULTS, SHARED_DATA, machine_facts
from gpu_distillation import bf16_rate, card_name, flops_of_reading, tiny_scale

from potstill.architectures.config import EncoderConfig
from potstill.architectures.heads import HeadSpec
from potstill.architectures.presets import preset
from potstill.bundle.folder import open_folder
from potstill.bundle.opening import open_model
from potstill.bundle.write import BundleContent, write_bundle
from potstill.models.loading import tensors_of
from potstill.models.task_model import TaskModel
from potstill.runtime.torch_engine import TorchEngine, load_torch_engine
from potstill.text.ragged import RaggedBatch
from potstill.workflows.demo import packaged_model

HEAD = HeadSpec(kind="classification", labels=("no", "yes"))
LONGEST = 256
PEER_BATCHES = (32, 256)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured, and how large."""

    config: EncoderConfig
    sets: tuple[str, ...] = ("sst2", "ag_news", "imdb")
    texts: int = 16_384  # of each set, repeated where there are fewer
    seconds: float = 10.0  # of each side
    matrix: int = 8_192
    precisions: tuple[str, ...] = ("bf16", "fp16")


CARD = Plan(config=preset("distilbert-base"))


def tiny_plan() -> Plan:
    """Return a plan that a CPU ends in seconds; it has no products in fp16."""
    config = replace(tiny_scale().base, layers=1)
    return Plan(config=config, texts=64, seconds=0.2, matrix=256, precisions=("bf16",))


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=SHARED_DATA)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--tiny", action="store_true")
    asked = parser.parse_args()
    if not asked.tiny and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; --tiny shows that it runs")
    found = measured(tiny_plan() if asked.tiny else CARD, asked.data)
    machine = machine_facts() | {"card": card_name()}
    told = {"benchmark": "gpu_engine", "machine": machine, "tiny": asked.tiny, **found}
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "gpu_engine.json").write_text(json.dumps(told, indent=2) + "\n")
    print(json.dumps(told))


def measured(plan: Plan, data: Path) -> dict[str, Any]:
    """Return each side's speed, its share of the card's rate, and the memory it took."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ceiling = bf16_rate(plan.matrix, device)
    texts = {name: real_texts(data / name / "test.jsonl", plan) for name in plan.sets}
    sides = []
    for precision, engine in engines(plan, device):
        for name, batch in texts.items():
            side = f"ours {precision}"
            sides.append(speed(side, name, batch, partial(engine.run, batch), plan))
    first = plan.sets[0]
    for size in PEER_BATCHES:
        run = transformers_runner(plan.config, device, texts[first], size)
        side = f"transformers bf16, batches of {size}"
        sides.append(speed(side, first, texts[first], run, plan))
    for each in sides:
        each["share_of_bf16_rate"] = round(each["flops_per_second"] / ceiling, 4)
    return {"bf16_flops_per_second": ceiling, "sides": sides}


def engines(plan: Plan, device: torch.device) -> Iterator[tuple[str, TorchEngine]]:
    """Load a bundle of random weights in each precision, as whoever answers with one does."""
    model = TaskModel(plan.config, HEAD)
    model.initialize(0)
    content = BundleContent(
        config=plan.config, head=HEAD, tensors=tensors_of(model), tokenizer=None
    )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        write_bundle(folder, content)
        for precision in plan.precisions:
            yield (
                precision,
                load_torch_engine(open_folder(folder), device=device.type, precision=precision),
            )


def real_texts(file: Path, plan: Plan) -> RaggedBatch:
    """Return so many texts of a file as tokens, in its order."""
    tokenizer = open_model(packaged_model()).tokenizer()
    with file.open(encoding="utf-8") as lines:
        own = [json.loads(line)["text"] for line in lines]
    chosen = [own[number % len(own)] for number in range(plan.texts)]
    return tokenizer.encode(chosen, max_length=LONGEST).batch


def speed(
    side: str,
    texts_of: str,
    batch: RaggedBatch,
    run: Callable[[], Any],
    plan: Plan,
) -> dict[str, Any]:
    """Answer again and again for a while; answers are copied back, so the card has finished."""
    run()  # memory is taken, kernels are chosen
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    rounds, began = 0, time.perf_counter()
    while (seconds := time.perf_counter() - began) < plan.seconds or not rounds:
        run()
        rounds += 1
    passages = SimpleNamespace(lengths=batch.lengths)
    flops = flops_of_reading(plan.config, passages, asked=0.0)  # type: ignore[arg-type]
    tokens = rounds * batch.total_tokens / seconds
    return {
        "side": side,
        "texts_of": texts_of,
        "tokens_per_second": round(tokens, 1),
        "texts_per_second": round(rounds * len(batch) / seconds, 1),
        "flops_per_second": tokens * flops,
        "peak_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
    }


def transformers_runner(
    config: EncoderConfig, device: torch.device, texts: RaggedBatch, size: int
) -> Callable[[], list[np.ndarray]]:
    """Return transformers' own DistilBERT on batches of like length, in bf16, padded beforehand."""
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    theirs = DistilBertConfig(
        vocab_size=config.vocabulary_size,
        max_position_embeddings=config.max_length,
        dim=config.hidden_size,
        hidden_dim=config.feed_forward_size,
        n_layers=config.layers,
        n_heads=config.heads,
        num_labels=len(HEAD.labels),
    )
    model = DistilBertForSequenceClassification(theirs).to(device, torch.bfloat16).eval()

    batches = [padded(part) for part in like_lengths(texts, size)]

    @torch.inference_mode()
    def run() -> list[np.ndarray]:
        answers = []
        for ids, mask in batches:
            found = model(input_ids=ids.to(device), attention_mask=mask.to(device))
            answers.append(found.logits.float().cpu().numpy())
        return answers

    return run


def padded(texts: RaggedBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids with zeros behind each text, and where the text is."""
    is_real = torch.arange(texts.longest)[None, :] < torch.as_tensor(texts.lengths)[:, None]
    ids = torch.zeros(is_real.shape, dtype=torch.long)
    ids[is_real] = torch.from_numpy(texts.ids).long()
    return ids, is_real


def like_lengths(texts: RaggedBatch, size: int) -> Iterator[RaggedBatch]:
    """Yield batches of so many texts, the shortest first."""
    order = np.argsort(texts.lengths, kind="stable")
    for start in range(0, len(order), size):
        yield texts.take(order[start : start + size])


if __name__ == "__main__":
    main()
