"""A model stored in bf16: half the room of fp32, and a plain folder that every engine reads.

Every weight is rounded to the nearest bf16. In fp32 stays the last layer of a head that gives one
number, and the map of a sentence-transformers folder, which that library does not cast. The gate
compares the copy, as it will be run here, with its source in fp32.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.card import model_card
from potstill.bundle.folder import ModelFolder, open_folder
from potstill.bundle.manifest import Manifest, fingerprint, write_manifest
from potstill.bundle.weights import rounded_to_bfloat16, widened_bfloat16
from potstill.bundle.write import BundleContent, content_of, write_bundle
from potstill.data.columns import Columns
from potstill.errors import GateNotMet
from potstill.files import folder_whole_or_absent, workspace_beside, write_atomically
from potstill.metrics.gate import Gate, judge_gate
from potstill.report import Measured, Report
from potstill.runtime.answering import lengths_of_folder, task_of_folder
from potstill.runtime.engines import build_engine
from potstill.runtime.graph import leaves_last_layer
from potstill.workflows.compared_answers import Judged, judge, read_proof

BF16 = "bf16"
UNJUDGED = "no gate was asked for: give --dev and --floor to know what was lost"
Tell = Callable[[str], None]

_SOURCE, _SMALL = "source", "bf16"
_LAST_LAYER = ("head.output.weight", "head.output.bias")  # of a map of vectors too


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedBy:
    """The rows by which a copy is judged, and what it must keep."""

    dev: object | None = None
    floor: float | None = None  # None: no gate
    accept: str | None = None
    test: object | None = None
    columns: Columns = field(default_factory=Columns)
    primary: str | None = None
    threads: int | None = None
    seed: int = 0


def store_in_bf16(folder: ModelFolder, out: Path, by: JudgedBy, tell: Tell) -> Report:
    """Write the folder, whole or not at all.

    Raises:
        InputError: model or rows cannot be used.
        GateNotMet: the floor is not met on dev rows; nothing is written.
    """
    began = time.perf_counter()
    with workspace_beside(out) as place:
        made = place / "bundle"
        tell("rounding to bf16")
        write_bundle(made, _rounded(folder))
        small = open_folder(made)
        gate = None if by.floor is None else _passed(_gate(folder, small, by, by.floor), by)
        on_test = None
        if by.test is not None:
            tell("test rows are read")
            on_test = _judged(folder, small, by.test, by)
        assert small.manifest is not None, "a bundle of ours has one"
        manifest = _with_metrics(small.manifest, on_test)
        with folder_whole_or_absent(out) as staging:
            shutil.copytree(made, staging, dirs_exist_ok=True)
            card = model_card(small.config, small.head, manifest)
            write_atomically(staging / "README.md", card.encode())
            write_manifest(staging, manifest)
            identity = fingerprint(staging)
    last = _last_gate(gate, on_test, by)
    return Report(
        bundle=out,
        fingerprint=identity,
        task=folder.task,
        metrics=_metrics(on_test),
        seconds=time.perf_counter() - began,
        warnings=[*(on_test.warnings if on_test else []), *([] if by.floor else [UNJUDGED])],
        gate=last.to_json() if last else None,
        details={
            "precision": BF16,
            "size_bytes": small.size_bytes,
            "source_bytes": folder.size_bytes,
            "kept": [],
            "tried": [{"kept": [], "gate": gate.to_json() if gate else None}],
        },
    )


def _rounded(folder: ModelFolder) -> BundleContent:
    content = content_of(folder, folder.tokenizer())
    head = folder.answering_head
    has_exact_end = head.kind == "embedding" or leaves_last_layer(head)
    lineage = {
        **content.manifest.lineage,
        "quantized_from": fingerprint(folder.path),
        "quantization": BF16,
    }
    return replace(
        content,
        tensors={
            name: _exact(array)
            if has_exact_end and name in _LAST_LAYER
            else rounded_to_bfloat16(_exact(array))
            for name, array in content.tensors.items()
        },
        # An engine that was measured on the source says nothing of the copy.
        manifest=replace(content.manifest, lineage=lineage, engine={}, files={}),
    )


def _exact(array: NDArray[Any]) -> NDArray[np.float32]:
    """Return the numbers of a weight, which may be stored in bf16 already."""
    return widened_bfloat16(array).astype(np.float32, copy=False)


def _passed(gate: Gate, by: JudgedBy) -> Gate:
    is_accepted = by.accept == "point" and gate.value >= gate.floor
    if gate.outcome == "fails" or (gate.outcome == "undecided" and not is_accepted):
        raise GateNotMet(
            gate.describe(),
            where=BF16,
            cure="keep the source, or lower --floor; nothing was written"
            if gate.value < gate.floor
            else "give more dev rows, or --accept point",
        )
    return gate


def _gate(folder: ModelFolder, small: ModelFolder, by: JudgedBy, floor: float) -> Gate:
    judged = _judged(folder, small, by.dev, by)
    kept = judged.quality[_SMALL].retention
    if kept is None:
        raise GateNotMet(
            f"no retention can be told on dev: {judged.note}",
            where="--floor",
            cure="leave --floor out",
        )
    return judge_gate(kept, floor=floor, rows=judged.test.rows)


def _judged(folder: ModelFolder, small: ModelFolder, rows: object, by: JudgedBy) -> Judged:
    """Let source and copy answer rows, each as it is run here: the source in fp32."""
    folders = {_SOURCE: folder, _SMALL: small}
    proof = read_proof(folders, rows, by.columns, primary=by.primary, seed=by.seed)
    outputs = {}
    for name, each in folders.items():
        task = task_of_folder(each)
        lengths = lengths_of_folder(each, task, max_length=each.max_length)
        windows = task.windows(each.tokenizer(), proof.rows, lengths)
        precision = "fp32" if name == _SOURCE else "auto"
        engine = build_engine(each, precision=precision, threads=by.threads)
        outputs[name] = engine.run(windows.texts)["logits"]
    return judge(proof, outputs)


def _metrics(on_test: Judged | None) -> Mapping[str, Measured]:
    found = {} if on_test is None else on_test.quality[_SMALL].metrics
    return {
        name: Measured(value=each.value, low=each.low, high=each.high)
        for name, each in found.items()
    }


def _with_metrics(manifest: Manifest, on_test: Judged | None) -> Manifest:
    if on_test is None:
        return manifest
    values = {name: each.value for name, each in _metrics(on_test).items()}
    return replace(manifest, measurements={**manifest.measurements, "quantized": values})


def _last_gate(gate: Gate | None, on_test: Judged | None, by: JudgedBy) -> Gate | None:
    """Return the floor's gate on test rows, else the one on dev rows."""
    kept = None if on_test is None else on_test.quality[_SMALL].retention
    if by.floor is None or kept is None or on_test is None:
        return gate
    return judge_gate(kept, floor=by.floor, rows=on_test.test.rows)
