"""Measure several models side by side: their rounds are interleaved, so that drift hits all alike.

Every model is loaded in a process of its own and stays there. The processes take turns (A, B, C,
A, B, C); while one works the others sleep. All are timed on the same texts in the same order.

Legend: R rounds, K texts asked one by one in a round, W windows and N tokens of the test
rows, C outputs.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.measure.commanded import Commanded
from potstill.measure.quietness import busy_cores

Floats = NDArray[np.floating[Any]]
Tell = Callable[[str], None]

PERCENTILES = (50, 95, 99)
_FEWEST_TEXTS, _MOST_ALONE, _MOST_TOGETHER = 5, 200, 512
_PROBE_TEXTS, _PROBES = 5, 2
_DISTURBED = 1.25  # slowest round's median over the fastest one's: beyond it drift is told


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurePlan:
    """How models are measured."""

    threads: int
    rounds: int = 5
    engine: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    max_length: int | None = None  # tokens; None: what each folder says
    alone_s: float = 8.0  # for the slowest model's texts one by one, all rounds together
    together_s: float = 6.0  # the same for texts asked at once, an upper bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What was found out about one model."""

    latencies_ms: Floats  # (R, K)
    seconds_together: Floats  # (R,) for all texts of a round, asked at once
    texts_together: int
    tokens_together: int  # real tokens: special ones included, no padding
    peak_memory_bytes: int  # above the import floor
    import_floor_bytes: int
    peak_device_memory_bytes: int | None  # of a CUDA card
    load_seconds: float
    engine: str
    device: str
    precision: str
    reason: str = ""  # why this engine was taken
    raw_outputs: Floats | None = None  # for all test rows, where they were asked for
    truncated: int = 0  # test rows that were cut

    @property
    def outputs(self) -> Floats:
        """Return the outputs for all test rows, (W, C) or (N, C), which were asked for."""
        assert self.raw_outputs is not None, "the outputs were not asked for: this is a bug"
        return self.raw_outputs

    @property
    def percentiles_ms(self) -> dict[str, float]:
        """Return the median and the tail of one text's time, over all rounds."""
        values = np.percentile(self.latencies_ms, PERCENTILES)
        return {f"p{rank}": float(value) for rank, value in zip(PERCENTILES, values, strict=True)}

    @property
    def texts_per_second(self) -> float:
        """Return the throughput of the median round."""
        return self.texts_together / float(np.median(self.seconds_together))

    @property
    def tokens_per_second(self) -> float:
        """Return the real tokens a second of the median round."""
        return self.tokens_together / float(np.median(self.seconds_together))

    @property
    def drift(self) -> float:
        """Return the slowest round's median latency over the fastest one's, 1 or more."""
        medians_R = np.median(self.latencies_ms, axis=1)
        return float(medians_R.max() / medians_R.min())

    @property
    def is_disturbed(self) -> bool:
        """Tell whether the rounds differ more than a quiet machine's do."""
        return self.drift > _DISTURBED


@dataclass(frozen=True, slots=True, kw_only=True)
class SideBySide:
    """What was found out about all models, in the order in which they were named."""

    models: list[Measurement]
    other_load: float | None  # cores busy with other work, before or after; None: not told


