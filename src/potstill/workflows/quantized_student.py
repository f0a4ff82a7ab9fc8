"""The quantized copy of a student, made before test rows are read and kept beside it.

It is calibrated on training texts and judged on dev rows, beside the student in fp32. What the gate
said stands in the run's state, a refusal too, so that a call that goes on decides nothing again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from potstill.bundle.card import model_card
from potstill.bundle.folder import open_folder
from potstill.bundle.manifest import write_manifest
from potstill.bundle.runtime_files import OPENVINO
from potstill.compress.quantizers import gains_by_texts
from potstill.data.rows import Rows
from potstill.errors import GateNotMet, MissingExtraError
from potstill.files import folder_whole_or_absent, write_atomically
from potstill.tasks import reading
from potstill.tasks.embedding import Embedding
from potstill.workflows.bf16 import BF16
from potstill.workflows.comparison import Comparison
from potstill.workflows.proven import gate_of, measurements
from potstill.workflows.quantize import QuantizeOptions, quantize
from potstill.workflows.shrink_recipe import Quantizing, Run, ShrinkInputs, ShrinkRecipe
from potstill.workflows.task_rows import train_and_dev

QUANTIZED = "quantized student"  # as a comparison calls it

_LIBRARIES = ("openvino", "nncf")
_UNJUDGED = (
    "the quantized student passed no gate: vectors are judged by pairs with numbers, and --dev "
    "has none"
)
_NOT_FASTER = (
    "the quantized student answered no faster here than the student: it saves room, not time"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedStudent:
    """What became of it."""

    precision: str
    gate: Mapping[str, Any] | None = None  # on dev rows; None: there was none, or it refused
    refusal: str | None = None  # of the gate: there is no copy, the student stands alone
    size_bytes: int | None = None
    kept: tuple[str, ...] = ()  # parts that stay in full precision
    tried: tuple[Mapping[str, Any], ...] = ()  # attempts: what each kept, and what the gate said
    warnings: tuple[str, ...] = ()

    @property
    def is_made(self) -> bool:
        """Tell whether there is a copy."""
        return self.refusal is None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def require_quantizing_libraries(asked: Quantizing) -> None:
    """Check that what quantizes is installed, before anything is trained; bf16 needs nothing.

    Raises:
        MissingExtraError: the message holds the install line.
    """
    for name in () if asked.precision == BF16 else _LIBRARIES:
        if find_spec(name) is None:
            raise MissingExtraError(name, extra="quantize", needed_for="--quantize")


def quantized_folder(out: Path, asked: Quantizing) -> Path:
    """Return where a student's quantized copy stands."""
    return out.with_name(f"{out.name}-{asked.precision}")


def in_words(asked: Quantizing, *, is_judged: bool) -> str:
    """Say what will be done, for the plan."""
    extra = "" if asked.precision == BF16 else " (potstill[quantize])"
    told = f"quantize the student to {asked.precision}{extra}"
    if not is_judged:
        return f"{told}, without a gate: of vectors --dev must have pairs with numbers"
    return f"{told}, if it keeps {asked.least:.1%} on dev rows beside the student in fp32"


def has_gate(inputs: ShrinkInputs, task: str) -> bool:
    """Tell whether there is something to judge by: of vectors pairs with numbers."""
    if task != Embedding.name:
        return True
    return inputs.dev is not None and "label" in reading.labelled(task, inputs.dev, inputs.columns)


def made_in(state: Path) -> Path:
    """Return where the copy lies while the run goes on."""
    return state / "quantized"


def quantized_student(
    student: Path, inputs: ShrinkInputs, recipe: ShrinkRecipe, task: str, *, state: Path, run: Run
) -> QuantizedStudent:
    """Quantize the student, or return what came of it when it was done.

    Args:
        student: its bundle.
        inputs: the rows; dev rows are carved as they were for the student.
        recipe: how it was trained.
        task: of the student.
        state: the run's folder, in which the copy is made.
        run: threads, and who is told.

    Raises:
        InputError: the rows cannot be used.
    """
    assert inputs.quantize is not None, "called where it is asked for"
    made, file = made_in(state), state / "quantized.json"
    if not file.is_file():
        shutil.rmtree(made, ignore_errors=True)  # of a kill before its report was written
        options = _options(inputs, recipe, task, run)
        found = _made(student, made, options, run)
        write_atomically(file, json.dumps(found.to_json()).encode())
    told = json.loads(file.read_bytes())
    lists = {name: tuple(value) for name, value in told.items() if isinstance(value, list)}
    return QuantizedStudent(**told | lists)


