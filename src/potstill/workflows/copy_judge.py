"""What a copy with smaller numbers keeps of its source: both answer the same rows.

Dev rows are for the gate, as often as there are attempts. Test rows are checked at the start, so
that a wrong file costs no work, and answered once, at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.folder import ModelFolder
from potstill.bundle.runtime_files import QUALITY_OF_COPY
from potstill.data.columns import Columns
from potstill.data.overlap import find_overlap
from potstill.data.rows import Rows
from potstill.errors import GateNotMet
from potstill.metrics.gate import Gate, judge_gate, undecided_gate
from potstill.report import Measured
from potstill.runtime.answering import lengths_of_folder, task_of_folder
from potstill.runtime.engines import build_engine
from potstill.workflows.compared_answers import Judged, Proof, judge, read_proof

UNJUDGED = "no gate was asked for: give --dev and --floor to know what was lost"
Floats = NDArray[np.floating[Any]]
Tell = Callable[[str], None]

_SOURCE, _COPY = "source", "quantized"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedBy:
    """The rows by which a copy is judged, and what it must keep."""

    dev: object | None = None  # labelled rows that the gate is judged on
    floor: float | None = None  # least retention beside the source; None: no gate
    accept: str | None = None  # "point": an undecided gate passes if the value does
    test: object | None = None
    columns: Columns = field(default_factory=Columns)
    primary: str | None = None
    threads: int | None = None
    seed: int = 0


class CopyJudge:
    """Holds copies against their source, which answers in fp32, and each row once."""

    def __init__(self, source: ModelFolder, by: JudgedBy, *, engine: str = "auto") -> None:
        """Read dev and test rows, so that what is wrong with them is told before any work.

        See `read_proof` for what it raises.
        """
        self.source, self.by, self.engine = source, by, engine
        self._dev = None if by.dev is None else self._proof(by.dev)
        self._test = None if by.test is None else self._proof(by.test)
        self._seen = self._seen_test_rows()
        self._source_on_dev: Floats | None = None

    def on_dev(self, copy: ModelFolder) -> Gate | None:
        """Return the gate's verdict on a copy; None where no floor is asked for.

        Raises:
            GateNotMet: the source does not solve its task, so there is no retention.
        """
        if self._dev is None or self.by.floor is None:
            return None
        if self._source_on_dev is None:
            self._source_on_dev = self._outputs(self.source, self._dev)
        judged = self._judged(copy, self._dev, self._source_on_dev)
        kept = judged.quality[_COPY].retention
        if kept is None:
            raise GateNotMet(
                f"no retention can be told on dev: {judged.note}",
                where="--floor",
                cure="leave --floor out",
            )
        return judge_gate(kept, floor=self.by.floor, drawn=judged.test.drawn, rows_of="dev")

    def passes(self, gate: Gate) -> bool:
        """Tell whether a verdict lets a copy pass."""
        return gate.is_met(self.by.accept)

    def on_test(self, copy: ModelFolder, tell: Tell) -> TestedCopy:
        """Ask the test rows, where there are any, once: of the copy that was chosen."""
        if self._test is None:
            return TestedCopy(None, self.by.floor)
        tell("test rows are answered")
        judged = self._judged(copy, self._test, self._outputs(self.source, self._test))
        return TestedCopy(judged, self.by.floor, seen=self._seen)

    def judged_rows_among(self, calibration: Rows) -> list[str]:
        """Say which rows that a copy is judged on are calibrated on too, kind of rows by kind."""
        judging = {"dev": self._dev if self.by.floor is not None else None, "test": self._test}
        found = [
            (name, find_overlap(calibration, proof.rows))
            for name, proof in judging.items()
            if proof is not None
        ]
        return [
            each.describe(held_out=name, beside="calibration") for name, each in found if each.count
        ]

    def _seen_test_rows(self) -> str | None:
        """Say which test rows stand in the dev rows, by which the copy is chosen."""
        if self._dev is None or self._test is None:
            return None
        overlap = find_overlap(self._dev.rows, self._test.rows)
        return overlap.describe(beside="dev") if overlap.count else None

    def _proof(self, rows: object) -> Proof:
        folders = {_SOURCE: self.source, _COPY: self.source}  # the copy need not be there yet
        by = self.by
        return read_proof(folders, rows, by.columns, primary=by.primary, seed=by.seed)

    def _judged(self, copy: ModelFolder, proof: Proof, source: Floats) -> Judged:
        proof = replace(proof, folders={_SOURCE: self.source, _COPY: copy})
        return judge(proof, {_SOURCE: source, _COPY: self._outputs(copy, proof)})

    def _outputs(self, folder: ModelFolder, proof: Proof) -> Floats:
        task = task_of_folder(folder)
        lengths = lengths_of_folder(folder, task, max_length=folder.max_length)
        windows = task.windows(folder.tokenizer(), proof.rows, lengths)
        precision = "fp32" if folder is self.source else "auto"
        engine = build_engine(
            folder, engine=self.engine, precision=precision, threads=self.by.threads
        )
        outputs: Floats = engine.run(windows.texts)["logits"]
        return outputs


@dataclass(frozen=True, slots=True)
class TestedCopy:
    """What the test rows say of a copy."""

    __test__ = False  # pytest collects what is named so

    judged: Judged | None  # None: there were none
    floor: float | None
    seen: str | None = None  # test rows that stand in the dev rows too

    @property
    def metrics(self) -> Mapping[str, Measured]:
        """Return the copy's metrics with their intervals."""
        found = {} if self.judged is None else self.judged.quality[_COPY].metrics
        return {
            name: Measured(value=each.value, low=each.low, high=each.high)
            for name, each in found.items()
        }

    @property
    def measurements(self) -> dict[str, Any]:
        """Return what a manifest keeps of it; a copy that misses the floor is marked so."""
        if self.judged is None:
            return {}
        values, gate = QUALITY_OF_COPY
        found: dict[str, Any] = {values: {name: each.value for name, each in self.metrics.items()}}
        return found if self.gate is None else {**found, gate: self.gate.describe()}

    @property
    def warnings(self) -> list[str]:
        """Return what a report warns of."""
        judged = [] if self.judged is None else list(self.judged.warnings)
        seen = [] if self.seen is None else [self.seen]
        return [*seen, *judged, *([UNJUDGED] if self.floor is None else [])]

    @property
    def gate(self) -> Gate | None:
        """Return the floor's gate on test rows; None where there is no floor or there are none."""
        if self.judged is None or self.floor is None:
            return None
        kept, drawn = self.judged.quality[_COPY].retention, self.judged.test.drawn
        if kept is None:
            return undecided_gate(floor=self.floor, drawn=drawn, rows_of="test")
        return judge_gate(kept, floor=self.floor, drawn=drawn, rows_of="test")

    def last_gate(self, on_dev: Gate | None) -> Gate | None:
        """Return the floor's gate on test rows; where none were given, the one on dev rows."""
        return on_dev if self.judged is None else self.gate


def refusal(
    what: str,
    *,
    cure: str,
    engine: str,
    precision: str,
    tried: Sequence[Mapping[str, Any]],
    sensitivity: Mapping[str, float] | None = None,
) -> GateNotMet:
    """Return why no copy is made, with all that a manifest would have kept of the search."""
    found = GateNotMet(what, where=precision, cure=cure)
    found.evidence = {
        "bundle": None,
        "refusal": what,
        "engine": engine,
        "precision": precision,
        "tried": [dict(each) for each in tried],
        "sensitivity": dict(sensitivity or {}),
    }
    return found
