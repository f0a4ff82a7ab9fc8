"""The page's classifier under Node: onnxruntime-web says what we say."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import potstill
from tests.conftest import REPOSITORY
from tests.examples.models import OF_OTHER_TASKS, write_model

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


def answers_under_node(page: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Ask the page's code for the answers to `TEXTS`."""
    return subprocess.run(
        ["node", "check.mjs", *words],
        cwd=page,
        input="".join(json.dumps({"text": text}) + "\n" for text in TEXTS),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("file", ["model.onnx", "model_quantized.onnx"])
@pytest.mark.parametrize("task", ["classification", "multi-label", "regression"])
def test_answers_under_node_are_ours(tmp_path: Path, page: Path, task: str, file: str) -> None:
    thresholds = {"a": 0.2, "b": 0.8, "c": 0.2} if task == "multi-label" else {}
    source = write_model(tmp_path, task, thresholds=thresholds)
    potstill.export(source, tmp_path / "model", quantized=True)
    told = answers_under_node(page, str(tmp_path / "model"), file)
    assert told.returncode == 0, told.stderr
    answers = [json.loads(line) for line in told.stdout.splitlines()]
    expected = potstill.load(source, engine="onnx").predict(TEXTS)
    assert len(answers) == len(TEXTS)
    tolerance = 1e-5 if file == "model.onnx" else 0.02
    for ours, theirs in zip(expected, answers, strict=True):
        assert theirs["score"] == pytest.approx(ours["score"], abs=tolerance)
        assert theirs.get("labels") == ours.get("labels")
        scores = {each["label"]: each["score"] for each in theirs.get("scores", [])}
        for each in ours.get("scores", []):
            assert scores[each["label"]] == pytest.approx(each["score"], abs=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(("task", "settings", "message"), OF_OTHER_TASKS)
def test_a_model_of_another_task_is_refused_in_one_line(
    tmp_path: Path, page: Path, task: str, settings: dict, message: str
) -> None:
    potstill.export(write_model(tmp_path, task, settings=settings), tmp_path / "model")
    told = answers_under_node(page, str(tmp_path / "model"), "model.onnx")
    assert (told.returncode, told.stdout) == (1, "")
    assert message in told.stderr
    assert len(told.stderr.splitlines()) == 1


def test_the_page_asks_nobody_else(page: Path) -> None:
    for name in ("index.html", "page.js", "classifier.js"):
        content = (page / name).read_text()
        assert "http://" not in content
        assert "https://" not in content