def keep_quantized(
    small: QuantizedStudent,
    comparison: Comparison,
    made: Path,
    target: Path,
    floor: float | None,
) -> dict[str, Any]:
    """Put the copy at its place, with what was measured in its card and manifest.

    What stands there is of this run, which was stopped meanwhile: it is replaced.

    Args:
        small: what was said of it on dev rows.
        comparison: on test rows, with the copy under the name `QUANTIZED`.
        made: where it lies.
        target: its place.
        floor: least retention beside the teacher; None: no gate.

    Returns:
        What the report tells of it.
    """
    others = comparison.others
    row = next(model for model in others if model.name == QUANTIZED)
    gate = gate_of(comparison, row, floor)
    found = open_folder(made)
    assert found.manifest is not None, "quantize writes a manifest"
    told = {**found.manifest.measurements, **measurements(comparison, row, gate)}
    manifest = replace(found.manifest, measurements=told)
    shutil.rmtree(target, ignore_errors=True)
    with folder_whole_or_absent(target) as staging:
        shutil.copytree(made, staging, dirs_exist_ok=True)
        card = model_card(found.config, found.head, manifest, has_weights=found.has_weights)
        (staging / "README.md").write_text(card, encoding="utf-8")
        write_manifest(staging, manifest)
    is_faster = row.speedup > others[0].speedup
    return {
        **small.to_json(),
        "bundle": str(target),
        "gate_on_test": gate.to_json() if gate else None,
        "warnings": [*small.warnings, *([] if is_faster else [_NOT_FASTER])],
    }


def _made(student: Path, made: Path, options: QuantizeOptions, run: Run) -> QuantizedStudent:
    try:
        report = quantize(student, made, options, run.tell)
    except GateNotMet as fault:  # its cure is of quantize; when shrink is done there is another
        return QuantizedStudent(
            precision=options.precision,
            refusal=f"{fault.where or 'quantizing'}: {fault.what}",
            tried=tuple((fault.evidence or {}).get("tried", ())),
        )
    return QuantizedStudent(
        precision=options.precision,
        gate=report.gate,
        size_bytes=report.details["size_bytes"],
        kept=tuple(report.details["kept"]),
        tried=tuple(report.details["tried"]),
        warnings=() if report.gate is not None else (_UNJUDGED,),
    )


def _options(inputs: ShrinkInputs, recipe: ShrinkRecipe, task: str, run: Run) -> QuantizeOptions:
    asked = inputs.quantize
    assert asked is not None, "called where it is asked for"
    train, dev = _rows(inputs, recipe, task)
    is_judged = has_gate(inputs, task)
    reads_texts = gains_by_texts(OPENVINO, asked.precision) or is_judged  # to rank its parts by
    return QuantizeOptions(  # rows have our names of columns by now
        precision=asked.precision,
        calibration=train if reads_texts and asked.precision != BF16 else None,
        dev=dev if is_judged else None,
        floor=asked.least if is_judged else None,
        accept=inputs.accept if is_judged else None,
        tune=not inputs.tune,  # which measures the copy too, with all engines
        primary=recipe.student.primary or None,
        threads=run.threads,
        seed=recipe.student.seed,
    )


def _rows(inputs: ShrinkInputs, recipe: ShrinkRecipe, task: str) -> tuple[Rows, Rows]:
    """Return training and dev rows as the student's training had them."""
    columns, student = inputs.columns, recipe.student
    if task == Embedding.name:
        train = reading.unlabelled(task, inputs.train, columns)
        return train, train if inputs.dev is None else reading.labelled(task, inputs.dev, columns)
    return train_and_dev(
        *(task, inputs.train, inputs.dev, columns),
        dev_share=student.dev_share,
        seed=student.seed,
        warnings=[],
    )
