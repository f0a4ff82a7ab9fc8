"""`quantize`: a model's graph with smaller numbers, let through by a gate.

Where a floor is asked for, the quantized model answers the dev rows beside its source. While it
falls short or is undecided, one more part of the network is put back, the one first whose return
brings the outputs nearest to the source's. What was tried stays in the manifest. Test rows are
checked at the start, so that a wrong file costs no work, and answered once, after the last choice.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from potstill.bundle.card import model_card
from potstill.bundle.folder import ModelFolder, open_folder
from potstill.bundle.manifest import (
    Manifest,
    copy_identity_files,
    fingerprint,
    write_manifest,
)
from potstill.bundle.named_weights import fp32_weights
from potstill.bundle.opening import open_model
from potstill.bundle.runtime_files import (
    INT8,
    OPENVINO,
    graph_files,
    last_layer_file,
    without_graphs,
    without_quality,
)
from potstill.bundle.weights import write_tensor_file
from potstill.compress.calibration import FEW_TEXTS, calibration_calls
from potstill.compress.quantizer import Smaller, output_error
from potstill.compress.quantizers import (
    gains_by_texts,
    is_calibrated,
    quantizer_of,
    require_precision,
    require_quantizing_library,
)
from potstill.data.columns import count_empty_texts
from potstill.data.rows import Rows
from potstill.errors import DataError, GateNotMet, RecipeError
from potstill.files import (
    folder_whole_or_absent,
    move_content,
    require_free,
    workspace_beside,
    write_atomically,
)
from potstill.hardware import cpu_has_bf16
from potstill.metrics.bootstrap import Drawn
from potstill.metrics.gate import Gate
from potstill.recipe import require_choice
from potstill.report import Report
from potstill.runtime.answering import lengths_of_folder, require_form, task_of_folder
from potstill.runtime.choice import EngineChoice
from potstill.runtime.graph import leaves_last_layer
from potstill.runtime.packed_engine import Inputs
from potstill.runtime.processors import HERE, PROCESSORS, processor_here, runs_here
from potstill.tasks import reading
from potstill.tasks.kinds import ANSWERABLE
from potstill.workflows.bf16 import BF16, store_in_bf16
from potstill.workflows.copy_judge import CopyJudge, JudgedBy, Tell, TestedCopy, refusal
from potstill.workflows.copy_speed import CopySpeed, measured_speed
from potstill.workflows.shown_places import shown_path

CALIBRATED_ON_DEV = (
    "calibrated on the dev rows that the gate is judged on, which is kind to it where they are "
    "few: --calibration takes other rows, such as the training rows"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeOptions(JudgedBy):
    """What is made, and when it is good enough."""

    engine: str = OPENVINO  # that reads what is made
    precision: str = INT8
    processor: str = HERE  # on which int8 products are to be right
    calibration: object | None = None  # rows whose texts are calibrated on; None: those of dev
    keep_source: bool = False  # the weights stay in the bundle
    tune: bool = True  # measure the copy beside its source here: about ten seconds
    allow_pickle: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that clash.

        Raises:
            RecipeError: with the setting's name.
        """
        if self.precision != BF16:
            require_precision(self.engine, self.precision)
        require_choice("processor", self.processor, (HERE, *PROCESSORS))
        require_choice("accept", self.accept or "point", ("point",))
        if self.floor is not None and not 0.0 < self.floor <= 1.0:
            raise RecipeError(f"floor is {self.floor}", allowed="a share above 0, at most 1")
        if self.floor is not None and self.dev is None:
            raise RecipeError(
                "a floor is judged on dev rows, and there are none",
                where="--floor",
                cure="give --dev, labelled rows that are neither train nor test",
            )
        self._require_heeded()
        if self.precision == BF16 and self.keep_source:
            raise RecipeError(
                "a bundle in bf16 is a plain folder of weights, in place of the source's",
                where="--keep-source",
                cure="leave it out",
            )
        if self.is_calibrated and self.calibration is None and self.dev is None:
            raise RecipeError(
                f"{self.precision} is calibrated on texts, and there are none",
                where="--calibration",
                cure="give --calibration or --dev, or quantize weights alone: int8-weights, int4",
            )
        is_judged = self.dev is not None or self.test is not None
        if is_judged and not runs_here(self.made_for):
            raise RecipeError(
                f"int8 for {self.made_for} can be wrong on this processor ({processor_here()}), so "
                "that nothing can be judged on it",
                where="--for",
                cure="quantize on such a processor, or leave --dev and --test out",
            )

    def _require_heeded(self) -> None:
        """Refuse what would change nothing.

        Raises:
            RecipeError: with the setting's name.
        """
        if self.precision == BF16 and self.engine != OPENVINO:
            raise RecipeError(
                "a bundle in bf16 is read by every engine",
                where="--engine",
                cure="leave it out",
            )
        is_ranked = self.floor is not None and self.precision != BF16  # parts, on these texts
        if self.calibration is not None and not self.is_calibrated and not is_ranked:
            raise RecipeError(
                f"{self.precision} by the {self.engine} engine is calibrated on no texts"
                if self.precision != BF16
                else "bf16 is calibrated on no texts",
                where="--calibration",
                cure="leave it out",
            )
        if self.processor != HERE and self.precision != INT8:
            raise RecipeError(
                f"{self.precision} is right on every processor",
                where="--for",
                allowed=f"with --precision {INT8}",
                cure="leave it out",
            )
        if self.accept is not None and self.floor is None:
            raise RecipeError(
                "there is no gate whose verdict could be accepted",
                where="--accept",
                cure="give --floor, or leave it out",
            )

    @property
    def is_calibrated(self) -> bool:
        """Tell whether it is fitted to texts: those it needs, or those given that it gains by."""
        return is_calibrated(self.engine, self.precision) or (
            self.calibration is not None and gains_by_texts(self.engine, self.precision)
        )

    @property
    def made_for(self) -> str | None:
        """Return the kind of processor that the graph is made for, None where it is for any."""
        if self.precision != INT8:
            return None
        return processor_here() if self.processor == HERE else self.processor


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt: which parts stayed in full precision, and what the gate said."""

    kept: tuple[str, ...]
    gate: Gate | None

    def to_json(self) -> dict[str, Any]:
        """Return it as the manifest holds it."""
        return {"kept": list(self.kept), "gate": self.gate.to_json() if self.gate else None}


def quantize(
    model: str | Path, out: Path, options: QuantizeOptions, tell: Tell | None = None
) -> Report:
    """Write a bundle whose numbers are smaller.

    Args:
        model: a folder with weights.
        out: an absent or empty folder.
        options: what is made.
        tell: hears of each step.

    Raises:
        InputError: model or rows cannot be used.
        GateNotMet: the floor is not met, or the gate undecided, even with every part put back;
            nothing is written.
    """
    began = time.perf_counter()
    require_free(out)
    folder = open_model(model, allow_pickle=options.allow_pickle)
    folder.require_complete()
    if options.precision == BF16:
        return store_in_bf16(folder, out, options, tell or _silent, tune=options.tune)
    with workspace_beside(out) as place:
        run = _Run(folder, options, place, tell or _silent)
        made = run.passed()
        run.measure_speed(made)
        on_test = run.judge.on_test(open_folder(made), run.tell)
        with folder_whole_or_absent(out) as staging:
            move_content(made, staging)
            manifest = run.manifest(on_test.measurements)
            _write_card(staging, manifest)
            write_manifest(staging, manifest)
            identity = fingerprint(staging)
    return _report(run, out, identity, on_test, time.perf_counter() - began)


class _Run:
    """The parts of one quantization."""

    def __init__(
        self, folder: ModelFolder, options: QuantizeOptions, place: Path, tell: Tell
    ) -> None:
        self.folder, self.options, self.place, self.tell = folder, options, place, tell
        self.tried: list[Tried] = []
        self.sensitivity: dict[str, float] = {}  # what is left of the error without each part
        self.speed = CopySpeed()
        require_quantizing_library(options.engine)  # told before anything is computed
        self.judge = CopyJudge(folder, options, engine=options.engine)  # and so are wrong rows
        self.weights = fp32_weights(folder)
        self.quantizer = quantizer_of(
            options.engine, folder.config, folder.answering_head, self.weights
        )
        folder.tokenizer()  # without one the copy could answer nothing
        self.calls: list[Inputs] = []
        self.calibrated_on: str | None = None
        self.warnings: list[str] = []
        if options.is_calibrated:
            self._calibrate(self._texts())

    def passed(self) -> Path:
        """Return the bundle of the first attempt that the gate lets through.

        An undecided gate is no end: with each part put back fewer answers differ, and the interval
        is narrower. Where rows are too few to show that anything holds, it is.
        """
        found, gate = self._attempt(())
        parts: list[str] = []
        while gate is not None and not self.judge.passes(gate):
            if gate.least_rows is not None and self.options.accept is None:
                raise self._refused_on_few_rows(gate, gate.least_rows)
            self.sensitivity = self.sensitivity or self._measured_sensitivity()
            ranked = list(self.sensitivity)
            if len(parts) == len(ranked):
                raise self._refused(gate)
            parts.append(ranked[len(parts)])
            self.tell(f"{gate.describe()}; {parts[-1]} is put back")
            found, gate = self._attempt(tuple(parts))
        return found

    def _refused_on_few_rows(self, gate: Gate, least: int) -> GateNotMet:
        """Return why no part is put back: on so few rows not even the source itself would hold."""
        few = f"fewer than {Drawn(least, gate.unit).told(gate.rows_of)}"
        told = f"{gate.describe()}; {few} cannot show that it holds, whatever is put back"
        cure = "give more dev rows, or --accept point; nothing was written"
        return self._refusal(told, cure)

    def _refused(self, last: Gate) -> GateNotMet:
        """Return why nothing passed; `--accept point` would take the first whose value suffices."""
        every = f"every part but the embedding tables in full precision{self._rest()}"
        gates = (each.gate for each in self.tried)
        enough = next((gate for gate in gates if gate is not None and gate.is_value_enough), None)
        if enough is None:
            told, cure = f"{last.describe()}, with {every}", "lower --floor; nothing was written"
        else:
            told = f"{enough.describe()}; it does not hold with {every} either"
            cure = "give more dev rows, or --accept point; nothing was written"
        return self._refusal(told, cure)

    def _refusal(self, told: str, cure: str) -> GateNotMet:
        return refusal(
            told,
            cure=cure,
            engine=self.options.engine,
            precision=self.options.precision,
            tried=[each.to_json() for each in self.tried],
            sensitivity=self.sensitivity,
        )

    def measure_speed(self, made: Path) -> None:
        """Measure the bundle of an attempt beside its source, where that is asked for."""
        if self.options.tune:
            self.speed = measured_speed(
                self.folder,
                open_folder(made),
                self._unmeasured_choice(),
                threads=self.options.threads,
                tell=self.tell,
            )

    def manifest(self, measured: Mapping[str, Any]) -> Manifest:
        """Return the bundle's manifest: its origin, what was tried, what was measured."""
        source = without_graphs(self.folder.manifest or Manifest(task=self.folder.task))
        lineage = {
            **source.lineage,
            "quantized_from": fingerprint(self.folder.path),
            "quantization": self.options.precision,
        }
        if self.calibrated_on is not None:
            lineage["calibrated_on"] = self.calibrated_on
        found = {**without_quality(source), **measured}
        return replace(source, lineage=lineage, measurements=found, engine=self._choice(), files={})

    def _attempt(self, kept: tuple[str, ...]) -> tuple[Path, Gate | None]:
        parts = self.quantizer.parts()
        layers = [layer for part in kept for layer in parts[part]]
        on = f", fitted to {self.calibrated_on}" if self.calibrated_on is not None else ""
        self.tell(f"quantizing to {self.options.precision}{on}")
        small = self._quantized(layers)
        made = self.place / f"attempt-{len(self.tried)}"
        self._write(made, small)
        gate = self.judge.on_dev(open_folder(made))
        self.tried.append(Tried(kept, gate))
        return made, gate

    def _quantized(self, kept: Sequence[str]) -> Any:
        options = self.options
        asked = Smaller(
            precision=options.precision,
            calls=self.calls,
            kept=kept,
            processor=options.made_for or processor_here(),
        )
        return self.quantizer.quantized(asked)

    def _calibrate(self, rows: Rows) -> None:
        self.calls, self.calibrated_on = self._calls_of(rows), shown_path(rows.source)
        if len(rows) < FEW_TEXTS:
            count = f"{len(rows)} text{'s' if len(rows) > 1 else ''}"
            self.warnings.append(
                f"calibrated on {count}, which tell little of the ranges of others: "
                f"{FEW_TEXTS} or more serve well"
            )
        if self.options.calibration is None:
            self.warnings += [CALIBRATED_ON_DEV] if self.options.floor is not None else []
        else:
            self.warnings += self.judge.judged_rows_among(rows)

    def _rest(self) -> str:
        """Say in what full precision is computed, where that is not fp32."""
        is_bf16 = self.options.engine == OPENVINO and cpu_has_bf16()
        return ", which is computed in bf16 here" if is_bf16 else ""

    def _measured_sensitivity(self) -> dict[str, float]:
        """Return how far outputs are off with each part put back, the nearest first."""
        self.tell("measuring which parts are most sensitive")
        calls = self.calls or self._calls_of(self._texts())
        left = {}
        for part, layers in self.quantizer.parts().items():
            small = self._quantized(layers)
            left[part] = output_error(self.quantizer, small, calls)
            self.tell(f"{part} put back: outputs are off by {left[part]:.2e}")
        return {part: left[part] for part in sorted(left, key=left.__getitem__)}

    def _texts(self) -> Rows:
        """Read the rows whose texts are calibrated on, or that parts are ranked by."""
        options, folder = self.options, self.folder
        given = options.calibration if options.calibration is not None else options.dev
        if folder.task not in ANSWERABLE:
            raise RecipeError(
                f"{folder.task or 'the bare encoder'} has no rows of its own to calibrate on",
                where=str(folder.path),
                allowed="int8-weights, int4, bf16 for such a model",
            )
        rows = reading.unlabelled(task_of_folder(folder).name, given, options.columns)
        require_form(folder, rows)
        if count_empty_texts(rows) == len(rows):
            raise DataError("all texts are empty: nothing to calibrate on", where=rows.source)
        return rows

    def _calls_of(self, rows: Rows) -> list[Inputs]:
        folder, task = self.folder, task_of_folder(self.folder)
        lengths = lengths_of_folder(folder, task, max_length=folder.max_length)
        texts = task.windows(folder.tokenizer(), rows, lengths).texts
        return calibration_calls(texts, folder.config, source=rows.source, seed=self.options.seed)

    def _write(self, made: Path, small: Any) -> None:
        """Write the bundle of an attempt."""
        engine = self.options.engine
        file = made / graph_files(engine, self.options.precision)[0]
        file.parent.mkdir(parents=True)
        self.quantizer.write(small, file)
        if leaves_last_layer(self.folder.answering_head):
            layer = {part: self.weights[f"head.output.{part}"] for part in ("weight", "bias")}
            write_tensor_file(made / last_layer_file(engine), layer)
        copy_identity_files(self.folder.path, made, with_weights=self.options.keep_source)
        write_manifest(made, self.manifest({}))

    def _unmeasured_choice(self) -> EngineChoice:
        options = self.options
        return EngineChoice(
            name=options.engine, precision=options.precision, processor=options.made_for
        )

    def _choice(self) -> Mapping[str, Any]:
        """Return what the bundle asks for; where nothing was measured, no flags are told."""
        choice = self.speed.choice or self._unmeasured_choice()
        return {
            **choice.to_json(),
            "tried": [each.to_json() for each in self.tried],
            **({"sensitivity": self.sensitivity} if self.sensitivity else {}),
        }


