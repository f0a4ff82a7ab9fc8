"""How fast a quantized copy is beside its source, measured here in about ten seconds.

Both answer our sentences on the processor, by the engine that the copy is for, in rounds that take
turns: the source by its weights, the copy as it will be run. Like is held against like, so that the
ratio speaks of usual sizes of rows; the copy in other sizes, and with half the threads, is measured
beside it, and what is clearly faster becomes the bundle's choice. While other programs work, fewer
threads win that would lose afterwards: then they are left out.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from potstill.bundle.folder import ModelFolder
from potstill.errors import PotstillError
from potstill.hardware import chosen_threads
from potstill.measure.quietness import MOST_LOAD, busy_cores
from potstill.measure.sample_texts import SAMPLE_TEXTS
from potstill.runtime.choice import EngineChoice, flags_here
from potstill.runtime.engines import build_engine, is_engine_installed
from potstill.runtime.outputs import OutputShapes
from potstill.runtime.packed_engine import PackedEngine
from potstill.runtime.packed_rows import RowSize
from potstill.runtime.processors import processor_here
from potstill.text.ragged import RaggedBatch
from potstill.workflows.tune import SIZES, Candidate, seconds_of, written_precisions

LEAST_GAIN = 1.05  # times as fast; below it a busy moment may be all there is

_REPEATS = 8  # of our sentences, at most
_PROBED = 8  # texts that tell how many the time allows
_PASS_S, _ROUNDS_S = 0.6, 8.0  # for the source's answers of a round; after which none begins
_ROUNDS = 3
_ALONE_S, _FEWEST_ALONE, _MOST_ALONE = 0.1, 3, 20  # of one text, of a round


@dataclass(frozen=True, slots=True, kw_only=True)
class CopySpeed:
    """What was measured of a copy, or why nothing was."""

    choice: EngineChoice | None = None  # that the bundle stores; None: nothing was measured
    ratio: float = 0.0  # times as many texts a second as its source, many at once
    ratio_of_one_text: float = 0.0
    busy_cores: float | None = None  # with other work; None: the system does not tell
    told: dict[str, Any] = field(default_factory=dict)  # who was measured, and how fast
    unmeasured: str | None = None  # why

    def warnings(self, size_ratio: float) -> list[str]:
        """Return what a report warns of: no gain, or nothing known of it.

        Args:
            size_ratio: the copy's bytes over its source's.
        """
        if self.choice is None:
            return [f"its speed was not measured: {self.unmeasured}"] if self.unmeasured else []
        found = []
        if max(self.ratio, self.ratio_of_one_text) < LEAST_GAIN:
            saves = "room, not time" if size_ratio * LEAST_GAIN < 1.0 else "neither room nor time"
            found.append(
                f"it answers no faster here than its source (many texts at once {self.ratio:.2f} "
                f"times as fast, one {self.ratio_of_one_text:.2f}): it saves {saves}"
            )
        if is_busy(self.busy_cores):
            found.append(
                f"other work kept {self.busy_cores:.1f} cores busy when its speed was measured: "
                "potstill tune measures it again"
            )
        return found

    def to_json(self) -> dict[str, Any] | None:
        """Return it as plain values; None where nothing was measured."""
        if self.choice is None:
            return None
        ratios = {
            "ratio": round(self.ratio, 3),
            "ratio_of_one_text": round(self.ratio_of_one_text, 3),
        }
        load = None if self.busy_cores is None else round(self.busy_cores, 2)
        return {**ratios, **self.told, "busy_cores": load}


def is_busy(cores: float | None) -> bool:
    """Tell whether other programs disturb what is measured."""
    return cores is not None and cores > MOST_LOAD


def measured_speed(
    source: ModelFolder,
    copy: ModelFolder,
    choice: EngineChoice,
    *,
    threads: int | None,
    tell: Callable[[str], None],
) -> CopySpeed:
    """Measure a copy beside its source, and how it is best run on this processor.

    Args:
        source: a folder with weights.
        copy: what was made of it.
        choice: the copy's engine, precision and processor.
        threads: to compute with; None: as many as can run, and half of them too.
        tell: hears that it begins.

    Returns:
        Ratios, and the choice with what was measured; nothing of the kind where it cannot be
        measured: what was made stays good.
    """
    if choice.processor not in (None, processor_here()):
        return CopySpeed(unmeasured=f"it is for {choice.processor} processors")
    if not is_engine_installed(choice.name):
        return CopySpeed(unmeasured=f"{choice.name} is not installed")
    tell("measuring its speed beside its source")
    try:
        return _measured(source, copy, choice, threads)
    except PotstillError as error:
        return CopySpeed(unmeasured=str(error))


def _measured(
    source: ModelFolder, copy: ModelFolder, choice: EngineChoice, threads: int | None
) -> CopySpeed:
    precision = written_precisions(choice.name)[-1]  # by its weights, whatever lies beside them
    first = _candidate(source, replace(choice, precision=precision), threads)
    usual = _candidate(copy, choice, threads)
    load = busy_cores()
    candidates = [first, usual, *_in_other_sizes(usual)]
    if threads is None and not is_busy(load):
        candidates += _with_half_the_threads(copy, usual)
    texts = copy.tokenizer().encode(list(SAMPLE_TEXTS), max_length=copy.max_length).batch
    output = [OutputShapes(copy.config, copy.answering_head).names[0]]
    _measure(candidates, texts, output)
    best = min(candidates[1:], key=lambda each: each.seconds)
    best = best if usual.seconds >= LEAST_GAIN * best.seconds else usual
    return CopySpeed(
        choice=replace(best.choice, cpu_flags=flags_here()),
        ratio=first.seconds / usual.seconds,
        ratio_of_one_text=first.p50_ms / usual.p50_ms,
        busy_cores=load,
        told={
            "engine": usual.engine.name,
            "threads": usual.threads,
            "precisions": {"source": first.engine.precision, "copy": usual.engine.precision},
            "p50_ms": {"source": round(first.p50_ms, 3), "copy": round(usual.p50_ms, 3)},
        },
    )


def _candidate(folder: ModelFolder, choice: EngineChoice, threads: int | None) -> Candidate:
    count = threads or chosen_threads()
    engine = build_engine(
        folder, engine=choice.name, device="cpu", precision=choice.precision, threads=count
    )
    choice = replace(choice, precision=engine.precision)  # of torch, which was asked for "auto"
    return Candidate(replace(choice, row_tokens=None, request_tokens=None), engine, count)


def _in_other_sizes(usual: Candidate) -> list[Candidate]:
    if not isinstance(usual.engine, PackedEngine):
        return []
    others = [size for size in SIZES if RowSize(*size) != usual.engine.usual_size]
    return [
        replace(usual, choice=replace(usual.choice, row_tokens=row, request_tokens=request))
        for row, request in others
    ]


def _with_half_the_threads(copy: ModelFolder, usual: Candidate) -> list[Candidate]:
    half = usual.threads // 2
    if not half or not isinstance(usual.engine, PackedEngine):  # torch's are the whole process's
        return []
    found = _candidate(copy, usual.choice, half)
    found.choice = replace(found.choice, threads=half, threads_of=usual.threads)
    return [found]


def _measure(candidates: list[Candidate], sentences: RaggedBatch, output: list[str]) -> None:
    """Fill in the best of some rounds; the first one is not counted."""
    source, usual = candidates[:2]
    texts, one, calls = _as_many_as_time_allows(source, sentences, output)
    began = time.perf_counter()
    for number in range(_ROUNDS + 1):
        if number > 1 and time.perf_counter() - began > _ROUNDS_S:
            return
        for each in candidates:
            if isinstance(each.engine, PackedEngine):
                each.engine.size = each.choice.size or each.engine.usual_size
            seconds = seconds_of(partial(each.engine.run, texts, output))
            if number:
                each.seconds = min(each.seconds, seconds)
        for each in (source, usual):  # the size of rows is nothing to one text
            run = partial(each.engine.run, one, output)
            median = statistics.median(seconds_of(run) for _ in range(calls))
            if number:
                each.p50_ms = min(each.p50_ms, 1e3 * median)


def _as_many_as_time_allows(
    source: Candidate, sentences: RaggedBatch, output: list[str]
) -> tuple[RaggedBatch, RaggedBatch, int]:
    """Return texts, one of them, and how often it is asked alone: by what the source takes."""
    count = len(sentences)
    probe = sentences.take(list(range(0, count, count // _PROBED)))
    one = sentences.take([count // 2])
    seconds = []
    for texts in (probe, one):
        run = partial(source.engine.run, texts, output)
        run()  # which compiles
        seconds.append(max(seconds_of(run), 1e-6))
    allowed = int(_PASS_S / seconds[0]) * len(probe)
    calls = min(max(int(_ALONE_S / seconds[1]), _FEWEST_ALONE), _MOST_ALONE)
    if allowed < count:
        step = max(count // max(allowed, _PROBED), 1)
        return sentences.take(list(range(0, count, step))), one, calls
    repeats = min(allowed // count, _REPEATS)
    return sentences.take(list(range(count)) * repeats), one, calls
