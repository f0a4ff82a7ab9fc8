"""The gate of `potstill quantize`: parts are put back until it decides, by rows that can."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from potstill.errors import GateNotMet
from potstill.metrics.bootstrap import Interval
from potstill.metrics.gate import Gate, judge_gate
from potstill.report import Report
from potstill.workflows.copy_judge import CopyJudge, Tell
from potstill.workflows.quantize import QuantizeOptions, quantize
from tests.command_line import said, write_jsonl

pytest.importorskip("nncf", reason="pip install 'potstill[quantize]'")

FLOOR = 0.9
PARTS = 5  # of the tiny model: two a layer, and the head
SHORT, ENOUGH, HELD = (
    Interval(value=0.88, low=0.80, high=0.95),
    Interval(value=0.93, low=0.85, high=0.99),
    Interval(value=0.97, low=0.94, high=1.00),
)


@pytest.fixture
def gated(
    source: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path, Path, pytest.MonkeyPatch]:
    return source, rows, tmp_path / "out", monkeypatch


def quantized(
    gated: tuple[Path, Path, Path, pytest.MonkeyPatch],
    found: Sequence[Interval],
    *,
    accept: str | None = None,
    tell: Tell | None = None,
) -> Report:
    """Quantize where dev rows tell these retentions, one an attempt; the last tells the rest."""
    source, rows, out, monkeypatch = gated
    told = iter(found)
    last = found[-1]

    def on_dev(*given: object) -> Gate:
        return judge_gate(next(told, last), floor=FLOOR, rows=120, rows_of="dev")

    monkeypatch.setattr(CopyJudge, "on_dev", on_dev)
    options = QuantizeOptions(
        precision="int8-weights", dev=str(rows), floor=FLOOR, accept=accept, threads=1
    )
    return quantize(source, out, options, tell)


def test_an_undecided_gate_puts_parts_back_until_it_holds(gated) -> None:
    report = quantized(gated, [ENOUGH, ENOUGH, HELD])
    assert report.gate is not None
    assert report.gate["outcome"] == "holds"
    assert len(report.details["kept"]) == 2
    assert [len(each["kept"]) for each in report.details["tried"]] == [0, 1, 2]
    assert [each["gate"]["outcome"] for each in report.details["tried"]] == [
        *("undecided", "undecided", "holds")
    ]


def test_an_accepted_value_is_that_of_the_first_attempt_that_has_it(gated) -> None:
    report = quantized(gated, [SHORT, ENOUGH, HELD], accept="point")
    assert report.gate is not None
    assert (report.gate["outcome"], report.gate["value"]) == ("undecided", ENOUGH.value)
    assert len(report.details["kept"]) == 1


def test_a_gate_undecided_to_the_end_says_what_would_be_accepted(gated) -> None:
    with pytest.raises(GateNotMet) as fault:
        quantized(gated, [SHORT, ENOUGH, SHORT])
    told = str(fault.value)
    assert "the gate is undecided, floor 90.0%: retention 93.0% (85.0% to 99.0%)" in told
    assert "it does not hold with every part but the embedding tables in full precision" in told
    assert told.endswith("give more dev rows, or --accept point; nothing was written")
    assert not gated[2].exists()


def test_a_value_below_the_floor_to_the_end_asks_for_a_lower_one(gated) -> None:
    with pytest.raises(GateNotMet) as fault:
        quantized(gated, [SHORT])
    told = str(fault.value)
    assert "retention 88.0%" in told
    assert "--accept" not in told
    assert told.endswith("lower --floor; nothing was written")


def test_every_part_is_put_back_before_a_gate_refuses(gated) -> None:
    told: list[str] = []
    with pytest.raises(GateNotMet):
        quantized(gated, [ENOUGH], tell=told.append)
    assert told.count("quantizing to int8-weights") == 1 + PARTS
    assert len([line for line in told if line.endswith(" is put back")]) == PARTS


@pytest.mark.parametrize("option", ["--calibration", "--dev", "--test"])
def test_a_model_of_pairs_refuses_single_texts(
    source: Path,
    rows: Path,
    tmp_path: Path,
    option: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = shutil.copytree(source, tmp_path / "of-pairs") / "potstill.json"
    told = json.loads(file.read_text()) | {"settings": {"pairs": True}}
    file.write_text(json.dumps(told))
    lines = map(json.loads, rows.read_text().splitlines())
    pairs = write_jsonl(tmp_path / "pairs.jsonl", *({**line, "text_pair": "a"} for line in lines))
    given = {"--calibration": pairs, "--dev": pairs, "--test": pairs, option: rows}
    words = [word for pair in given.items() for word in pair]
    said_of_it = said(capsys, "quantize", file.parent, "--out", tmp_path / "out", *words)
    assert said_of_it.status == 2
    assert "these are single texts, and the model has learned from pairs" in said_of_it.complaint
