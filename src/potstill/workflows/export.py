"""`export`: a model as files that other runtimes load, checked against the source before it stands.

The ONNX folder is laid out as optimum and transformers.js expect it: config and tokenizer at the
root, `onnx/model.onnx` and, where asked for, `onnx/model_quantized.onnx`.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.folder import ModelFolder
from potstill.bundle.json_files import read_json_object, write_json
from potstill.bundle.manifest import (
    Manifest,
    copy_identity_files,
    fingerprint,
    write_manifest,
)
from potstill.bundle.opening import open_model
from potstill.bundle.runtime_files import without_graphs
from potstill.bundle.write import content_of, write_bundle
from potstill.compress import onnx_export
from potstill.data.plain_texts import plain_texts
from potstill.errors import RecipeError, RunError
from potstill.files import folder_whole_or_absent, require_free
from potstill.measure.sample_texts import SAMPLE_TEXTS
from potstill.recipe import require_choice
from potstill.report import Report
from potstill.runtime.engines import build_engine
from potstill.runtime.onnx_engine import onnxruntime
from potstill.runtime.onnx_operators import onnx_library
from potstill.runtime.openvino_library import openvino, save_graph
from potstill.text.ragged import RaggedBatch

FORMATS = ("onnx", "openvino", "hf")

Arrays = Mapping[str, NDArray[Any]]

_TOLERANCE = 1e-4  # largest difference of a number, beside the source in fp32
_MODEL, _QUANTIZED = "onnx/model.onnx", "onnx/model_quantized.onnx"
_IR = "openvino/openvino_model.xml"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What is written, and on which texts it is checked."""

    format: str = "onnx"
    quantized: bool = False  # of ONNX: a second file with int8 weights
    check: object | None = None  # rows whose texts the check reads; None: sentences of ours
    text_column: str = "text"
    allow_pickle: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no format, and what would change nothing of this one.

        Raises:
            RecipeError: with what is allowed.
        """
        require_choice("format", self.format, FORMATS)
        if self.quantized and self.format != "onnx":
            raise RecipeError(
                f"format is {self.format!r}, which has no second file with int8 weights",
                where="--quantized",
                allowed="with --format onnx",
                cure="leave it out; potstill quantize makes bundles with smaller numbers",
            )
        if self.check is not None and self.format == "hf":
            raise RecipeError(
                "in this format the weights are copied as they are: there is nothing to check",
                where="--check",
                allowed="with --format onnx, openvino",
                cure="leave it out",
            )


@dataclass(frozen=True, slots=True)
class Checked:
    """How far an exported file is from its source."""

    texts: int
    largest_difference: float
    same_decisions: float | None  # share of texts or tokens; None: there is no class to choose
    least_cosine: float | None  # of a text's vector to the source's; None: there are no vectors

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "texts": self.texts,
            "largest_difference": self.largest_difference,
            "same_decisions": self.same_decisions,
            "least_cosine": self.least_cosine,
        }


def export(model: str | Path, out: Path, options: ExportOptions) -> Report:
    """Write the folder, whole or not at all.

    Raises:
        InputError: the model or the rows cannot be used.
        MissingExtraError: the library of the format is not installed.
        RunError: what was written does not say what the source says; nothing stays.
    """
    began = time.perf_counter()
    require_free(out)
    folder = open_model(model, allow_pickle=options.allow_pickle)
    folder.require_complete()
    checked: dict[str, Checked] = {}
    if options.format == "hf":
        write_bundle(out, content_of(folder, folder.tokenizer()))
    else:
        _require_libraries(options.format)
        with folder_whole_or_absent(out) as staging:
            checked = _written(folder, staging, options)
            _copy_plain_files(folder, staging)
            source = without_graphs(folder.manifest or Manifest(task=folder.task))
            write_manifest(staging, replace(source, engine={}))  # other programs run these files
    return Report(
        bundle=out,
        fingerprint=fingerprint(out),
        task=folder.task,
        seconds=time.perf_counter() - began,
        details={
            "format": options.format,
            "files": _sizes(out, checked),
            "checked": {name: each.to_json() for name, each in checked.items()},
        },
    )


def _require_libraries(form: str) -> None:
    """Check that what writes and checks the files is installed, before any work.

    Raises:
        MissingExtraError: the message holds the install line.
    """
    onnx_library()
    onnxruntime()  # which says in fp32 what the source says
    if form == "openvino":
        openvino("export --format openvino")


def _sizes(out: Path, checked: Iterable[str]) -> dict[str, int]:
    """Return the bytes of each file that was checked, and of the numbers beside OpenVINO's."""
    files = [out / name for name in checked]
    files += [file.with_suffix(".bin") for file in files if file.suffix == ".xml"]
    return {file.relative_to(out).as_posix(): file.stat().st_size for file in files}


def _written(folder: ModelFolder, staging: Path, options: ExportOptions) -> dict[str, Checked]:
    """Write the runtime files and check each of them."""
    texts = _texts(folder, options)
    expected = _expected(folder, texts)
    (staging / "onnx").mkdir()
    (staging / _MODEL).write_bytes(onnx_export.exported(folder).SerializeToString())
    if options.format == "openvino":
        (staging / "openvino").mkdir()
        _write_ir(staging / _MODEL, staging / _IR)
        shutil.rmtree(staging / "onnx")
        found = _ir_outputs(staging / _IR, texts)
        return {_IR: _required(_IR, _compared(len(texts), expected, found))}
    found = _outputs(staging / _MODEL, texts)
    checked = {_MODEL: _required(_MODEL, _compared(len(texts), expected, found))}
    if options.quantized:
        onnx_export.write_quantized(staging / _MODEL, staging / _QUANTIZED)
        found = _outputs(staging / _QUANTIZED, texts)
        checked[_QUANTIZED] = _compared(len(texts), expected, found)
    return checked


