"""Comparisons made by hand, for what shows them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from potstill.measure.measuring import Measurement
from potstill.metrics.bootstrap import Drawn, Interval
from potstill.metrics.per_class import ClassScores
from potstill.tasks.flips import Flip, Flips
from potstill.workflows.comparison import ComparedModel, Comparison, HeldOutRows, Quality

LABELS = ("ham", "spam")


def a_measurement(p50_ms: float, **changes: Any) -> Measurement:
    """Return times around a median."""
    base = Measurement(
        latencies_ms=p50_ms * np.linspace(0.9, 1.1, 21).reshape(3, 7),
        seconds_together=np.asarray([1.0, 1.1, 0.9]),
        texts_together=100,
        tokens_together=2500,
        peak_memory_bytes=200_000_000,
        import_floor_bytes=300_000_000,
        peak_device_memory_bytes=None,
        load_seconds=0.5,
        engine="torch",
        device="cpu",
        precision="fp32",
    )
    return replace(base, **changes)


def a_model(name: str, p50_ms: float, score: float, kept: float | None) -> ComparedModel:
    """Return a model of one accuracy; `kept` is its retention."""
    quality = Quality(
        metrics={"accuracy": Interval(score, score - 0.02, score + 0.02)},
        per_class=tuple(
            ClassScores(label, score, score, score - 0.1 * place, 250)
            for place, label in enumerate(LABELS)
        ),
        retention=None if kept is None else Interval(kept, kept - 0.013, kept + 0.012),
        gain_retained=None if kept is None else Interval(kept - 0.05, kept - 0.1, kept),
    )
    return ComparedModel(
        name=name,
        architecture="bert",
        layers=6,
        parameters=66_955_010,
        size_bytes=int(40_000_000 * p50_ms),
        fingerprint="sha256:" + "0" * 64,
        measured=a_measurement(p50_ms),
        speedup=10.0 / p50_ms,
        cost_per_million=None,
        quality=quality,
    )


def a_comparison(
    *, student: str = "student", text: str = "win a prize", **changes: Any
) -> Comparison:
    """Return a teacher of 10 ms and a student of 5 ms."""
    flip = Flip(3, text, "spam", "spam", 0.91, "ham", is_lost=True, is_won=False)
    base = Comparison(
        models=(a_model("teacher", 10.0, 0.92, 1.0), a_model(student, 5.0, 0.908, 0.987)),
        machine={
            "processor": "a processor",
            "flags": ["avx2"],
            "cores": 2,
            "memory_bytes": 8_000_000_000,
            "system": "Linux x86_64",
            "python": "3.11.7",
            "packages": {"potstill": "0.1.0", "torch": "2.13.0"},
        },
        method={
            "threads": 2,
            "rounds": 3,
            "texts_one_by_one": 7,
            "timed_calls": 21,
            "texts_at_once": 100,
            "texts": "test rows",
            "engine": "torch",
            "device": "cpu",
            "precision": "fp32",
            "date": "2026-11-21",
        },
        command="potstill compare teacher student --test test.jsonl",
        test=HeldOutRows(
            source="test.jsonl",
            rows=500,
            drawn=Drawn(500),
            sha256="1" * 64,
            primary="accuracy",
            majority_label="ham",
            majority_metrics={"accuracy": 0.6},
        ),
        agreement={student: Interval(0.95, 0.93, 0.97)},
        flips={student: Flips((flip,))},
        warnings=("p99 rests on 21 timed calls",),
    )
    return replace(base, **changes)


def without_test(comparison: Comparison) -> Comparison:
    """Return the same comparison with nothing known about quality."""
    models = tuple(replace(model, quality=None) for model in comparison.models)
    return replace(comparison, models=models, test=None, agreement={}, flips={})


def unsolved(comparison: Comparison) -> Comparison:
    """Return the same comparison with a baseline that does not solve the task."""
    models = []
    for model in comparison.models:
        assert model.quality is not None
        quality = replace(model.quality, retention=None, gain_retained=None)
        models.append(replace(model, quality=quality, note="the baseline does not solve this task"))
    return replace(comparison, models=tuple(models))
