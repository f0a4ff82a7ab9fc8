"""The page's classifier under Node: onnxruntime-web says what we say."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import potstill
from tests.conftest import REPOSITORY
from tests.folders import write_tiny_model

pytest.importorskip("onnxruntime", reason="pip install 'potstill[onnx]'")

TEXTS = ["a good film", "boring", "the plot \U0001f600 was\tnot great", "good " * 100, "naïve", ""]
INSTALL = ["npm", "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"]
PATIENCE_S = 180


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the example with its packages."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no Node here")
    place = tmp_path_factory.mktemp("browser") / "page"
    shutil.copytree(REPOSITORY / "examples" / "browser", place)
    if not (place / "node_modules").exists():
        told = subprocess.run(
            INSTALL, cwd=place, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        if told.returncode:
            pytest.skip(f"npm cannot install here: {told.stderr[-200:]}")
    return place


@pytest.mark.slow
@pytest.mark.parametrize("file", ["model.onnx", "model_quantized.onnx"])
def test_answers_under_node_are_ours(tmp_path: Path, page: Path, file: str) -> None:
    source = write_tiny_model(tmp_path / "source", "classification", task="classification")
    potstill.export(source, tmp_path / "model", quantized=True)
    lines = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
    told = subprocess.run(
        ["node", "check.mjs", str(tmp_path / "model"), file],
        cwd=page,
        input=lines,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    answers = [json.loads(line) for line in told.stdout.splitlines()]
    expected = potstill.load(source, engine="onnx").predict(TEXTS)
    assert len(answers) == len(TEXTS)
    for ours, theirs in zip(expected, answers, strict=True):
        scores = {each["label"]: each["score"] for each in theirs["scores"]}
        for each in ours["scores"]:
            tolerance = 1e-5 if file == "model.onnx" else 0.02
            assert scores[each["label"]] == pytest.approx(each["score"], abs=tolerance)


def test_the_page_asks_nobody_else(page: Path) -> None:
    for name in ("index.html", "page.js", "classifier.js"):
        content = (page / name).read_text()
        assert "http://" not in content
        assert "https://" not in content
