"""A gate: does a figure hold against a floor, given how sure it is?"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from potstill.metrics.bootstrap import CountedInterval, Drawn, Interval
from potstill.metrics.few_rows import rows_to_hold

Outcome = Literal["holds", "fails", "undecided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What came out, and with how many rows an undecided gate would be decided."""

    outcome: Outcome
    floor: float
    value: float | None  # None, with its ends: no retention can be told on these rows
    low: float | None
    high: float | None
    rows: int  # that were drawn from for the interval; of a ranking they are its queries
    rows_needed: int | None  # about; None where decided, or where the value itself is below
    rows_of: str = ""  # dev or test
    unit: str = "rows"  # what they are

    @property
    def is_value_enough(self) -> bool:
        """Tell whether the value alone, its interval left out, is at the floor or above."""
        return self.value is not None and self.value >= self.floor

    @property
    def least_rows(self) -> int | None:
        """Return how many rows show at least that it holds; None where there are as many here."""
        least = rows_to_hold(self.floor) if self.floor < 1 else 0
        return least if self.rows < least else None

    def is_met(self, accept: str | None) -> bool:
        """Tell whether it lets pass; "point" accepts an undecided gate by its value."""
        is_accepted = accept == "point" and self.is_value_enough
        return self.outcome == "holds" or (self.outcome == "undecided" and is_accepted)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)

    def describe(self) -> str:
        """Say it in one line."""
        rows = Drawn(self.rows, self.unit).told(self.rows_of)
        if self.value is None:
            nothing = f"no retention can be told on {rows}"
            return f"the gate is undecided, floor {_told(self.floor)}: {nothing}"
        told = (
            f"floor {_told(self.floor)}: retention {self.value:.1%} "
            f"({self.low:.1%} to {self.high:.1%}) on {rows}"
        )
        if self.outcome != "undecided":
            return f"the gate {self.outcome}, {told}"
        needed = (
            f"about {Drawn(self.rows_needed, self.unit).told()} would decide it"
            if self.rows_needed
            else "the value itself is below the floor"
        )
        return f"the gate is undecided, {told}; {needed}"


def _told(floor: float) -> str:
    """Return a floor in percent, with all the digits that were given: 0.9999 is not 100 %."""
    rounded, exact = f"{floor:.1%}", f"{100 * floor:.12g}%"
    return rounded if float(rounded[:-1]) == float(exact[:-1]) else exact


def undecided_gate(*, floor: float, drawn: Drawn, rows_of: str) -> Gate:
    """Return the gate on rows of which no retention can be told."""
    return Gate(
        outcome="undecided",
        floor=floor,
        value=None,
        low=None,
        high=None,
        rows=drawn.count,
        rows_needed=None,
        rows_of=rows_of,
        unit=drawn.unit,
    )


def judge_gate(found: Interval, *, floor: float, drawn: Drawn, rows_of: str = "") -> Gate:
    """Judge a retention: it holds if the whole interval is at the floor or above."""
    if found.low >= floor:
        outcome: Outcome = "holds"
    elif found.high < floor:
        outcome = "fails"
    else:
        outcome = "undecided"
    is_open = outcome == "undecided" and found.value > floor
    return Gate(
        outcome=outcome,
        floor=floor,
        value=found.value,
        low=found.low,
        high=found.high,
        rows=drawn.count,
        rows_needed=_rows_needed(found, floor, drawn.count) if is_open else None,
        rows_of=rows_of,
        unit=drawn.unit,
    )


def _rows_needed(found: Interval, floor: float, rows: int) -> int:
    """Return how many rows would decide about a value above the floor, if it stays as it is.

    An interval narrows with the root of what is drawn; one that leaves room for losses that were
    not seen (see `few_rows`) narrows with their number itself.
    """
    if isinstance(found, CountedInterval):
        return math.ceil(rows * math.log(found.low / found.value) / math.log(floor / found.value))
    return math.ceil(rows * ((found.value - found.low) / (found.value - floor)) ** 2)
