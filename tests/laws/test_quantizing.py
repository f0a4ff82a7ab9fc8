"""The same inputs give the same bundle, and rows of the proof decide nothing of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import potstill
from potstill.bundle.runtime_files import STORED, graph_files
from tests.command_line import write_jsonl
from tests.quantizing import write_answered_rows, write_source

pytest.importorskip("nncf", reason="pip install 'potstill[quantize]'")

MADE = [(engine, precision) for engine, precisions in STORED.items() for precision in precisions]


@pytest.mark.parametrize(("engine", "precision"), MADE)
def test_a_second_copy_is_the_first_whatever_the_proof_says(
    tmp_path: Path, engine: str, precision: str
) -> None:
    source = write_source(tmp_path / "source")
    rows = write_answered_rows(source, tmp_path / "rows.jsonl")
    told = [json.loads(line) for line in rows.read_text().splitlines()]
    labels = sorted({row["label"] for row in told})
    poisoned = [
        row | ({"label": labels[labels.index(row["label"]) - 1]} if number % 4 == 0 else {})
        for number, row in enumerate(told)
    ]
    proofs = {"right": rows, "poisoned": write_jsonl(tmp_path / "poisoned.jsonl", *poisoned)}
    found = {}
    for name, proof in proofs.items():
        report = potstill.quantize(
            *(source, tmp_path / name),
            engine=engine,
            precision=precision,
            dev=rows,
            floor=0.7,
            test=proof,
            accept="point",
            tune=False,
            threads=1,
        )
        files = [(tmp_path / name / file).read_bytes() for file in graph_files(engine, precision)]
        found[name] = (report.fingerprint, report.details["kept"], files)
    assert found["right"] == found["poisoned"]
    scores = [potstill.info(tmp_path / name)["measurements"]["quantized"] for name in proofs]
    assert scores[0] != scores[1], "the proof was read"