def _silent(line: str) -> None:
    """Tell nobody."""
    del line


def _write_card(staging: Path, manifest: Manifest) -> None:
    made = open_folder(staging)
    card = model_card(made.config, made.head, manifest, has_weights=made.has_weights)
    write_atomically(staging / "README.md", card.encode())


def _report(run: _Run, out: Path, identity: str, on_test: TestedCopy, seconds: float) -> Report:
    gate, made = on_test.last_gate(run.tried[-1].gate), open_folder(out)
    size = made.size_bytes(run.options.engine, run.options.precision)
    source_size = run.folder.weights.size_bytes
    return Report(
        bundle=out,
        fingerprint=identity,
        task=made.task,
        metrics=on_test.metrics,
        seconds=seconds,
        warnings=[
            *run.folder.warnings(),
            *on_test.warnings,
            *run.speed.warnings(size / source_size),
            *run.warnings,
        ],
        gate=gate.to_json() if gate else None,
        details={
            "engine": run.options.engine,
            "precision": run.options.precision,
            "processor": run.options.made_for,
            "calibrated_on": run.calibrated_on,
            "size_bytes": size,
            "source_bytes": source_size,
            "size_ratio": round(size / source_size, 4),
            "speed": run.speed.to_json(),
            "kept": list(run.tried[-1].kept),
            "tried": [each.to_json() for each in run.tried],
            "sensitivity": run.sensitivity,
        },
    )
