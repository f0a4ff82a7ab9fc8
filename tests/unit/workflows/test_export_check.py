"""What an exported file is held against: outputs, hidden states, and the task's own decisions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import potstill
from potstill.bundle.opening import open_model
from potstill.compress import onnx_export
from potstill.errors import DataError, RunError
from potstill.workflows import export_check
from potstill.workflows.export_check import Arrays, Ask, Check, Checked, onnx_file
from tests.folders import write_tiny_model

pytest.importorskip("onnxruntime", reason="pip install 'potstill[onnx]'")
onnx = pytest.importorskip("onnx", reason="pip install 'potstill[onnx]'")

ONE_NUMBER = {"kind": "classification", "labels": ("score",)}
HEADS = {  # by task
    "classification": {},
    "multi-label": {"kind": "classification", "problem": "multi_label_classification"},
    "regression": ONE_NUMBER,
    "ranking": ONE_NUMBER,
    "token-classification": {},
    "question-answering": {},
    "masked-lm": {},
    None: {},
}


def source_of(place: Path, task: str | None, **changes: object) -> Path:
    head = {"kind": task or "none", **HEADS[task], **changes}
    return write_tiny_model(place / "source", task=task, **{"initializer_range": 0.2, **head})


def checked(
    place: Path, task: str | None, change: Callable[[Arrays], Arrays], rows: object = None
) -> Checked:
    """Check a file whose outputs are changed."""
    folder = open_model(source_of(place, task))
    model = onnx_export.exported(folder)
    file = place / "model.onnx"
    file.write_bytes(model.SerializeToString())
    answers = onnx_file(file)
    states = onnx_file(file, onnx_export.state_nodes(model, folder.config))
    return Check(folder, rows, "text").of(changed(answers, change), states)


def changed(answers: Ask, change: Callable[[Arrays], Arrays]) -> Ask:
    return lambda inputs: change(answers(inputs))


def as_they_are(outputs: Arrays) -> Arrays:
    return outputs


def all_higher(outputs: Arrays) -> Arrays:
    return {name: array + np.float32(10) for name, array in outputs.items()}


@pytest.mark.parametrize("task", HEADS)
def test_a_choice_is_compared_where_there_is_one(tmp_path: Path, task: str | None) -> None:
    found = checked(tmp_path, task, as_they_are)
    is_choice = task not in {"regression", "ranking", None}
    assert found.same_decisions == (1.0 if is_choice else None)
    assert found.largest_difference < 1e-5
    assert found.largest_state_difference < 1e-5


@pytest.mark.parametrize(
    ("task", "share"),
    [
        ("classification", 1.0),  # all classes alike
        ("token-classification", 1.0),
        ("multi-label", 0.0),  # every label is answered now, and none of the sentences has all
    ],
)
def test_decisions_are_the_task_s_own(tmp_path: Path, task: str, share: float) -> None:
    found = checked(tmp_path, task, all_higher)
    assert found.same_decisions == share
    assert found.largest_difference == pytest.approx(10, abs=1e-3)


def test_an_answer_is_the_same_where_one_end_is_likelier_everywhere(tmp_path: Path) -> None:
    def starts_higher(outputs: Arrays) -> Arrays:
        return {**outputs, "start_logits": outputs["start_logits"] + np.float32(10)}

    assert checked(tmp_path, "question-answering", starts_higher).same_decisions == 1.0


def test_an_answer_is_another_one_where_the_ends_lie_elsewhere(tmp_path: Path) -> None:
    def turned(outputs: Arrays) -> Arrays:
        return {name: -array for name, array in outputs.items()}

    share = checked(tmp_path, "question-answering", turned).same_decisions
    assert share is not None
    assert share < 0.5


def test_a_number_that_is_none_is_not_near(tmp_path: Path) -> None:
    def broken(outputs: Arrays) -> Arrays:
        return {name: array * np.float32(np.nan) for name, array in outputs.items()}

    assert np.isnan(checked(tmp_path, "classification", broken).largest_difference)


@pytest.mark.parametrize(
    ("task", "row"),
    [
        ("question-answering", {"question": "a film", "context": "the plot was not good"}),
        ("classification", {"text": "a film", "text_pair": "the plot was not good"}),
        ("token-classification", {"tokens": ["a", "good", "film"]}),
    ],
)
def test_rows_are_read_as_the_task_reads_them(
    tmp_path: Path, task: str, row: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    padded = export_check._padded
    monkeypatch.setattr(export_check, "_padded", lambda text: asked.append(text) or padded(text))
    found = checked(tmp_path, task, as_they_are, rows=[row, row])
    assert found.texts == 2
    assert found.same_decisions == 1.0
    types = asked[0].token_types
    assert (types is not None and types.any()) == (task != "token-classification")


def test_rows_without_a_text_are_refused(tmp_path: Path) -> None:
    folder = open_model(source_of(tmp_path, "classification"))
    with pytest.raises(DataError, match="all 2 texts are empty"):
        Check(folder, [{"text": ""}, {"text": " "}], "text")


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_a_graph_whose_hidden_states_are_wrong_is_refused(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All weights are 0, so that the logits are 0 whatever the encoder says."""
    pytest.importorskip(form)
    written = onnx_export.exported

    def damaged(folder: object) -> object:
        model = written(folder)
        for each in model.graph.initializer:
            if each.name == "embeddings.words.weight":
                table = onnx.numpy_helper.to_array(each)
                noise = np.random.default_rng(0).normal(size=table.shape).astype(np.float32)
                each.CopyFrom(onnx.numpy_helper.from_array(noise, each.name))
        return model

    source = source_of(tmp_path, "classification", initializer_range=0.0)
    potstill.export(source, tmp_path / "sound", format=form)
    monkeypatch.setattr(onnx_export, "exported", damaged)
    with pytest.raises(RunError, match="in its hidden states, is off by"):
        potstill.export(source, tmp_path / "out", format=form)
    assert not (tmp_path / "out").exists()


def test_the_quantized_file_s_hidden_states_are_told(tmp_path: Path) -> None:
    source = source_of(tmp_path, "classification")
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"text": "a good film"}) + "\n")
    told = potstill.export(source, tmp_path / "out", quantized=True, check=rows).details["checked"]
    exact, small = (each["largest_state_difference"] for each in told.values())
    assert exact < 1e-5 < small < 1.0
