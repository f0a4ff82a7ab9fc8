"""`tune`: engines, precisions, row sizes and threads measured on this machine; the choice stored.

Where there is a card, torch is measured on it too; else the choice is of the CPU alone.

All candidates answer the same texts, in rounds that take turns, so that a slow moment of the
machine meets all of them. Nothing is measured when a model answers: it reads what stands here.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from potstill.bundle.folder import ModelFolder
from potstill.bundle.manifest import MANIFEST_NAME, Manifest, write_manifest
from potstill.bundle.opening import open_model
from potstill.bundle.runtime_files import (
    HOW_IT_WAS_MADE,
    STORED,
    runtime_files,
    stored_precisions,
    verified_file,
)
from potstill.data.plain_texts import plain_texts
from potstill.errors import MissingExtraError, RecipeError
from potstill.files import require_writable_file
from potstill.hardware import chosen_threads, cpu_has_bf16
from potstill.hub_names import is_hub
from potstill.measure.sample_texts import SAMPLE_TEXTS
from potstill.recipe import require_choice
from potstill.runtime.choice import EngineChoice, flags_here
from potstill.runtime.engine import Engine
from potstill.runtime.engines import ENGINES, build_engine, has_card, is_engine_installed
from potstill.runtime.outputs import OutputShapes
from potstill.runtime.packed_engine import PackedEngine
from potstill.runtime.stored_graphs import is_right_here
from potstill.text.ragged import RaggedBatch

THROUGHPUT, LATENCY = "throughput", "latency"
GOALS = (THROUGHPUT, LATENCY)
Tell = Callable[[str], None]

SIZES = ((48, 640), (48, 960), (48, 1_536), (64, 1_024))  # slots of a row, tokens of a call
_REPEATS = 8  # of our sentences
_MOST_TEXTS = 1_024
_ROUNDS, _ALONE = 3, 20
_BEST = 2  # candidates that are measured with fewer threads too
_KEPT = (*HOW_IT_WAS_MADE, "processor")  # of what `quantize` told


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneOptions:
    """On what it is measured, and what counts."""

    goal: str = THROUGHPUT
    source: object | None = None  # rows; None: sentences of ours
    text_column: str = "text"
    threads: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is no goal.

        Raises:
            RecipeError: with the goals that there are.
        """
        require_choice("goal", self.goal, GOALS)


@dataclass(slots=True)
class Candidate:
    """One way to answer, and what was measured of it."""

    choice: EngineChoice
    engine: Engine
    threads: int
    seconds: float = math.inf  # of all texts at once, the best round
    p50_ms: float = math.inf  # of one text alone, the best round's median

    def to_json(self, tokens: int) -> dict[str, Any]:
        """Return choice and speed."""
        return {
            "engine": self.choice.name,
            "device": self.choice.device,
            "precision": self.choice.precision,
            "row_tokens": self.choice.row_tokens,
            "request_tokens": self.choice.request_tokens,
            "threads": self.threads,
            "tokens_per_second": round(tokens / self.seconds, 1),
            "p50_ms": round(self.p50_ms, 3),
        }


def tune(model: str | Path, options: TuneOptions, tell: Tell | None = None) -> dict[str, Any]:
    """Measure, and store the choice in the folder's potstill.json.

    Raises:
        InputError: the model cannot be used, or lies where nothing can be stored; told first.
        DataError: no texts.
        MissingExtraError: no engine is installed.
    """
    if is_hub(model):
        raise RecipeError(
            f"{model} lies in the hub's cache, where nothing is stored",
            cure="potstill export MODEL --format hf --out FOLDER, and tune that",
        )
    folder = open_model(model)
    require_writable_file(folder.path / MANIFEST_NAME)
    for name in runtime_files(folder.path):
        verified_file(folder.path, name, folder.manifest)
    texts = _texts(folder, options)
    candidates = list(_candidates(folder, options))
    if not candidates:
        folder.require_weights()
        raise MissingExtraError("openvino", extra="cpu", needed_for="tune")
    shapes = OutputShapes(folder.config, folder.answering_head)
    _measure(candidates, texts, shapes, tell)
    if options.threads is None:
        first = sorted(candidates, key=_cost(options.goal))[:_BEST]
        halved = list(_with_half_the_threads(folder, first))
        if halved:  # beside those that they are held against, by as many rounds
            for each in first:
                each.seconds, each.p50_ms = math.inf, math.inf
            _measure([*first, *halved], texts, shapes, tell)
            candidates += halved
    best = min(candidates, key=_cost(options.goal))
    manifest = folder.manifest or Manifest(task=folder.task)
    told = {name: manifest.engine[name] for name in _KEPT if name in manifest.engine}
    write_manifest(folder.path, replace(manifest, engine=best.choice.to_json() | told))
    ranked = sorted(candidates, key=_cost(options.goal))
    return {
        "model": str(model),
        "goal": options.goal,
        "texts": len(texts),
        "tokens": texts.total_tokens,
        "chosen": best.choice.to_json(),
        "measured": [each.to_json(texts.total_tokens) for each in ranked],
    }


