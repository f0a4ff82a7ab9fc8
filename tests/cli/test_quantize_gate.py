"""The gate of `potstill quantize`: parts are put back until it decides, by rows that can."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

import potstill
from potstill.bundle.manifest import Manifest, write_manifest
from potstill.errors import GateNotMet, ModelError
from potstill.metrics.bootstrap import Drawn, Interval
from potstill.metrics.gate import Gate, judge_gate
from potstill.report import Report
from potstill.workflows.copy_judge import UNJUDGED, CopyJudge, Tell
from potstill.workflows.quantize import CALIBRATED_ON_DEV, QuantizeOptions, quantize
from tests.command_line import Said, said, write_jsonl

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
    rows_drawn: int = 120,
) -> Report:
    """Quantize where dev rows tell these retentions, one an attempt; the last tells the rest."""
    source, rows, out, monkeypatch = gated
    told = iter(found)
    last = found[-1]

    def on_dev(*given: object) -> Gate:
        return judge_gate(next(told, last), floor=FLOOR, drawn=Drawn(rows_drawn), rows_of="dev")

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


def test_where_rows_are_too_few_to_show_it_no_part_is_put_back(gated) -> None:
    told: list[str] = []
    with pytest.raises(GateNotMet) as fault:
        quantized(gated, [ENOUGH, HELD], tell=told.append, rows_drawn=35)
    assert not any("is put back" in line for line in told)
    assert str(fault.value).endswith(
        "fewer than 36 dev rows cannot show that it holds, whatever is put back; to mend it: give "
        "more dev rows, or --accept point; nothing was written"
    )
    report = quantized(gated, [SHORT, ENOUGH], accept="point", rows_drawn=35)
    assert len(report.details["kept"]) == 1, "what is accepted by its value is still looked for"


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


def test_the_part_that_costs_most_is_put_back_first(gated) -> None:
    errors = iter([0.3, 0.1, 0.5, 0.2, 0.4])  # of the parts in the order of the graph
    monkeypatch = gated[3]
    monkeypatch.setattr("potstill.workflows.quantize.output_error", lambda *given: next(errors))
    report = quantized(gated, [SHORT, ENOUGH, ENOUGH, HELD])
    left = report.details["sensitivity"]
    assert list(left.values()) == [0.1, 0.2, 0.3, 0.4, 0.5]
    first = list(left)[:3]
    assert report.details["kept"] == first
    assert [each["kept"] for each in report.details["tried"]] == [
        first[:count] for count in range(4)
    ]
    stored = potstill.info(gated[2])["engine"]
    assert list(stored["sensitivity"].items()) == list(left.items())
    assert stored["tried"] == report.details["tried"]
    assert potstill.load(gated[2], threads=1).engine.precision == "int8-weights"


def test_rows_that_were_calibrated_on_are_counted_where_they_judge(
    source: Path, rows: Path, tmp_path: Path
) -> None:
    half = tmp_path / "half.jsonl"
    half.write_text("".join(f"{line}\n" for line in rows.read_text().splitlines()[:60]))
    report = potstill.quantize(
        *(source, tmp_path / "out"),
        calibration=half,
        dev=rows,
        floor=0.5,
        accept="point",
        test=half,
        tune=False,
        threads=1,
    )
    told = "\n".join(report.warnings)
    assert "60 of 120 dev rows (50.0%) stand in the calibration rows" in told
    assert "60 of 60 test rows (100.0%) stand in the calibration rows" in told
    assert "calibrated on 60 texts, which tell little" in told
    assert CALIBRATED_ON_DEV not in told


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_a_source_without_a_tokenizer_is_not_quantized(
    source: Path, tmp_path: Path, name: str
) -> None:
    mute, precision = tmp_path / "mute", "int8" if name == "onnx" else "int4"
    shutil.copytree(source, mute)
    for file in ("tokenizer.json", "vocab.txt", "tokenizer_config.json"):
        (mute / file).unlink(missing_ok=True)
    write_manifest(mute, Manifest(task="classification"))
    with pytest.raises(ModelError, match=r"mute: no tokenizer\.json"):
        potstill.quantize(mute, tmp_path / "out", engine=name, precision=precision)
    assert not (tmp_path / "out").exists()


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


def warnings_of(told: Said) -> list[str]:
    assert told.status == 0, told.err
    lines = [line.partition("warning: ") for line in told.err.splitlines()]
    return [warning for _, word, warning in lines if word]


@pytest.mark.parametrize("precision", ["int8-weights", "bf16"])
def test_test_rows_that_stand_in_dev_are_counted(
    source: Path, rows: Path, tmp_path: Path, precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = rows.read_text().splitlines(keepends=True)
    parts = {"dev": lines[:60], "copy": lines[:60], "other": lines[60:], "half": lines[30:90]}
    files = {name: tmp_path / f"{name}.jsonl" for name in parts}
    for name, part in parts.items():
        files[name].write_text("".join(part))
    shared = {"dev": 60, "copy": 60, "half": 30, "other": 0}
    for name, count in shared.items():
        words = ["--precision", precision, "--dev", files["dev"], "--floor", "0.1"]
        words += ["--test", files[name], "--accept", "point", "--threads", "1"]
        told = said(capsys, "quantize", source, "--out", tmp_path / f"to-{name}", *words)
        of_dev = f"{count} of 60 test rows ({count / 60:.1%}) stand in the dev rows"
        assert [line.startswith(of_dev) for line in warnings_of(told)] == [True] * (count > 0)


def test_what_it_was_calibrated_on_is_told(
    source: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = Path(shutil.copy(rows, tmp_path / "train.jsonl"))
    words = ["--dev", rows, "--floor", "0.1", "--accept", "point", "--threads", "1"]
    for file, given in ((rows, []), (train, ["--calibration", train])):
        out = tmp_path / f"on-{file.stem}"
        told = said(capsys, "quantize", source, "--out", out, *words, *given)
        (warning,) = warnings_of(told)
        same_rows = "120 of 120 dev rows (100.0%) stand in the calibration rows"
        assert warning.startswith(CALIBRATED_ON_DEV if file == rows else same_rows)
        assert f"calibrated on\t{file.name}" in told.out.splitlines()
        assert potstill.info(out)["lineage"]["calibrated_on"] == file.name


def test_only_a_gate_is_told_that_it_judges_what_it_was_calibrated_on(
    source: Path, rows: Path, tmp_path: Path
) -> None:
    report = potstill.quantize(source, tmp_path / "out", dev=str(rows), threads=1)
    assert report.warnings == [UNJUDGED]
    assert report.details["calibrated_on"] == rows.name
