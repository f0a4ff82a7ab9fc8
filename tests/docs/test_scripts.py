"""Scripts in the docs run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import potstill
from tests.conftest import REPOSITORY
from tests.folders import write_tiny_model

pytest.importorskip("onnx", reason="pip install 'potstill[onnx]'")

LAST_TEXT = "thank you"


def script_of(page: str, *, using: str) -> str:
    """Return the one Python block of a page that imports a library."""
    text = (REPOSITORY / "docs" / page).read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (found,) = [block for block in blocks if f"import {using}\n" in block]
    return str(found)


@pytest.mark.parametrize("last_text", [LAST_TEXT, "a good film " * 100])
def test_plain_onnxruntime_answers_as_we_do(tmp_path: Path, last_text: str) -> None:
    pytest.importorskip("onnxruntime", reason="pip install 'potstill[onnx]'")
    source = write_tiny_model(
        tmp_path / "source", "classification", task="classification", initializer_range=0.3
    )
    potstill.export(source, tmp_path / "small-onnx")
    script = script_of("engines.md", using="onnxruntime")
    assert script.count(f'"{LAST_TEXT}"') == 1
    told = subprocess.run(
        [sys.executable, "-c", script.replace(LAST_TEXT, last_text)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    answers = potstill.load(source, engine="onnx").predict(["where is my parcel?", last_text])
    classes = ["abc".index(answer["label"]) for answer in answers]
    assert told.stdout == f"[{classes[0]} {classes[1]}]\n"
