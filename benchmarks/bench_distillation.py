"""How fast and how large is a step of general distillation beside the original one?

BERT-base -> DistilBERT at full size, random weights (time and memory do not depend on them). The
original step is stated again with transformers' modules, as its code does it: fp32, batches of like
lengths padded to their longest, vocabulary head on all positions of both models, selected logits
copied, soft targets on all real tokens. Ours runs as `distill --corpus` does by default (relations
of the last layers), at the original's objective, and at that with the teacher heard at the hidden
tokens and a tenth of the others.

One optimizer step is 64 passages of real text in micro-batches of at most 2,048 tokens, the same
for all. Each side runs in a process of its own: the first of its steps is not timed. Memory is the
peak of the process's pages less what it held before training, gradients and AdamW's two means.

    python benchmarks/bench_distillation.py        # some minutes on 2 cores, on a quiet machine
    python benchmarks/bench_distillation.py --tiny # seconds: does it run?
"""

from __future__ import annotations

import argparse
import json
import lzma
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ceiling import product_rates
from facts import SHARED_DATA, store
from torch.nn.functional import cosine_embedding_loss, cross_entropy, kl_div, log_softmax, softmax

from potstill.architectures.config import EncoderConfig
from potstill.architectures.heads import HeadSpec
from potstill.architectures.presets import preset
from potstill.bundle.folder import open_folder
from potstill.distillation.general_objective import TERMS, GeneralObjective
from potstill.distillation.layers import choose_layers
from potstill.distillation.student import cut_student, student_config
from potstill.hardware import usable_threads
from potstill.models.precision import keep_products_in, resolve_precision
from potstill.models.task_model import TaskModel
from potstill.text.masking import Masked, MaskingShares, masking_for
from potstill.text.ragged import RaggedBatch
from potstill.train.checkpoints import CheckpointFolder
from potstill.train.loop import train
from potstill.train.progress import Progress
from potstill.workflows.demo import packaged_model
from potstill.workflows.general_recipe import GeneralRecipe, distilbert