def _texts(folder: ModelFolder, options: ExportOptions) -> RaggedBatch:
    texts = list(SAMPLE_TEXTS)
    if options.check is not None:
        texts = plain_texts(options.check, options.text_column)
    return folder.tokenizer().encode(texts, max_length=folder.max_length).batch


def _expected(folder: ModelFolder, texts: RaggedBatch) -> Arrays:
    """Return what the source says, in fp32, by the exported names."""
    engine = build_engine(folder, engine="onnx", precision="fp32")
    state = f"state.{folder.config.layers}"
    names = {"none": {onnx_export.STATES: state}}
    names["embedding"] = {**names["none"], onnx_export.VECTORS: "vectors"}
    chosen = names.get(folder.answering_head.kind, {onnx_export.LOGITS: "logits"})
    found = engine.run(texts, list(chosen.values()))
    if folder.answering_head.kind == "question-answering":
        return dict(zip(onnx_export.ENDS, found["logits"].T, strict=True))
    return {name: found[source] for name, source in chosen.items()}


def _outputs(file: Path, texts: RaggedBatch) -> Arrays:
    """Return what plain onnxruntime makes of padded texts, padding taken out again."""
    session = onnxruntime().InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    wanted = {each.name for each in session.get_inputs()}
    parts = []
    for text in range(len(texts)):
        inputs = _padded(texts.take([text]))
        parts.append(session.run(names, {name: inputs[name] for name in wanted}))
    return _joined(names, parts, texts)


def _ir_outputs(file: Path, texts: RaggedBatch) -> Arrays:
    library = openvino("export --format openvino")
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    graph = library.Core().read_model(file)
    names = [output.get_any_name() for output in graph.outputs]  # compiled ones have more names
    compiled = library.Core().compile_model(graph, "CPU", settings)
    wanted = {each.get_any_name() for each in compiled.inputs}
    parts = []
    for text in range(len(texts)):
        inputs = _padded(texts.take([text]))
        results = compiled({name: inputs[name] for name in wanted})
        parts.append([np.array(results[place]) for place in range(len(names))])
    return _joined(names, parts, texts)


def _padded(text: RaggedBatch) -> Arrays:
    """Return one text with some padding behind it, so that the mask is put to the test."""
    pad = np.zeros((1, 3), dtype=np.int64)
    ids = np.concatenate([text.ids[None].astype(np.int64), pad], axis=1)
    types = np.zeros(text.ids.size) if text.token_types is None else text.token_types
    return {
        onnx_export.IDS: ids,
        onnx_export.MASK: np.concatenate([np.ones((1, text.ids.size), np.int64), pad], axis=1),
        onnx_export.TYPES: np.concatenate([types[None].astype(np.int64), pad], axis=1),
    }


def _joined(names: list[str], parts: list[list[Any]], texts: RaggedBatch) -> Arrays:
    lengths = texts.lengths
    joined = {}
    for place, name in enumerate(names):
        each = [part[place] for part in parts]
        if each[0].ndim == 3 or name in onnx_export.ENDS:  # of tokens
            each = [array[0, :length] for array, length in zip(each, lengths, strict=True)]
        joined[name] = np.concatenate(each)
    return joined


def _compared(texts: int, expected: Arrays, found: Arrays) -> Checked:
    off = max(float(np.abs(found[name] - array).max()) for name, array in expected.items())
    same = cosine = None
    if onnx_export.LOGITS in expected and expected[onnx_export.LOGITS].shape[-1] > 1:
        decided = [each[onnx_export.LOGITS].argmax(axis=-1) for each in (expected, found)]
        same = float((decided[0] == decided[1]).mean())
    if onnx_export.VECTORS in expected:
        ours, theirs = (_of_length_1(each[onnx_export.VECTORS]) for each in (found, expected))
        cosine = float((ours * theirs).sum(axis=-1).min())
    return Checked(texts, off, same, cosine)


def _of_length_1(vectors_BD: NDArray[Any]) -> NDArray[Any]:
    lengths = np.linalg.norm(vectors_BD, axis=-1, keepdims=True)
    scaled: NDArray[Any] = vectors_BD / np.maximum(lengths, 1e-12)
    return scaled


def _required(name: str, checked: Checked) -> Checked:
    if not checked.largest_difference <= _TOLERANCE:
        raise RunError(
            f"{name} is off by {checked.largest_difference:.1e} on real text",
            allowed=f"{_TOLERANCE:.0e}",
            cure="report this with the model's config.json; nothing was written",
        )
    return checked


def _write_ir(source: Path, target: Path) -> None:
    library = openvino("export --format openvino")
    graph = library.Core().read_model(source)
    save_graph(graph, target)


def _copy_plain_files(folder: ModelFolder, staging: Path) -> None:
    """Copy config and tokenizer, in today's form; weights stand in the exported file."""
    copy_identity_files(folder.path, staging, with_weights=False)
    folder.tokenizer().save(staging)  # a vocabulary alone is read by none of these runners
    settings = staging / "tokenizer_config.json"  # where others look for the longest text
    told = read_json_object(settings) | {"model_max_length": folder.max_length}
    write_json(settings, told)
