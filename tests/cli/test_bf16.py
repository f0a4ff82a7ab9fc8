"""`potstill quantize --precision bf16`: half the room, a plain folder that everybody reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import potstill
from potstill.bundle.folder import open_folder
from potstill.bundle.named_weights import fp32_weights
from potstill.errors import GateNotMet, RecipeError
from tests.command_line import said, write_jsonl
from tests.folders import write_tiny_model
from tests.task_data import PLAIN_WORDS, measure_here, write_vector_model

TEXTS = [
    " ".join(np.random.default_rng(seed).choice(PLAIN_WORDS, 3 + seed % 9)) for seed in range(60)
]
ROUNDED = 0.06  # by which numbers of order 1 differ where a bf16 network rounds in another order
HEADS = {
    "classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
}


def write_source(folder: Path, kind: str = "classification", **more: object) -> Path:
    """Write a model whose answers differ from text to text."""
    named = {"task": kind} | more
    return write_tiny_model(folder, kind, initializer_range=0.2, **named)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bf16")


@pytest.fixture(scope="module")
def source(place: Path) -> Path:
    return write_source(place / "source")


@pytest.fixture(scope="module")
def small(place: Path, source: Path) -> Path:
    potstill.quantize(source, place / "small", precision="bf16")
    return place / "small"


@pytest.fixture(scope="module")
def rows(place: Path, source: Path) -> Path:
    """Write rows that the source answers without a fault."""
    answers = potstill.load(source, precision="fp32", threads=1).predict(TEXTS)
    lines = zip(TEXTS, answers, strict=True)
    told = [{"text": text, "label": answer["label"]} for text, answer in lines]
    assert len({row["label"] for row in told}) > 1
    return write_jsonl(place / "rows.jsonl", *told)


def test_it_takes_half_the_room_and_says_what_it_is(small: Path, source: Path) -> None:
    told, before = potstill.info(small), potstill.info(source)
    assert told["dtypes"] == ["BF16"]
    assert 0.45 < told["size_bytes"] / before["size_bytes"] < 0.55
    assert told["transformers"]["complete"]
    assert told["runtime_files"] == []
    assert told["lineage"]["quantized_from"] == before["fingerprint"]
    assert told["lineage"]["quantization"] == "bf16"
    assert told["engine"] == {"tried": [{"kept": [], "gate": None}]}
    assert json.loads((small / "config.json").read_text())["dtype"] == "bfloat16"
    assert "quantization: bf16" in (small / "README.md").read_text()
    assert {path.name for path in small.parent.iterdir()} >= {"small", "source"}
    assert not [path for path in small.parent.iterdir() if path.name.startswith(".small")]


def test_every_weight_is_the_nearest_bf16(small: Path, source: Path) -> None:
    before, after = (fp32_weights(open_folder(folder)) for folder in (source, small))
    assert before.keys() == after.keys()
    for name, array in before.items():
        nearest = torch.from_numpy(array).bfloat16().float().numpy()
        np.testing.assert_array_equal(after[name], nearest, err_msg=name)


def test_every_engine_reads_the_same_numbers(small: Path) -> None:
    found = {}
    for engine in ("openvino", "onnx", "torch"):
        pytest.importorskip("onnxruntime" if engine == "onnx" else engine)
        model = potstill.load(small, engine=engine, precision="fp32", threads=1)
        found[engine] = model.engine.run(model.encode(TEXTS).batch)["logits"]
    for engine, logits in found.items():
        np.testing.assert_allclose(logits, found["torch"], atol=1e-5, err_msg=engine)


@pytest.mark.parametrize("kind", HEADS)
def test_transformers_loads_it_in_bf16_and_decides_as_we_do(kind: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = tmp_path / "small"
    potstill.quantize(write_source(tmp_path / "source", kind), folder, precision="bf16")
    theirs = getattr(transformers, HEADS[kind]).from_pretrained(folder, dtype="auto").eval()
    assert theirs.dtype == torch.bfloat16
    model = potstill.load(folder, engine="torch", precision="bf16", threads=1)
    batch = model.encode(TEXTS).batch
    ours = model.engine.run(batch)["logits"]
    parts = []
    for number in range(len(batch)):
        with torch.inference_mode():
            answer = theirs(torch.from_numpy(batch.text(number).astype(np.int64))[None])
        told = answer.values()
        parts += [torch.stack([each.squeeze(0) for each in told], dim=-1).squeeze(-1).float()]
    expected = torch.cat([part.reshape(-1, ours.shape[1]) for part in parts]).numpy()
    np.testing.assert_allclose(ours, expected, rtol=0, atol=ROUNDED)
    ranked = np.sort(expected, axis=1)
    is_clear = ranked[:, -1] - ranked[:, -2] > 2 * ROUNDED
    assert is_clear.mean() > 0.5
    same = ours.argmax(axis=1) == expected.argmax(axis=1)
    assert same[is_clear].all()


def test_sentence_transformers_gives_our_vectors(tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    for width in (None, 16):
        source = write_vector_model(tmp_path / f"vectors{width}", width=width)
        small = tmp_path / f"small{width}"
        potstill.quantize(source, small, precision="bf16")
        theirs = library.SentenceTransformer(str(small), device="cpu").encode(TEXTS[:8])
        ours = potstill.load(small, threads=1).embed(TEXTS[:8])
        assert (ours * theirs).sum(axis=1).min() > 0.999
        exact = potstill.load(source, precision="fp32", threads=1).embed(TEXTS[:8])
        assert (ours * exact).sum(axis=1).min() > 0.999


def test_the_layer_of_a_head_of_one_number_stays_exact(tmp_path: Path) -> None:
    source = write_source(tmp_path / "m", "classification", task="regression", labels=("score",))
    potstill.quantize(source, tmp_path / "small", precision="bf16")
    told = potstill.info(tmp_path / "small")
    assert told["dtypes"] == ["BF16", "F32"]
    before, after = (fp32_weights(open_folder(each)) for each in (source, tmp_path / "small"))
    for part in ("weight", "bias"):
        name = f"head.output.{part}"
        np.testing.assert_array_equal(after[name], before[name])
    config = json.loads((tmp_path / "small" / "config.json").read_text())
    assert config["dtype"] == "float32"  # so that nobody rounds that layer unasked


def test_written_again_it_stays_in_bf16(small: Path, tmp_path: Path) -> None:
    potstill.export(small, tmp_path / "again", format="hf")
    potstill.load(small).save(tmp_path / "saved")
    for folder in (tmp_path / "again", tmp_path / "saved"):
        assert potstill.info(folder)["fingerprint"] == potstill.info(small)["fingerprint"]


def test_the_gate_speaks_of_dev_rows_and_test_rows_are_read_at_the_end(
    place: Path, source: Path, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--dev", rows, "--floor", "0.8", "--threads", "1", "--json"]
    told = said(
        *(capsys, "quantize", source, "--precision", "bf16", "--out", place / "gated"),
        *(*words, "--test", rows),
    )
    assert told.status == 0, told.err
    report = told.answer
    assert report["gate"]["outcome"] == "holds"
    assert report["metrics"]["accuracy"]["value"] > 0.9
    assert report["kept"] == []
    assert report["size_bytes"] == potstill.info(place / "gated")["size_bytes"]
    facts = potstill.info(place / "gated")
    assert facts["measurements"]["quantized"]["accuracy"] == report["metrics"]["accuracy"]["value"]


@pytest.mark.parametrize("precision", ["bf16", "int8-weights"])
def test_how_good_an_earlier_copy_was_is_not_said_of_the_next(
    precision: str, source: Path, rows: Path, tmp_path: Path
) -> None:
    judged, again = tmp_path / "judged", tmp_path / "again"
    potstill.quantize(source, judged, precision="bf16", test=rows, threads=1)
    assert "quantized" in potstill.info(judged)["measurements"]
    potstill.quantize(judged, again, precision=precision, threads=1)
    assert "quantized" not in potstill.info(again)["measurements"]


def test_the_command_says_what_it_made(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = said(
        *(capsys, "quantize", source, "--precision", "bf16", "--out", tmp_path / "out"),
    )
    assert told.pairs["engine"] == "any"
    assert told.pairs["precision"] == "bf16"


def test_a_copy_that_loses_too_much_is_not_written(
    source: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import potstill.workflows.bf16 as workflow

    rounded = workflow.rounded_to_bfloat16
    monkeypatch.setattr(workflow, "rounded_to_bfloat16", lambda array: rounded(0 * array))
    told = r"bf16: the gate fails, floor 95.0%.*nothing was written"
    with pytest.raises(GateNotMet, match=told) as refusal:
        potstill.quantize(
            source, tmp_path / "out", precision="bf16", dev=str(rows), floor=0.95, threads=1
        )
    evidence = refusal.value.evidence
    assert (evidence["bundle"], evidence["precision"]) == (None, "bf16")
    assert evidence["refusal"] == refusal.value.what
    (attempt,) = evidence["tried"]
    assert (attempt["kept"], attempt["gate"]["outcome"]) == ([], "fails")
    assert list(tmp_path.iterdir()) == []


def test_it_is_evaluated_and_compared_as_any_model(
    small: Path,
    source: Path,
    rows: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = said(capsys, "evaluate", small, "--test", rows, "--threads", "1", "--json").answer
    assert found["metrics"]["accuracy"]["value"] > 0.9
    measure_here(monkeypatch)
    words = ("--test", rows, "--rounds", "1", "--threads", "1", "--json")
    told = said(capsys, "compare", source, small, *words).answer
    sizes = [model["size_bytes"] for model in told["models"]]
    assert sizes[1] < 0.55 * sizes[0]
    assert told["models"][1]["retention"]["value"] > 0.9


def test_weights_of_the_source_cannot_stand_beside_it(source: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"--keep-source: a bundle in bf16 is a plain folder"):
        potstill.quantize(source, tmp_path / "out", precision="bf16", keep_source=True)