PASSAGES, LONGEST, MICRO_BATCH, STEPS = 64, 128, 2_048, 4
RECIPES = {
    "ours": GeneralRecipe(),
    "ours_at_its_objective": distilbert(),
    "ours_at_a_tenth": replace(distilbert(), other_share=0.1),
}
SIDES = ("original", *RECIPES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--tiny", action="store_true", help="small models: to try the script")
    asked = parser.parse_args()
    if asked.side:
        print(json.dumps(measured(asked.side, is_tiny=asked.tiny)))
        return
    sides = {name: in_a_process(name, is_tiny=asked.tiny) for name in SIDES}
    base = sides["original"]
    rates = product_rates(usable_threads())
    result = {
        "models": "BERT-base -> DistilBERT" if not asked.tiny else "tiny",
        "step": {"passages": PASSAGES, "micro_batch_tokens": MICRO_BATCH, "timed_steps": STEPS - 1},
        "products_per_second": {name: round(rate) for name, rate in rates.items()},
        "sides": sides,
        "times_faster": {
            name: round(each["tokens_per_second"] / base["tokens_per_second"], 2)
            for name, each in sides.items()
        },
        "share_of_memory": {
            name: round(each["beyond_bytes"] / base["beyond_bytes"], 3)
            for name, each in sides.items()
        },
    }
    if asked.tiny:
        print(json.dumps(result))
    else:
        store("distillation", result)


def in_a_process(side: str, *, is_tiny: bool) -> dict[str, Any]:
    words = [sys.executable, __file__, "--side", side, *(["--tiny"] if is_tiny else [])]
    told = subprocess.run(words, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
    return found


@dataclass(frozen=True)
class Ground:
    """The same for all sides."""

    texts: RaggedBatch
    teacher: EncoderConfig
    masking: Any


def ground(*, is_tiny: bool) -> Ground:
    tokenizer = open_folder(packaged_model()).tokenizer()
    with lzma.open(SHARED_DATA / "corpus" / "wikipedia-00.txt.xz", "rt") as stream:
        lines = [line for line, _ in zip(stream, range(4_000), strict=False)]
    lengths = np.random.default_rng(0).permutation(len(lines))[:PASSAGES]
    texts = tokenizer.encode([lines[row] for row in lengths], max_length=LONGEST).batch
    config = preset("all-minilm-l6") if is_tiny else preset("bert-base")
    return Ground(texts, config, masking_for(tokenizer, MaskingShares()))


def measured(side: str, *, is_tiny: bool) -> dict[str, Any]:
    torch.set_num_threads(usable_threads())
    torch.manual_seed(0)
    place = ground(is_tiny=is_tiny)
    run = partial(ours, recipe=RECIPES[side]) if side in RECIPES else original
    moments, parameters, before, peak = run(place)
    seconds = (moments[-1] - moments[0]) / (len(moments) - 1)
    return {
        "tokens_per_second": round(place.texts.total_tokens / seconds, 1),
        "seconds_a_step": round(seconds, 3),
        "real_tokens_a_step": place.texts.total_tokens,
        "peak_bytes": peak,
        "before_bytes": before,
        "beyond_bytes": peak - before - 12 * parameters,
    }


Run = tuple[list[float], int, int, int]  # moments after steps, trained parameters, bytes, bytes


def ours(place: Ground, recipe: GeneralRecipe) -> Run:
    teacher = TaskModel(place.teacher, HeadSpec(kind="masked-lm"))
    teacher.initialize(0)
    teacher.requires_grad_(requires_grad=False)
    depth = place.teacher.layers
    kept = choose_layers(depth, depth // 2, choice="distilbert")
    student = cut_student(teacher, student_config(place.teacher, len(kept)), kept)
    precision = resolve_precision("auto", torch.device("cpu"), training=True)
    keep_products_in(precision, teacher)
    objective = GeneralObjective(
        passages=Passages(place.texts),
        masking=place.masking,
        teacher=teacher,
        term_weights={name: getattr(recipe, name) for name in TERMS},
        other_share=recipe.other_share,
        relation_layers=(len(kept), depth),
        relation_heads=place.teacher.heads,
        precision=precision,
    )
    settings = GeneralRecipe(
        epochs=STEPS,
        step_tokens=place.texts.total_tokens,
        batch_tokens=MICRO_BATCH,
        checkpoint_every_s=1e9,
    )
    moments: list[float] = []
    peaks: list[int] = []

    def told(progress: Progress) -> None:
        moments.append(time.perf_counter())
        peaks.append(pages("VmHWM"))  # before the last checkpoint is written
        assert progress.step == len(moments), "steps are long enough to be told one by one"

    before = pages("VmRSS")
    with tempfile.TemporaryDirectory() as folder:
        train(
            student,
            objective,
            settings,
            checkpoints=CheckpointFolder(Path(folder)),
            listeners=(told,),
        )
    count = sum(each.numel() for each in student.parameters())
    return moments, count, before, peaks[-1]


@dataclass(frozen=True)
class Passages:
    """Texts in memory as passages."""

    texts: RaggedBatch

    @property
    def lengths(self) -> Any:
        """Return the tokens of each."""
        return self.texts.lengths

    def batch(self, rows: Any) -> RaggedBatch:
        """Return the chosen ones."""
        return self.texts.take(rows)


def original(place: Ground) -> Run:
    """State the original step again (distiller.py of the DistilBERT research project)."""
    from transformers import BertConfig, BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM

    config = place.teacher
    sizes = {"vocab_size": config.vocabulary_size}
    teacher = BertForMaskedLM(
        BertConfig(
            num_hidden_layers=config.layers,
            hidden_size=config.hidden_size,
            num_attention_heads=config.heads,
            intermediate_size=config.feed_forward_size,
            **sizes,
        )
    ).eval()
    student = DistilBertForMaskedLM(
        DistilBertConfig(
            n_layers=config.layers // 2,
            dim=config.hidden_size,
            n_heads=config.heads,
            hidden_dim=config.feed_forward_size,
            **sizes,
        )
    ).train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=5e-4, betas=(0.9, 0.98), eps=1e-6)
    batches = padded_batches(place)
    before = pages("VmRSS")
    moments = []
    for _ in range(STEPS):
        for ids, labels, mask in batches:
            loss = original_loss(teacher, student, ids, labels, mask) / len(batches)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()
        moments.append(time.perf_counter())
    count = sum(each.numel() for each in student.parameters())
    return moments, count, before, pages("VmHWM")


def original_loss(teacher: Any, student: Any, ids: Any, labels: Any, mask: Any) -> torch.Tensor:
    ours = student(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    with torch.no_grad():
        theirs = teacher(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    words = ours.logits.size(-1)
    selected = mask.bool().unsqueeze(-1).expand_as(ours.logits)
    own = torch.masked_select(ours.logits, selected).view(-1, words)
    its = torch.masked_select(theirs.logits, selected).view(-1, words)
    soft = kl_div(log_softmax(own / 2.0, -1), softmax(its / 2.0, -1), reduction="batchmean") * 4.0
    hard = cross_entropy(ours.logits.view(-1, words), labels.view(-1), ignore_index=-100)
    own_states, its_states = ours.hidden_states[-1], theirs.hidden_states[-1]
    selected = mask.bool().unsqueeze(-1).expand_as(own_states)
    own_flat = torch.masked_select(own_states, selected).view(-1, own_states.size(-1))
    its_flat = torch.masked_select(its_states, selected).view(-1, own_states.size(-1))
    ones = own_flat.new_ones(own_flat.size(0))
    cosine = cosine_embedding_loss(own_flat, its_flat, ones, reduction="mean")
    return 5.0 * soft + 2.0 * hard + 1.0 * cosine


def padded_batches(place: Ground) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Return the passages in groups of like lengths, padded, at most 2,048 slots each."""
    order = np.argsort(place.texts.lengths, kind="stable")
    groups: list[list[int]] = [[]]
    for row in order.tolist():
        longest = int(place.texts.lengths[row])
        if (len(groups[-1]) + 1) * longest > MICRO_BATCH:
            groups.append([])
        groups[-1].append(row)
    rng = np.random.default_rng(0)
    return [padded(place.masking.masked(place.texts.take(group), rng)) for group in groups]


def padded(found: Masked) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    texts, longest = found.texts, found.texts.longest
    ids = torch.zeros(len(texts), longest, dtype=torch.long)
    labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
    rows, places = torch.from_numpy(texts.text_index()), torch.from_numpy(texts.positions())
    ids[rows, places] = torch.from_numpy(texts.ids).long()
    mask[rows, places] = 1
    hidden = torch.from_numpy(found.places)
    labels[rows[hidden], places[hidden]] = torch.from_numpy(found.targets)
    return ids, labels, mask


def pages(name: str) -> int:
    """Return VmRSS or VmHWM of this process in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {name} here: this benchmark needs Linux")


if __name__ == "__main__":
    main()
