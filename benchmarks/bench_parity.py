"""Do our networks compute what transformers computes, at the real sizes?

DistilBERT, BERT-base and BERT-large at their real sizes with random weights, every norm and bias
moved off its start value: built by us, written as a bundle, loaded again by us and by transformers,
one padded batch of four texts run by both in fp32. Then the real all-MiniLM-L6-v2, its vectors
beside those of sentence-transformers, and every head of every family at a tiny size.

    python benchmarks/bench_parity.py             # about two minutes and 6 GB on 2 cores
    python benchmarks/bench_parity.py --table     # prints the stored result as Markdown
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tables
import torch
from facts import RESULTS, store

from potstill.architectures.config import FAMILIES, EncoderConfig
from potstill.architectures.heads import HeadSpec, hf_class_name
from potstill.architectures.presets import preset
from potstill.bundle.folder import open_folder
from potstill.bundle.write import BundleContent, write_bundle
from potstill.hardware import usable_threads
from potstill.models.loading import load_task_model, tensors_of
from potstill.models.task_model import TaskModel
from potstill.runtime.model import load
from potstill.runtime.torch_engine import TorchEngine
from potstill.text.ragged import RaggedBatch
from potstill.text.tokenizer_files import load_tokenizer
from potstill.workflows.demo import packaged_model

Made = TypeVar("Made")

NAME = "parity"
SIZES = ("distilbert-base", "bert-base", "bert-large")
REAL = "all-MiniLM-L6-v2, real weights"
KINDS = ("masked-lm", "classification", "token-classification", "question-answering")
TINY = {"layers": 2, "hidden_size": 32, "heads": 4, "feed_forward_size": 64, "vocabulary_size": 64}
BASES = {
    "bert": "bert-base",
    "distilbert": "distilbert-base",
    "roberta": "roberta-base",
    "xlm-roberta": "xlm-roberta-base",
}
TEXTS = [
    "no",
    "The film was not very good.",
    "The plot is thin, the actors are not: they alone kept me in my seat until the last scene.",
    " ".join(["Nobody reads a long text to its end, but an encoder has to."] * 12),
]


def main() -> None:
    if "--table" in sys.argv:
        print(tables.parity(json.loads((RESULTS / f"{NAME}.json").read_text())))
        return
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name in ("BertModel", "DistilBertModel"):
        getattr(transformers, name)  # imported here, before a clock runs
    torch.set_num_threads(usable_threads())
    models = {name: compared_at_size(name) for name in SIZES}
    models[REAL] = compared_with_real_weights()
    heads = {
        f"{family} {kind}": compared_head(family, kind) for family, kind in product(FAMILIES, KINDS)
    }
    per_state = [value for model in models.values() for value in model["per_state"]]
    worst = max(*per_state, *heads.values())
    store(NAME, {"models": models, "heads": heads, "largest_difference": worst})


def compared_at_size(name: str) -> dict[str, Any]:
    """Build, save, load and compare one preset; the bundle lies in a temporary folder."""
    with tempfile.TemporaryDirectory() as place:
        seconds = write_fresh(name, Path(place) / "model")
        return {**seconds, **compared_folder(Path(place) / "model")}


def write_fresh(name: str, target: Path) -> dict[str, float]:
    """Write a preset with fresh weights as a bundle; return what building and writing took."""
    model, build_s = timed(lambda: built(preset(name), HeadSpec()))
    content = BundleContent(
        config=model.config,
        head=model.spec,
        tensors=tensors_of(model),
        tokenizer=load_tokenizer(packaged_model(), family=model.config.family),
    )
    _, save_s = timed(lambda: write_bundle(target, content))
    return {"build_seconds": build_s, "save_seconds": save_s}


def compared_with_real_weights() -> dict[str, Any]:
    from sentence_transformers import SentenceTransformer

    folder = packaged_model()
    theirs = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    ours = load(folder, precision="fp32").embed(TEXTS)
    return {**compared_folder(folder), "vectors": largest(ours, theirs)}


def compared_folder(path: Path) -> dict[str, Any]:
    """Load a folder on both sides and run one batch of texts; sizes, seconds, differences."""
    folder = open_folder(path)
    name = hf_class_name(folder.config.family, folder.head)
    theirs, their_load_s = timed(lambda: reference(name, path))
    ours, our_load_s = timed(lambda: load_task_model(open_folder(path)))
    batch = folder.tokenizer().encode(TEXTS).batch
    differences = compared(ours, theirs, batch)
    return {
        "parameters": count(ours),
        "parameters_in_transformers": count(theirs),
        "bytes": folder.weights.size_bytes,
        "load_seconds": our_load_s,
        "load_seconds_transformers": their_load_s,
        "tokens": batch.lengths.tolist(),
        "per_state": differences,
        "largest_difference": max(differences),
    }


def compared_head(family: str, kind: str) -> float:
    """Return the largest difference of hidden states and logits of one tiny model."""
    config = replace(preset(BASES[family]), **TINY)
    labels = {"masked-lm": (), "question-answering": ("start", "end")}.get(kind, ("a", "b", "c"))
    model = built(config, HeadSpec(kind=kind, labels=labels))
    content = BundleContent(
        config=model.config, head=model.spec, tensors=tensors_of(model), tokenizer=None
    )
    rng = np.random.default_rng(0)
    batch = RaggedBatch.from_lists([rng.integers(2, 64, length) for length in (1, 7, 20, 64)])
    with tempfile.TemporaryDirectory() as place:
        write_bundle(Path(place) / "model", content)
        theirs = reference(hf_class_name(model.config.family, model.spec), Path(place) / "model")
        ours = load_task_model(open_folder(Path(place) / "model"))
        return max(compared(ours, theirs, batch))


@torch.no_grad()
def built(config: EncoderConfig, head: HeadSpec) -> TaskModel:
    """Return fresh weights; a norm of one and a bias of zero would hide a mix-up of them."""
    model = TaskModel(config, head)
    model.initialize(seed=0)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def reference(name: str, path: Path) -> torch.nn.Module:
    """Load a folder by a class of transformers, which must find each weight and no other."""
    import transformers

    model, told = getattr(transformers, name).from_pretrained(path, output_loading_info=True)
    surplus = set(told["unexpected_keys"]) - {"embeddings.position_ids"}
    faults = [*told["missing_keys"], *told["mismatched_keys"], *surplus]
    assert not faults, faults
    return model.eval()


@torch.no_grad()
def compared(ours: TaskModel, theirs: torch.nn.Module, batch: RaggedBatch) -> list[float]:
    """Return the largest absolute difference of each hidden state and, last, of the logits."""
    states = [f"state.{index}" for index in range(ours.config.layers + 1)]
    wanted = states if ours.head is None else [*states, "logits"]
    answers = TorchEngine(ours).run(batch, wanted)
    ids_BL = torch.full((len(batch), batch.longest), ours.config.pad_id)
    is_real_BL = torch.zeros_like(ids_BL, dtype=torch.bool)
    for row in range(len(batch)):
        size = int(batch.lengths[row])
        ids_BL[row, :size] = torch.from_numpy(batch.text(row)).long()
        is_real_BL[row, :size] = True
    output = theirs(ids_BL, attention_mask=is_real_BL.long(), output_hidden_states=True)
    expected = [state[is_real_BL] for state in output.hidden_states]
    if ours.head is not None:
        expected.append(logits_of(output, ours.spec, is_real_BL))
    return [
        largest(answers[name], state.numpy()) for name, state in zip(wanted, expected, strict=True)
    ]


def logits_of(output: Any, head: HeadSpec, is_real_BL: torch.Tensor) -> torch.Tensor:
    if head.kind == "classification":
        return output.logits
    if head.kind == "question-answering":
        return torch.stack([output.start_logits, output.end_logits], dim=-1)[is_real_BL]
    return output.logits[is_real_BL]


def largest(ours: np.ndarray, theirs: np.ndarray) -> float:
    assert ours.shape == theirs.shape, f"{ours.shape} is not {theirs.shape}"
    return float(np.abs(ours - theirs).max())


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def timed(make: Callable[[], Made]) -> tuple[Made, float]:
    start = time.perf_counter()
    made = make()
    return made, round(time.perf_counter() - start, 2)


if __name__ == "__main__":
    main()
