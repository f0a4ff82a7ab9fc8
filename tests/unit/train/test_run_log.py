"""The log of a run holds each step once, whatever was stopped or failed before."""

from __future__ import annotations

import json
from pathlib import Path

from potstill.train.progress import Meter, StepFacts, log_to


def told(log: Path, steps: range, *, after: int = 0, rate: float = 1.0) -> None:
    """Do steps in a process of their own, so to speak, that took up the checkpoint of one."""
    meter, listener = Meter(total_steps=20), log_to(log)
    for step in range(after + 1, steps.stop):
        meter.add({"loss": 1.0}, 10)
        if step in steps:
            listener(meter.moment(step, StepFacts(learning_rate=rate, gradient_norm=1.0)))


def lines(log: Path) -> list[tuple[int, float]]:
    records = [json.loads(line) for line in log.read_text().splitlines()]
    return [(record["step"], record["learning_rate"]) for record in records]


def test_steps_that_are_done_anew_stand_once(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    told(log, range(1, 8))
    told(log, range(6, 10), after=5)
    assert [step for step, _ in lines(log)] == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_a_run_from_the_start_forgets_one_that_left_no_checkpoint(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    told(log, range(1, 5), rate=9.0)
    told(log, range(3, 6), rate=0.1)  # its first moments are not told
    assert lines(log) == [(3, 0.1), (4, 0.1), (5, 0.1)]


def test_a_torn_line_is_taken_out(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    told(log, range(1, 4))
    with log.open("a") as stream:
        stream.write('{"step": 4, "los')
    told(log, range(4, 6), after=3)
    assert [step for step, _ in lines(log)] == [1, 2, 3, 4, 5]