def _with_half_the_threads(folder: ModelFolder, first: list[Candidate]) -> Iterator[Candidate]:
    """Yield some candidates again, but for those of torch."""
    usable = chosen_threads()
    half = usable // 2
    for each in first if half else ():
        if each.choice.name == "torch":
            continue
        asked, choice = each.choice.precision, each.choice
        engine = build_engine(
            folder, engine=choice.name, device="cpu", precision=asked, threads=half
        )
        yield Candidate(replace(choice, threads=half, threads_of=usable), engine, half)


def _candidates(folder: ModelFolder, options: TuneOptions) -> Iterator[Candidate]:
    threads = options.threads or chosen_threads()  # never what was tuned before
    card = has_card()
    places = [*((name, "cpu") for name in ENGINES), *([("torch", "cuda")] if card else [])]
    for name, device in places:
        asked = options.threads if name == "torch" else threads  # torch's are the whole process's
        for precision in _precisions(name, folder):
            engine = build_engine(
                folder, engine=name, device=device, precision=precision, threads=asked
            )
            for row_tokens, request_tokens in SIZES[: 1 if name == "torch" else None]:
                choice = EngineChoice(
                    name=name,
                    precision=engine.precision,
                    device=engine.device,
                    card=card,
                    row_tokens=row_tokens,
                    request_tokens=request_tokens,
                    cpu_flags=flags_here(),
                )
                yield Candidate(choice, engine, threads)


def _precisions(name: str, folder: ModelFolder) -> Iterator[str]:
    """Yield what an engine can be asked for here, stored graphs among it."""
    for precision in stored_precisions(folder.path, name) if name in STORED else []:
        serves = is_right_here(folder, precision) and is_engine_installed(name, is_stored=True)
        if serves or not folder.has_weights:  # there is nothing else then: its engine tells why not
            yield precision
    if folder.has_weights and is_engine_installed(name):
        yield from written_precisions(name)


def written_precisions(name: str) -> tuple[str, ...]:
    """Return what an engine can compute in here by the weights, what it takes unasked last."""
    if name == "openvino":
        return ("fp32", "bf16") if cpu_has_bf16() else ("fp32",)
    return ("fp32",) if name == "onnx" else ("auto",)


def _measure(
    candidates: list[Candidate], texts: RaggedBatch, shapes: OutputShapes, tell: Tell | None
) -> None:
    """Fill in the best of some rounds; the first one is not counted."""
    output = [shapes.names[0]]
    middle = sorted(range(len(texts)), key=lambda text: texts.lengths[text])[len(texts) // 2]
    alone = texts.take([middle])
    for number in range(_ROUNDS + 1):
        if tell is not None:
            tell(f"round {number} of {_ROUNDS}, {len(candidates)} candidates")
        for candidate in candidates:
            if isinstance(candidate.engine, PackedEngine):
                candidate.engine.size = candidate.choice.size or candidate.engine.usual_size
            seconds = seconds_of(partial(candidate.engine.run, texts, output))
            one = partial(candidate.engine.run, alone, output)
            calls = [seconds_of(one) for _ in range(_ALONE)]
            if number:
                candidate.seconds = min(candidate.seconds, seconds)
                candidate.p50_ms = min(candidate.p50_ms, 1e3 * statistics.median(calls))


def _cost(goal: str) -> Callable[[Candidate], float]:
    return lambda each: each.seconds if goal == THROUGHPUT else each.p50_ms


def seconds_of(run: Callable[[], object]) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _texts(folder: ModelFolder, options: TuneOptions) -> RaggedBatch:
    texts = list(SAMPLE_TEXTS) * _REPEATS
    if options.source is not None:
        texts = plain_texts(options.source, options.text_column, limit=_MOST_TEXTS)
    return folder.tokenizer().encode(texts, max_length=folder.max_length).batch
