"""The serverless function: its answers are ours, its package is small."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import potstill
from potstill.architectures.heads import HeadSpec
from potstill.bundle.write import BundleContent, write_bundle
from tests.conftest import REPOSITORY
from tests.examples.models import OF_OTHER_TASKS, write_model

pytest.importorskip("onnxruntime", reason="pip install 'potstill[onnx]'")

PLACE = REPOSITORY / "examples" / "serverless"
MOST_BYTES = 250_000_000  # unpacked, what the smallest of the large providers takes
TEXTS = ["a good film", "boring", "good " * 100, ""]


@pytest.fixture
def function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return function_around(write_model(tmp_path, "classification"), monkeypatch)


def function_around(source: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the example's module with an exported model."""
    potstill.export(source, source.with_name("model"), quantized=True)
    monkeypatch.setenv("MODEL", str(source.with_name("model")))
    specification = importlib.util.spec_from_file_location("handler", PLACE / "handler.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_answers_are_ours(function: ModuleType, tmp_path: Path) -> None:
    found = function.handler({"texts": TEXTS})["answers"]
    expected = potstill.load(tmp_path / "source", engine="onnx").predict(TEXTS)
    for ours, theirs in zip(expected, found, strict=True):
        scores = {each["label"]: each["score"] for each in ours["scores"]}
        assert theirs["score"] == pytest.approx(scores[theirs["label"]], abs=0.02)


def test_of_many_labels_those_above_their_thresholds_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All scores are near one half."""
    source = write_model(tmp_path, "multi-label", thresholds={"a": 0.2, "b": 0.8, "c": 0.2})
    function = function_around(source, monkeypatch)
    expected = potstill.load(source, engine="onnx").predict(TEXTS)
    for ours, theirs in zip(expected, function.answer(TEXTS), strict=True):
        assert theirs["labels"] == ours["labels"] == ["a", "c"]
        scores = {each["label"]: each["score"] for each in ours["scores"]}
        assert theirs["score"] == pytest.approx(scores[theirs["label"]], abs=0.02)


def test_a_number_is_answered_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_model(tmp_path, "regression")
    function = function_around(source, monkeypatch)
    expected = potstill.load(source, engine="onnx").predict(TEXTS)
    for ours, theirs in zip(expected, function.answer(TEXTS), strict=True):
        assert theirs == {"score": pytest.approx(ours["score"], abs=0.02)}


@pytest.mark.parametrize(("task", "settings", "message"), OF_OTHER_TASKS)
def test_a_model_of_another_task_is_refused_in_one_line(
    tmp_path: Path, task: str, settings: dict, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = function_around(write_model(tmp_path, task, settings=settings), monkeypatch)
    assert message in function.handler({"texts": TEXTS})["error"]
    assert function.handler({"body": {"texts": TEXTS}})["statusCode"] == 500


@pytest.mark.parametrize("form", [json.dumps, dict])
def test_an_http_event_gets_an_http_answer(function: ModuleType, form: Callable) -> None:
    told = function.handler({"body": form({"texts": ["a good film"]})})
    assert told["statusCode"] == 200
    assert len(json.loads(told["body"])["answers"]) == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{", "no JSON"),
        (5, "texts is missing"),
        (None, "texts is missing"),
        (["a good film"], "texts is missing"),
        ({"texts": 5}, "no list of strings"),
        ("null", "texts is missing"),
        ('{"texts": "one"}', "no list of strings"),
        ('{"texts": []}', "0 texts"),
        (json.dumps({"texts": ["a"] * 101}), "101 texts"),
    ],
)
def test_a_wrong_event_is_told_in_one_line(
    function: ModuleType, body: object, message: str
) -> None:
    told = function.handler({"body": body})
    assert told["statusCode"] == 400
    assert message in json.loads(told["body"])["error"]


@pytest.mark.parametrize("event", [None, 5, "texts", [], {}])
def test_what_is_no_http_event_gets_an_error_without_a_status(
    function: ModuleType, event: object
) -> None:
    told = function.handler(event)
    assert list(told) == ["error"]
    assert "texts is missing" in told["error"]


@pytest.mark.slow
def test_the_package_stays_under_250_mb(tmp_path: Path, minilm: Path) -> None:
    """Weigh what is installed, with DistilBERT-base's shape in int8 beside it."""
    from potstill.models import TaskModel, preset
    from potstill.models.loading import tensors_of

    spec = HeadSpec(kind="classification", labels=("no", "yes"))
    model = TaskModel(preset("distilbert-base"), spec)
    content = BundleContent(
        config=model.config,
        head=spec,
        tensors=tensors_of(model),
        tokenizer=potstill.load(minilm).tokenizer,
    )
    write_bundle(tmp_path / "source", content)
    potstill.export(tmp_path / "source", tmp_path / "exported", quantized=True)
    (tmp_path / "exported" / "onnx" / "model.onnx").unlink()
    package = tmp_path / "package"
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", package]
    told = subprocess.run(
        [*words, "-c", REPOSITORY / "constraints.txt", "-r", PLACE / "requirements.txt"],
        capture_output=True,
        text=True,
        check=False,
    )
    if told.returncode:
        pytest.skip(f"pip cannot install here: {told.stderr[-200:]}")
    _answer_alone(package, tmp_path / "exported")
    weighed = {place.name: size_of(place) for place in (package, tmp_path / "exported")}
    assert sum(weighed.values()) < MOST_BYTES, weighed


def _answer_alone(package: Path, model: Path) -> None:
    """Run the function with what is in the package and nothing else."""
    program = (
        f"import sys; sys.path[:0] = [{str(package)!r}, {str(PLACE)!r}]\n"
        "import handler\n"
        "print(handler.handler({'texts': ['a good film']}))"
    )
    told = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={"MODEL": str(model)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "'label'" in told.stdout, told.stderr


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
