"""What `compare` found: models side by side, as an object and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from potstill.measure.measuring import Measurement
from potstill.metrics.bootstrap import Drawn, Interval
from potstill.metrics.per_class import ClassScores
from potstill.tasks.flips import FLIPS_SHOWN, Flips


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How well one model answers the test rows, alone and beside the baseline."""

    metrics: Mapping[str, Interval]
    per_class: tuple[ClassScores, ...]
    retention: Interval | None  # S / T; None: the baseline does not solve the task
    gain_retained: Interval | None  # (S - M) / (T - M)

    @property
    def f1_of(self) -> dict[str, float]:
        """Return the F1 of each class, by label."""
        return {scores.label: scores.f1 for scores in self.per_class}


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedModel:
    """One row of the comparison."""

    name: str
    architecture: str
    layers: int
    parameters: int
    size_bytes: int  # that the engine reads on disk: weights, or a graph
    fingerprint: str
    measured: Measurement
    speedup: float  # the baseline's median latency over this model's
    cost_per_million: float | None  # texts, at the measured throughput
    quality: Quality | None  # None: no test rows
    note: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the model as one object."""
        quality = self.quality
        return {
            "name": self.name,
            "architecture": self.architecture,
            "layers": self.layers,
            "parameters": self.parameters,
            "size_bytes": self.size_bytes,
            "fingerprint": self.fingerprint,
            **_measured_json(self.measured),
            "metrics": _intervals_json(quality.metrics) if quality else {},
            "per_class": [scores.to_json() for scores in quality.per_class] if quality else [],
            "retention": _interval_json(quality.retention) if quality else None,
            "gain_retained": _interval_json(quality.gain_retained) if quality else None,
            "speedup": round(self.speedup, 3),
            "cost_per_million": self.cost_per_million,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutRows:
    """The rows that quality was measured on."""

    source: str
    rows: int
    drawn: Drawn  # what intervals are drawn from: these rows, or of a ranking its queries
    sha256: str | None  # of the file, None where there is none
    primary: str  # the metric that retention speaks of
    majority_label: str  # the most frequent class of these rows
    majority_metrics: Mapping[str, float]  # of always answering it
    # Rows whose text stands in rows that a student was made of, by what these are; nothing where
    # nobody knows what it was made of.
    seen: Mapping[str, int] = field(default_factory=dict)

    def queries(self, name: str = "queries") -> dict[str, int]:
        """Return the number of queries by a name; nothing where rows are judged one by one."""
        return {name: self.drawn.count} if self.drawn.unit == "queries" else {}

    def told(self) -> str:
        """Return in words how many they are."""
        rows = Drawn(self.rows).told()
        return f"{rows} of {self.drawn.told()}" if self.queries() else rows

    def to_json(self) -> dict[str, Any]:
        """Return the facts as one object."""
        return {
            "source": self.source,
            "rows": self.rows,
            **self.queries(),
            "sha256": self.sha256,
            "majority": {"label": self.majority_label, "metrics": dict(self.majority_metrics)},
            **({"seen_in": dict(self.seen)} if self.seen else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All of it; the baseline is the first model."""

    models: tuple[ComparedModel, ...]
    machine: Mapping[str, Any]
    method: Mapping[str, Any]
    command: str  # that repeats the comparison
    test: HeldOutRows | None = None
    agreement: Mapping[str, Interval] = field(default_factory=dict)  # with the baseline, by name
    flips: Mapping[str, Flips] = field(default_factory=dict)  # against the baseline, by name
    warnings: tuple[str, ...] = ()

    @property
    def baseline(self) -> ComparedModel:
        """Return the model that all are compared with."""
        return self.models[0]

    @property
    def others(self) -> tuple[ComparedModel, ...]:
        """Return all models but the baseline."""
        return self.models[1:]

    @property
    def primary(self) -> str | None:
        """Return the metric that retention speaks of; None: no test rows."""
        return self.test.primary if self.test else None

    def to_json(self) -> dict[str, Any]:
        """Return the answer of `--json`."""
        return {
            "baseline": self.baseline.name,
            "primary": self.primary,
            "machine": dict(self.machine),
            "models": [model.to_json() for model in self.models],
            "agreement": _intervals_json(self.agreement),
            "flips": {name: flips.to_json(shown=FLIPS_SHOWN) for name, flips in self.flips.items()},
            "test": self.test.to_json() if self.test else None,
            "warnings": list(self.warnings),
            "method": dict(self.method),
            "command": self.command,
        }


def _measured_json(measured: Measurement) -> dict[str, Any]:
    latency = {rank: round(value, 4) for rank, value in measured.percentiles_ms.items()}
    return {
        "engine": measured.engine,
        "device": measured.device,
        "precision": measured.precision,
        "engine_reason": measured.reason,
        "load_seconds": round(measured.load_seconds, 3),
        "peak_memory_bytes": measured.peak_memory_bytes,
        "import_floor_bytes": measured.import_floor_bytes,
        "peak_device_memory_bytes": measured.peak_device_memory_bytes,
        "latency_ms": latency,
        "texts_per_second": round(measured.texts_per_second, 2),
        "tokens_per_second": round(measured.tokens_per_second, 1),
        "drift": round(measured.drift, 3),
        "truncated": measured.truncated,
    }


def _intervals_json(intervals: Mapping[str, Interval]) -> dict[str, Any]:
    return {name: _interval_json(interval) for name, interval in intervals.items()}


def _interval_json(interval: Interval | None) -> dict[str, float | None] | None:
    """Return value and ends; what is not finite is null, since JSON has no nan."""
    if interval is None:
        return None
    return {
        name: round(value, 6) if math.isfinite(value) else None
        for name, value in asdict(interval).items()
    }
