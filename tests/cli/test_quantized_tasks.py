"""Quantized bundles of every kind of task: packed equals padded equals one by one, verbs run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import potstill
from potstill.data.columns import Columns
from potstill.runtime.packed_rows import RowSize
from potstill.tasks import reading
from tests.command_line import said, write_jsonl
from tests.folders import write_tiny_model
from tests.task_data import (
    KINDS,
    PLAIN_WORDS,
    likeness_row,
    measure_here,
    rows_of,
    write_task_rows,
    write_vector_model,
)

pytest.importorskip("nncf", reason="pip install 'potstill[quantize]'")

# Activations are rounded to 8 bits by scales of the whole graph: a neighbour in the call changes
# nothing but the order in which fp32 sums are taken.
SAME = 1e-5  # of the largest output
NEAR = 0.15  # to the source in fp32, of the largest output: networks this narrow are rough
HEADS = {
    "token-classification": "token-classification",
    "question-answering": "question-answering",
}


@pytest.fixture(scope="module", params=[*KINDS, "windows"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a source, its int8 bundle, the kind and the rows; some are read in windows."""
    kind = KINDS["question-answering" if request.param == "windows" else request.param]
    place = tmp_path_factory.mktemp(request.param)
    source = write_tiny_model(
        *(place / "source", HEADS.get(kind.task, "classification")),
        **{"task": kind.task, "labels": kind.labels, "initializer_range": 0.2},
    )
    if request.param == "windows":  # contexts longer than the longest text
        file = source / "potstill.json"
        told = json.loads(file.read_text()) | {"max_length": 12, "long_texts": "windows"}
        file.write_text(json.dumps(told))
    rows = write_task_rows(place / f"rows{kind.suffix}", kind, 60)
    potstill.quantize(source, place / "small", calibration=str(rows), threads=1)
    return source, place / "small", kind, rows


def test_packed_is_padded_is_one_by_one_and_near_the_source(made: Any) -> None:
    source, small, kind, file = made
    model = potstill.load(small, threads=1)
    assert model.engine.precision == "int8"
    rows = reading.unlabelled(kind.task, str(file), Columns())
    texts = model.answered_task.windows(model.tokenizer, rows, model.lengths).texts
    assert len(set(texts.lengths.tolist())) > 2
    packed = model.engine.run(texts)["logits"]
    alone = [model.engine.run(texts.take([text]))["logits"] for text in range(len(texts))]
    model.engine.size = RowSize(row_tokens=1, request_tokens=64)  # a row a text
    padded = model.engine.run(texts)["logits"]
    exact_model = potstill.load(source, engine="openvino", precision="fp32", threads=1)
    exact = exact_model.engine.run(texts)["logits"]
    largest = np.abs(exact).max()
    np.testing.assert_allclose(packed, np.concatenate(alone), rtol=0, atol=SAME * largest)
    np.testing.assert_allclose(packed, padded, rtol=0, atol=SAME * largest)
    assert 0 < np.abs(packed - exact).max() < NEAR * largest


def test_verbs_run_on_it(
    made: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, small, kind, rows = made
    output = tmp_path / "answers.jsonl"
    words = ("--input", rows, "--output", output, "--threads", "1")
    assert said(capsys, "predict", small, *words).status == 0
    assert len(output.read_text().splitlines()) == 60
    found = said(capsys, "evaluate", small, "--test", rows, "--threads", "1", "--json").answer
    assert (found["engine"], found["precision"], found["examples"]) == ("openvino", "int8", 60)
    measure_here(monkeypatch)
    words = ("--test", rows, "--rounds", "1", "--threads", "1", "--primary", kind.primary, "--json")
    models = said(capsys, "compare", source, small, *words).answer["models"]
    assert models[1]["metrics"][kind.primary]["value"] == pytest.approx(
        found["metrics"][kind.primary]["value"], abs=1e-6
    )
    assert models[1]["precision"] == "int8"
    assert models[1]["size_bytes"] == potstill.info(small)["size_bytes"]


@pytest.mark.parametrize("width", [None, 16])
def test_vectors_lie_where_the_sources_lie(
    width: int | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, small = write_vector_model(tmp_path / "source", width=width), tmp_path / "small"
    rows = write_jsonl(tmp_path / "pairs.jsonl", *rows_of(likeness_row, 60))
    potstill.quantize(source, small, calibration=str(rows), threads=1)
    model = potstill.load(small, threads=1)
    texts = [" ".join(PLAIN_WORDS[first : first + 2 + first % 9]) for first in range(30)]
    together = model.embed(texts)
    alone = np.concatenate([model.embed([text]) for text in texts])
    np.testing.assert_allclose(together, alone, rtol=0, atol=SAME)
    exact = potstill.load(source, precision="fp32", threads=1).embed(texts)
    assert (together * exact).sum(axis=1).min() > 0.97
    words = ("--input", rows, "--output", tmp_path / "v.npy", "--threads", "1", "--json")
    assert said(capsys, "embed", small, *words).answer["precision"] == "int8"
    np.testing.assert_allclose(
        np.load(tmp_path / "v.npy"),
        model.embed([row["text"] for row in map(json.loads, rows.read_text().splitlines())]),
        atol=SAME,
    )
    found = said(capsys, "evaluate", small, "--test", rows, "--threads", "1", "--json").answer
    assert found["examples"] == 60