def measure_models(
    models: Sequence[tuple[str, Path]],
    texts: Sequence[Any],
    plan: MeasurePlan,
    *,
    rows: Mapping[str, list[Any]] | None,
    tell: Tell,
) -> SideBySide:
    """Measure models, given by name and folder, on the same texts.

    Args:
        models: at least one; all of them are in memory at the same time.
        texts: what `Model.predict` takes, of the test file or samples; a selection is timed, spread
            over all lengths.
        plan: rounds, threads and how a model is loaded.
        rows: columns of the test rows, of which all outputs are returned; None: of none.
        tell: takes a line at each stage.

    Raises:
        PotstillError: a model cannot be loaded or run, or its process died; its name is told.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="potstill-")))
        children = [
            stack.enter_context(
                Commanded(name, threads=plan.threads, complaints=folder / f"{number}.txt")
            )
            for number, (name, _) in enumerate(models)
        ]
        runs = [
            _Run(child, path, folder / f"{number}.npy")
            for number, (child, (_, path)) in enumerate(zip(children, models, strict=True))
        ]
        for run in runs:
            tell(f"loading {run.child.name}")
            run.load(plan)
        loads = [busy_cores()]
        _time(runs, texts, plan, tell)
        loads.append(busy_cores())
        if rows is not None:
            _read_outputs(runs, rows, folder / "rows.json", tell)
    told = [load for load in loads if load is not None]
    return SideBySide(models=[run.result() for run in runs], other_load=max(told) if told else None)


def spread_by_length(texts: Sequence[Any], count: int) -> list[Any]:
    """Pick texts whose lengths are spread as those of all; they stay in the order of the file."""
    if count >= len(texts):
        return list(texts)
    by_length = np.argsort([_size(text) for text in texts], kind="stable")
    places = (np.arange(count) + 0.5) * len(texts) / count
    return [texts[index] for index in sorted(by_length[places.astype(int)])]


def _size(given: Any) -> int:
    """Return the characters of what a model is asked: a text, or a mapping of several."""
    if isinstance(given, str):
        return len(given)
    parts = given.values() if isinstance(given, Mapping) else given
    return sum(_size(part) for part in parts)


@dataclass(slots=True)
class _Run:
    """One model's child and what it has told so far."""

    child: Commanded
    folder: Path
    outputs_file: Path
    loaded: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    latencies: list[list[float]] = field(default_factory=list)
    together: list[dict[str, Any]] = field(default_factory=list)
    texts_together: int = 0
    outputs: Floats | None = None
    truncated: int = 0

    def load(self, plan: MeasurePlan) -> None:
        options = {
            "device": plan.device,
            "precision": plan.precision,
            "threads": plan.threads,
            "max_length": plan.max_length,
        }
        self.loaded = self.child.ask(
            "load", folder=str(self.folder.absolute()), engine=plan.engine, options=options
        )

    def seconds_a_text(self, texts: list[Any]) -> float:
        """Return what a text takes when it is asked for the second time."""
        told = [self.child.ask("one_by_one", texts=texts) for _ in range(_PROBES)]
        return 1e-3 * float(np.mean(told[-1]["milliseconds"]))

    def read_outputs(self, rows_file: Path) -> None:
        told = self.child.ask("outputs", rows=str(rows_file), output=str(self.outputs_file))
        self.truncated = told["truncated"]
        self.outputs = np.load(self.outputs_file, allow_pickle=False)

    def result(self) -> Measurement:
        return Measurement(
            latencies_ms=np.asarray(self.latencies),
            seconds_together=np.asarray([told["seconds"] for told in self.together]),
            texts_together=self.texts_together,
            tokens_together=self.together[0]["tokens"],
            raw_outputs=self.outputs,
            truncated=self.truncated,
            **self.memory,
            **self.loaded,
        )


def _time(runs: list[_Run], texts: Sequence[Any], plan: MeasurePlan, tell: Tell) -> None:
    """Take all times, then the memory that this took."""
    alone, together = _timed_texts(runs, texts, plan)
    for run, is_timed in _turns(runs, plan.rounds, f"{len(alone)} texts one by one", tell):
        told = run.child.ask("one_by_one", texts=alone)
        if is_timed:
            run.latencies.append(told["milliseconds"])
    for run, is_timed in _turns(runs, plan.rounds, f"{len(together)} texts at once", tell):
        told = run.child.ask("together", texts=together)
        if is_timed:
            run.together.append(told)
    for run in runs:
        run.texts_together = len(together)
        run.memory = run.child.ask("memory")


def _read_outputs(
    runs: list[_Run], rows: Mapping[str, list[Any]], rows_file: Path, tell: Tell
) -> None:
    rows_file.write_text(json.dumps(dict(rows)), encoding="utf-8")
    count = len(next(iter(rows.values())))
    for run in runs:
        tell(f"answering the {count:,} test rows: {run.child.name}")
        run.read_outputs(rows_file)


def _timed_texts(
    runs: list[_Run], texts: Sequence[Any], plan: MeasurePlan
) -> tuple[list[Any], list[Any]]:
    """Choose as many texts as the slowest model's budget allows, for all models the same."""
    probe = spread_by_length(texts, _PROBE_TEXTS)
    slowest_s = max(run.seconds_a_text(probe) for run in runs)
    passes = (plan.rounds + 1) * slowest_s  # the first round is not timed
    alone = min(max(int(plan.alone_s / passes), _FEWEST_TEXTS), _MOST_ALONE)
    together = min(max(int(plan.together_s / passes), _FEWEST_TEXTS), _MOST_TOGETHER)
    return spread_by_length(texts, alone), spread_by_length(texts, together)


def _turns(runs: list[_Run], rounds: int, what: str, tell: Tell) -> Iterator[tuple[_Run, bool]]:
    """Yield the models in turn, round by round; the first round warms up and does not count."""
    for number in range(rounds + 1):
        tell(f"{what}, " + (f"round {number} of {rounds}" if number else "warming up"))
        for run in runs:
            yield run, number > 0
