"""`export`: a model as files that other runtimes load, checked against the source before it stands.

The ONNX folder is laid out as optimum and transformers.js expect it: config and tokenizer at the
root, `onnx/model.onnx` and, where asked for, `onnx/model_quantized.onnx`.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

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
from potstill.errors import RecipeError, RunError
from potstill.files import folder_whole_or_absent, require_free
from potstill.recipe import require_choice
from potstill.report import Report
from potstill.runtime.onnx_engine import onnxruntime
from potstill.runtime.onnx_operators import onnx_library
from potstill.runtime.openvino_library import openvino, save_graph
from potstill.workflows.export_check import Check, Checked, onnx_file, openvino_file

FORMATS = ("onnx", "openvino", "hf")

_TOLERANCE = 1e-4  # largest difference of a number, beside the source in fp32
_MODEL, _QUANTIZED = "onnx/model.onnx", "onnx/model_quantized.onnx"
_IR = "openvino/openvino_model.xml"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What is written, and on which texts it is checked."""

    format: str = "onnx"
    quantized: bool = False  # of ONNX: a second file with int8 weights
    check: object | None = None  # rows that the check reads; None: sentences of ours
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
            source = without_graphs(folder.manifest or Manifest())
            # Other programs run these files, and read here what the answers mean.
            write_manifest(staging, replace(source, task=folder.task, engine={}))
    return Report(
        bundle=out,
        fingerprint=fingerprint(out),
        task=folder.task,
        seconds=time.perf_counter() - began,
        warnings=folder.warnings(),
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
    check = Check(folder, options.check, options.text_column)
    model = onnx_export.exported(folder)
    states = onnx_export.state_nodes(model, folder.config)
    onnx, quantized, ir = (staging / name for name in (_MODEL, _QUANTIZED, _IR))
    onnx.parent.mkdir()
    onnx.write_bytes(model.SerializeToString())
    del model  # as large as the file
    if options.format == "openvino":
        ir.parent.mkdir()
        _write_ir(onnx, ir)
        shutil.rmtree(onnx.parent)
        return {_IR: _required(_IR, check.of(openvino_file(ir), openvino_file(ir, states)))}
    checked = {_MODEL: _required(_MODEL, check.of(onnx_file(onnx), onnx_file(onnx, states)))}
    if options.quantized:
        onnx_export.write_quantized(onnx, quantized)
        checked[_QUANTIZED] = check.of(onnx_file(quantized), onnx_file(quantized, states))
    return checked


def _required(name: str, checked: Checked) -> Checked:
    """Return what was found of a file that is to say what its source says.

    Raises:
        RunError: it does not.
    """
    differences = {
        name: checked.largest_difference,
        f"{name}, in its hidden states,": checked.largest_state_difference,
    }
    for where, difference in differences.items():
        if not difference <= _TOLERANCE:  # nan is not either
            raise RunError(
                f"{where} is off by {difference:.1e} on real text",
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
