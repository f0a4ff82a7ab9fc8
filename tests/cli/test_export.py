"""`potstill export`: files of other runtimes say what the source says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import potstill
from potstill.errors import MissingExtraError, RunError
from tests.command_line import said
from tests.folders import write_tiny_model

onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'potstill[onnx]'")
onnx = pytest.importorskip("onnx", reason="pip install 'potstill[onnx]'")

TEXTS = ["a good film", "boring", "the plot was not very great the actor was fun"]
FAMILIES = ["bert", "distilbert", "roberta"]
KINDS = {
    "classification": {},
    "number": {"kind": "classification", "labels": ("score",)},
    "token-classification": {},
    "question-answering": {},
    "masked-lm": {},
    "none": {},
}
# As optimum and transformers.js read them; of all other heads `logits`.
OUTPUTS = {
    "none": ["last_hidden_state"],
    "question-answering": ["start_logits", "end_logits"],
}


def folder_of(place: Path, family: str = "bert", head: str = "classification") -> Path:
    settings = dict(KINDS[head])
    kind = settings.pop("kind", head)
    task = {"number": "regression", "none": None}.get(head, head)
    return write_tiny_model(place / "source", kind, task=task, family=family, **settings)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", KINDS)
def test_padded_batches_in_plain_onnxruntime_give_our_numbers(
    tmp_path: Path, family: str, head: str
) -> None:
    source = folder_of(tmp_path, family, head)
    potstill.export(source, tmp_path / "out")
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "onnx" / "model.onnx"))
    model = potstill.load(source, engine="torch", precision="fp32")
    batch = model.encode(TEXTS).batch
    ids = np.zeros((3, batch.longest + 2), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row in range(3):
        ids[row, : batch.lengths[row]] = batch.text(row)
        mask[row, : batch.lengths[row]] = 1
    names = {each.name for each in session.get_inputs()}
    assert names == {"input_ids", "attention_mask"} | (
        {"token_type_ids"} if family == "bert" else set()
    )
    given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    outputs = [each.name for each in session.get_outputs()]
    assert outputs == OUTPUTS.get(head, ["logits"])
    results = session.run(outputs, {each: given[each] for each in names})
    found = results[0] if len(results) == 1 else np.stack(results, axis=-1)
    expected = model.engine.run(batch, ["state.2" if head == "none" else "logits"])
    (numbers,) = expected.values()
    if found.ndim == 3:
        found = found[mask.astype(bool)]
    np.testing.assert_allclose(found, numbers, atol=1e-5)


def test_the_file_is_a_sound_model_beside_config_and_tokenizer(tmp_path: Path) -> None:
    potstill.export(folder_of(tmp_path), tmp_path / "out", quantized=True)
    found = {file.relative_to(tmp_path / "out").as_posix() for file in tmp_path.rglob("out/**/*")}
    assert {"config.json", "onnx/model.onnx", "onnx/model_quantized.onnx"} <= found
    assert "tokenizer.json" in found or "vocab.txt" in found
    assert not [name for name in found if name.endswith((".data", ".safetensors"))]
    settings = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert settings["model_max_length"] == 40
    onnx.checker.check_model(str(tmp_path / "out" / "onnx" / "model.onnx"), full_check=True)


def test_the_folder_tells_its_task_where_the_source_left_it_to_its_head(tmp_path: Path) -> None:
    source = write_tiny_model(tmp_path / "source", "classification")
    potstill.export(source, tmp_path / "out")
    assert json.loads((source / "potstill.json").read_text())["task"] is None
    assert json.loads((tmp_path / "out" / "potstill.json").read_text())["task"] == "classification"


def test_int8_weights_have_a_scale_for_each_output_and_no_sign(tmp_path: Path) -> None:
    potstill.export(folder_of(tmp_path), tmp_path / "out", quantized=True)
    graph = onnx.load(tmp_path / "out" / "onnx" / "model_quantized.onnx").graph
    numbers = {each.name: each for each in graph.initializer}
    products = [node for node in graph.node if node.op_type == "MatMulInteger"]
    weights = [node for node in products if node.input[1] in numbers]
    assert len(weights) == 2 * 6 + 2  # six a layer, pooler and last layer
    for node in weights:
        weight, shift = numbers[node.input[1]], numbers[node.input[3]]
        assert weight.data_type == onnx.TensorProto.UINT8
        assert list(shift.dims) == [weight.dims[1]]


def test_vectors_come_out_pooled_and_normed(tmp_path: Path, minilm: Path) -> None:
    report = potstill.export(minilm, tmp_path / "out", quantized=True)
    exact, small = report.details["checked"].values()
    assert exact["largest_difference"] < 1e-4
    assert exact["least_cosine"] > 0.99999
    assert 0.96 < small["least_cosine"] < 1.0  # with one scale a matrix it is 0.945
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "onnx" / "model.onnx"))
    assert [each.name for each in session.get_outputs()] == [
        "last_hidden_state",
        "sentence_embedding",
    ]


@pytest.mark.parametrize("head", KINDS)
def test_openvino_s_format_is_run_by_plain_openvino(tmp_path: Path, head: str) -> None:
    openvino = pytest.importorskip("openvino")
    source = folder_of(tmp_path, head=head)
    report = potstill.export(source, tmp_path / "out", format="openvino")
    written = tmp_path / "out" / "openvino"
    assert report.details["files"] == {
        f"openvino/openvino_model.{ending}": (written / f"openvino_model.{ending}").stat().st_size
        for ending in ("xml", "bin")
    }
    graph = openvino.Core().read_model(written / "openvino_model.xml")
    names = [output.get_any_name() for output in graph.outputs]
    assert names == OUTPUTS.get(head, ["logits"])
    compiled = openvino.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    model = potstill.load(source, engine="torch", precision="fp32")
    batch = model.encode(TEXTS[:1]).batch
    ids = batch.ids[None].astype(np.int64)
    given = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    results = compiled({**given, "token_type_ids": np.zeros_like(ids)})
    found = results[names[0]] if len(names) == 1 else np.stack([results[n] for n in names], -1)
    expected = model.engine.run(batch, ["state.2" if head == "none" else "logits"])
    np.testing.assert_allclose(found.reshape(-1, found.shape[-1]), *expected.values(), atol=1e-5)
    assert not (tmp_path / "out" / "onnx").exists()


def test_hf_s_format_is_the_model_itself(tmp_path: Path) -> None:
    source = folder_of(tmp_path)
    potstill.export(source, tmp_path / "out", format="hf")
    assert potstill.info(tmp_path / "out")["fingerprint"] == potstill.info(source)["fingerprint"]


def test_a_file_that_says_something_else_is_not_left_behind(tmp_path: Path, monkeypatch) -> None:
    source = folder_of(tmp_path)
    monkeypatch.setattr("potstill.workflows.export._TOLERANCE", -1.0)
    with pytest.raises(RunError, match=r"onnx/model.onnx is off by .*nothing was written"):
        potstill.export(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_tells_file_size_and_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"body": text}) + "\n" for text in TEXTS))
    words = ["--check", rows, "--text-column", "body", "--out", tmp_path / "out"]
    source = folder_of(tmp_path)
    told = said(capsys, "export", source, *words)
    assert told.status == 0, told.err
    assert "onnx/model.onnx" in told.out
    told = said(capsys, "export", source, *words[:-1], tmp_path / "again", "--json")
    assert told.answer["checked"]["onnx/model.onnx"]["texts"] == len(TEXTS)
    assert told.answer["checked"]["onnx/model.onnx"]["same_decisions"] == 1.0


def test_the_command_tells_openvino_s_numbers_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openvino")
    told = said(
        *(capsys, "export", folder_of(tmp_path), "--format", "openvino"),
        *("--out", tmp_path / "out"),
    )
    assert told.status == 0, told.err
    assert "openvino/openvino_model.bin\t" in told.out


def test_a_folder_with_a_vocabulary_alone_gets_the_tokenizer_that_runners_read(
    tmp_path: Path,
) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    source = folder_of(tmp_path)
    expected = potstill.load(source, threads=1).encode(TEXTS).batch
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (source / name).unlink(missing_ok=True)
    (source / "potstill.json").unlink()
    assert (source / "vocab.txt").is_file()
    potstill.export(source, tmp_path / "out")
    settings = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert settings["model_max_length"] == 40
    found = tokenizers.Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    for row, text in enumerate(TEXTS):
        assert found.encode(text).ids == expected.text(row).tolist()


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "openvino"])
def test_a_missing_library_is_told_before_any_work(
    tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = folder_of(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("potstill.workflows.export._written", None)  # would fail otherwise
    extra = "cpu" if package == "openvino" else "onnx"
    with pytest.raises(MissingExtraError, match=rf"pip install 'potstill\[{extra}\]'"):
        potstill.export(source, tmp_path / "out", format="openvino")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "hf", "--quantized"], "--quantized: format is 'hf'"),
        (["--format", "openvino", "--quantized"], "--quantized: format is 'openvino'"),
        (["--format", "hf", "--check", "ROWS"], "--check: in this format the weights are copied"),
        (["--format", "tflite"], "format"),
        (["--check", "ROWS"], "there is no column 'text'"),
        (["--check", "nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_wrong_input_is_told_in_one_line(
    tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"body": "a film"}) + "\n")
    given = [str(rows) if word == "ROWS" else word for word in words]
    told = said(capsys, "export", folder_of(tmp_path), "--out", tmp_path / "out", *given)
    assert (told.status, told.out) == (2, "")
    assert message in told.complaint
    assert not (tmp_path / "out").exists()
