"""What a run found: values with unit, interval and direction, and the same as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from potstill.runtime.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One measured value."""

    value: float
    low: float | None = None  # ends of the 95 % interval, None where none was taken
    high: float | None = None
    unit: str = ""
    greater_is_better: bool = True

    def to_json(self) -> dict[str, float | None]:
        """Return value and interval."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a verb that writes a bundle returns; the command line renders the same object."""

    bundle: Path
    fingerprint: str
    task: str | None
    metrics: Mapping[str, Measured] = field(default_factory=dict)
    seconds: float = 0.0
    steps: int = 0
    warnings: list[str] = field(default_factory=list)
    gate: Mapping[str, Any] | None = None  # outcome, floor, value, low, high; None: no gate
    details: Mapping[str, Any] = field(default_factory=dict)  # more keys of the JSON answer

    def load(self, **options: Any) -> Model:
        """Load the bundle; options as for `potstill.load`."""
        from potstill.runtime.model import load

        return load(self.bundle, **options)

    def to_json(self) -> dict[str, Any]:
        """Return the answer of `--json`."""
        return {
            "bundle": str(self.bundle),
            "fingerprint": self.fingerprint,
            "task": self.task,
            "metrics": {name: measured.to_json() for name, measured in self.metrics.items()},
            "seconds": round(self.seconds, 3),
            "steps": self.steps,
            "gate": None if self.gate is None else dict(self.gate),
            "warnings": self.warnings,
            **{name: _plain(value) for name, value in self.details.items()},
        }


def _plain(value: Any) -> Any:
    """Return a detail as plain values; one that is a report of its own knows how."""
    return value.to_json() if hasattr(value, "to_json") else value
