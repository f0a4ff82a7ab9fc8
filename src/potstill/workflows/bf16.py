"""A model stored in bf16: half the room of fp32, and a plain folder that every engine reads.

Every weight is rounded to the nearest bf16. In fp32 stays the last layer of a head that gives one
number, and the map of a sentence-transformers folder, which that library does not cast. The gate
compares the copy, as it will be run here, with its source in fp32.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.card import model_card
from potstill.bundle.folder import ModelFolder, open_folder
from potstill.bundle.manifest import fingerprint, write_manifest
from potstill.bundle.runtime_files import without_quality
from potstill.bundle.weights import rounded_to_bfloat16, widened_bfloat16
from potstill.bundle.write import BundleContent, content_of, write_bundle
from potstill.files import (
    folder_whole_or_absent,
    move_content,
    workspace_beside,
    write_atomically,
)
from potstill.metrics.gate import Gate
from potstill.report import Report
from potstill.runtime.choice import EngineChoice
from potstill.runtime.engines import chosen_engine
from potstill.runtime.graph import leaves_last_layer
from potstill.workflows.copy_judge import CopyJudge, JudgedBy, Tell, refusal
from potstill.workflows.copy_speed import CopySpeed, measured_speed
from potstill.workflows.tune import written_precisions

BF16 = "bf16"

_ANY = "any"  # engine: each reads a plain folder
_LAST_LAYER = ("head.output.weight", "head.output.bias")  # of a map of vectors too


def store_in_bf16(
    folder: ModelFolder, out: Path, by: JudgedBy, tell: Tell, *, tune: bool
) -> Report:
    """Write the folder, whole or not at all; `tune`: with its speed here beside its source's.

    Raises:
        InputError: model or rows cannot be used.
        GateNotMet: the floor is not met on dev rows; nothing is written.
    """
    began, judge = time.perf_counter(), CopyJudge(folder, by)
    with workspace_beside(out) as place:
        made = place / "bundle"
        tell("rounding to bf16")
        write_bundle(made, _rounded(folder))
        small = open_folder(made)
        gate = judge.on_dev(small)
        _require_passed(gate, judge)
        speed = _speed(folder, small, by, tell) if tune else CopySpeed()
        on_test = judge.on_test(small, tell)
        assert small.manifest is not None, "a bundle of ours has one"
        found = {**without_quality(small.manifest), **on_test.measurements}
        tried = _tried(gate)
        choice = {} if speed.choice is None else speed.choice.to_json()
        told = choice | {"tried": tried}
        manifest = replace(small.manifest, measurements=found, engine=told)
        with folder_whole_or_absent(out) as staging:
            move_content(made, staging)
            card = model_card(small.config, small.head, manifest)
            write_atomically(staging / "README.md", card.encode())
            write_manifest(staging, manifest)
            identity = fingerprint(staging)
    last = on_test.last_gate(gate)
    size_ratio = small.weights.size_bytes / folder.weights.size_bytes
    return Report(
        bundle=out,
        fingerprint=identity,
        task=folder.task,
        metrics=on_test.metrics,
        seconds=time.perf_counter() - began,
        warnings=[*folder.warnings(), *on_test.warnings, *speed.warnings(size_ratio)],
        gate=last.to_json() if last else None,
        details={
            "engine": _ANY,
            "precision": BF16,
            "processor": None,
            "size_bytes": small.weights.size_bytes,
            "source_bytes": folder.weights.size_bytes,
            "calibrated_on": None,
            "size_ratio": round(size_ratio, 4),
            "speed": speed.to_json(),
            "kept": [],
            "tried": tried,
        },
    )


def _tried(gate: Gate | None) -> list[dict[str, Any]]:
    """Return the one attempt: there is no part to put back."""
    return [{"kept": [], "gate": gate.to_json() if gate else None}]


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


def _speed(folder: ModelFolder, small: ModelFolder, by: JudgedBy, tell: Tell) -> CopySpeed:
    """Measure it by the engine that a processor takes unasked, in what that computes in here."""
    name = chosen_engine("cpu", "auto")
    choice = EngineChoice(name=name, precision=written_precisions(name)[-1])
    return measured_speed(folder, small, choice, threads=by.threads, tell=tell)


def _exact(array: NDArray[Any]) -> NDArray[np.float32]:
    """Return the numbers of a weight, which may be stored in bf16 already."""
    return widened_bfloat16(array).astype(np.float32, copy=False)


def _require_passed(gate: Gate | None, judge: CopyJudge) -> None:
    if gate is not None and not judge.passes(gate):
        raise refusal(
            gate.describe(),
            cure="keep the source, or lower --floor; nothing was written"
            if not gate.is_value_enough
            else "give more dev rows, or --accept point",
            engine=_ANY,
            precision=BF16,
            tried=_tried(gate),
        )
