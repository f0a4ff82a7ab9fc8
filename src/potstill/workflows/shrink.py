"""`shrink`: teacher and data in; a small model, its report and its card out.

Each step stands in `<out>.run` when it is done, so the same call goes on after a kill: the tuned
teacher (if the model given has no head), the student with its layer search, its quantized copy, the
comparison. The test rows are read by the comparison alone, after the last choice.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from potstill.bundle.card import model_card
from potstill.bundle.folder import ModelFolder, open_folder
from potstill.bundle.manifest import MANIFEST_NAME, Manifest, fingerprint, write_manifest
from potstill.bundle.opening import open_model
from potstill.data.readers import read_rows
from potstill.distillation.layers import choose_layers
from potstill.errors import InputError, RecipeError
from potstill.files import (
    folder_whole_or_absent,
    require_free,
    write_atomically,
)
from potstill.metrics.gate import Gate
from potstill.recipe import recipe_hash, require_range, with_settings
from potstill.report import Measured, Report
from potstill.runtime.answering import task_of_folder
from potstill.tasks import reading
from potstill.tasks.classification import Classification
from potstill.tasks.embedding import Embedding
from potstill.tasks.evaluation import require_value
from potstill.tasks.flips import flips_csv
from potstill.tasks.kinds import ANSWERABLE, task_from_rows
from potstill.tasks.task_names import task_named
from potstill.train.progress import named
from potstill.train.world import World
from potstill.workflows.compare import CompareOptions, compare, repeating_command
from potstill.workflows.comparison import ComparedModel, Comparison
from potstill.workflows.control import CUT_ALONE
from potstill.workflows.distill import DistillInputs, control_folder, distill, require_task_head
from potstill.workflows.distill_recipe import SEARCH
from potstill.workflows.finetune import Inputs, finetune
from potstill.workflows.proven import gate_of, measurements
from potstill.workflows.quantized_student import (
    QUANTIZED,
    QuantizedStudent,
    has_gate,
    in_words,
    keep_quantized,
    made_in,
    quantized_folder,
    quantized_student,
    require_quantizing_libraries,
)
from potstill.workflows.report_page.page import render_page, require_page_libraries
from potstill.workflows.seen_rows import with_seen_rows
from potstill.workflows.shown_places import shown_models, without_places
from potstill.workflows.shrink_recipe import (
    Plan,
    Run,
    ShrinkInputs,
    ShrinkRecipe,
)
from potstill.workflows.sole_writer import sole_writer
from potstill.workflows.task_rows import run_folder
from potstill.workflows.tune import TuneOptions, tune

PAGE, REPORT, FLIPS = "report.html", "report.json", "flips.csv"
_COMPARE_ROUNDS = 5
_TUNED_ON = 256  # texts
_CLAIM = "run.json"


def shrink(inputs: ShrinkInputs, recipe: ShrinkRecipe, *, out: Path, run: Run) -> Report:
    """Make a small model of a big one and prove it.

    Writes the bundle to `out` with report.html, report.json and flips.csv in it, a teacher that was
    tuned to `<out>-teacher`, a control to `<out>-control`, and a quantized copy of the student to
    `<out>-<precision>`; where the gate refuses one, the report says so and the student stays.

    Raises:
        InputError: told before the work begins where it can be.
        RunError: out of memory, diverged, disk full.
        Stopped: by a signal; the same call goes on.
    """
    return _Shrinking(inputs, recipe, out, run).work()


def plan_shrink(inputs: ShrinkInputs, recipe: ShrinkRecipe, *, out: Path) -> Plan:
    """Return what `shrink` would do, without doing it.

    Raises:
        InputError: wrong model, rows or outputs.
    """
    return _Shrinking(inputs, recipe, out, Run()).plan()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What was found out, at the end."""

    comparison: Comparison
    distillation: Mapping[str, Any]  # the report of `distill`
    gate: Gate | None  # of the student, on test rows
    quantization: Mapping[str, Any] | None  # what became of the quantized copy; None: not asked for


class _Shrinking:
    """The steps, in order."""

    def __init__(self, inputs: ShrinkInputs, recipe: ShrinkRecipe, out: Path, run: Run) -> None:
        self.inputs, self.recipe, self.out, self.run = inputs, recipe, out, run
        if inputs.floor is not None:
            require_range("floor", inputs.floor, above=0.0)
        require_page_libraries()
        if inputs.quantize is not None:
            require_quantizing_libraries(inputs.quantize)
        self.state = run_folder(out)
        self.folder = open_model(inputs.teacher, allow_pickle=inputs.allow_pickle)
        self.folder.require_weights()
        self.task = _task_asked(inputs.task, self.folder)
        self.is_tuned_first = self.folder.task != self.task
        if self.is_tuned_first:
            teacher = with_settings(recipe.teacher, {"task": self.task}, where="--task")
            self.recipe = replace(recipe, teacher=teacher)
        self._require_rows()
        self.key = self._identity()
        self._require_outputs()
        needs_start = self._kind_of_control() == "pretrained" and not self.is_tuned_first
        if needs_start and inputs.pretrained is None:
            raise InputError(
                "a control starts from the model that the teacher was tuned from",
                where="--control",
                cure="name it with --pretrained",
            )

    def plan(self) -> Plan:
        """Return the steps in words."""
        depth = self.folder.config.layers
        student = self.recipe.student
        layers = len(student.keep.split(",")) if student.keep else student.layers or depth // 2
        choose_layers(depth, max(1, layers), choice="even")  # refuses a deeper student
        width = self.folder.config.hidden_size
        steps = []
        if self.is_tuned_first:
            steps.append(
                f"tune the teacher for {self.task}, {depth} layers of width {width}, on the labels"
            )
        if student.choose == SEARCH and not student.keep:
            steps.append(f"search which {layers} of {depth} layers to keep (forward passes only)")
        else:
            steps.append(f"keep {layers} of {depth} layers: {student.keep or student.choose}")
        texts = " and the unlabelled texts" if self.inputs.unlabelled is not None else ""
        steps.append(f"distil: the teacher speaks of the training rows{texts}")
        if self._kind_of_control() == CUT_ALONE:
            steps.append("keep the student as it was before its first step, as the control")
        elif self.inputs.control:
            steps.append("train the control: same shape and steps, labels only")
        if self.inputs.quantize is not None:
            is_judged = has_gate(self.inputs, self.task)
            steps.append(in_words(self.inputs.quantize, is_judged=is_judged))
        if self.inputs.tune:
            steps.append("measure engines, precisions and row sizes here, and store the fastest")
        steps.append("compare all on the test rows, each in a process of its own")
        steps.append(f"write bundle, report and card to {self.out}")
        return Plan(steps=tuple(steps), is_tuned_first=self.is_tuned_first)

    def work(self) -> Report:
        """Do the steps that are not done yet."""
        plan = self.plan()
        for number, step in enumerate(plan.steps, start=1):
            self._tell(f"plan {number}/{len(plan.steps)}: {step}")
        with sole_writer(self.out, World()):
            return self._work()

    def _work(self) -> Report:
        self._claim()
        teacher = self._tuned() if self.is_tuned_first else self.folder.path
        student, told = self._cut(teacher)
        small = self._quantized(student)
        if self.inputs.tune:
            self._tune(student, small)
        comparison = self._compared(teacher, student, small)
        self._keep_control(student)
        found = _Found(
            comparison=comparison,
            distillation=told,
            gate=gate_of(comparison, _student(comparison), self.inputs.floor),
            quantization=self._keep_quantized(small, comparison),
        )
        identity = self._write(student, found)
        shutil.rmtree(self.state, ignore_errors=True)
        return self._report(identity, found)

    def _tuned(self) -> Path:
        out = teacher_folder(self.out)
        inputs = Inputs(
            model=self.inputs.teacher,
            train=self.inputs.train,
            dev=self.inputs.dev,
            allow_pickle=self.inputs.allow_pickle,
            columns=self.inputs.columns,
        )
        if not (out / MANIFEST_NAME).is_file():
            finetune(inputs, self.recipe.teacher, out=out, **self._how("teacher"))
        return out

    def _cut(self, teacher: Path) -> tuple[Path, Mapping[str, Any]]:
        out, file = self.state / "student", self.state / "student.json"
        inputs = DistillInputs(
            teachers=[teacher],
            train=self.inputs.train,
            dev=self.inputs.dev,
            unlabelled=self.inputs.unlabelled,
            control=self._kind_of_control(),
            pretrained=self.inputs.teacher if self.is_tuned_first else self.inputs.pretrained,
            allow_pickle=self.inputs.allow_pickle,
            columns=self.inputs.columns,
        )
        if not file.is_file():
            # A kill between the bundle and its report: the run's state is gone, so begin anew.
            for leftover in (out, control_folder(out)):
                shutil.rmtree(leftover, ignore_errors=True)
            report = distill(inputs, self.recipe.student, out=out, **self._how(""))
            write_atomically(file, json.dumps(report.to_json()).encode())
        told: Mapping[str, Any] = json.loads(file.read_bytes())
        return out, told

    def _kind_of_control(self) -> str | None:
        """Return what stands beside the student; no label says where a vector lies."""
        if not self.inputs.control:
            return None
        return CUT_ALONE if self.task == Embedding.name else "pretrained"

    def _quantized(self, student: Path) -> QuantizedStudent | None:
        if self.inputs.quantize is None:
            return None
        return quantized_student(
            *(student, self.inputs, self.recipe, self.task), state=self.state, run=self.run
        )

    def _tune(self, student: Path, small: QuantizedStudent | None) -> None:
        """Store the fastest engine of each in its folder, once."""
        for folder in (student, *([made_in(self.state)] if small and small.is_made else [])):
            done = self.state / f"{folder.name}.tuned"
            if not done.is_file():
                self._tell(f"measuring engines: {folder.name}")
                tune(folder, self._how_to_tune(), self.run.tell)
                write_atomically(done, b"")

    def _how_to_tune(self) -> TuneOptions:
        """Measure on training texts, as far as rows are texts."""
        rows, column = read_rows(self.inputs.train, limit=_TUNED_ON), self.inputs.columns.text
        source = rows if column in rows else None
        return TuneOptions(source=source, text_column=column, threads=self.run.threads)

    def _compared(self, teacher: Path, student: Path, small: QuantizedStudent | None) -> Comparison:
        names, models = ["teacher", "student"], [teacher, student]
        places = [self._place_of_teacher(), str(self.out)]
        device = self.run.device
        if small is not None and small.is_made:
            names.append(QUANTIZED)
            models.append(made_in(self.state))
            places.append(str(self._place_of_quantized()))
            device = "cpu" if device == "cpu" else "auto"  # its graph runs on the CPU alone
        if self.inputs.control:
            names.append("control")
            models.append(control_folder(student))
            places.append(str(control_folder(self.out)))
        options = CompareOptions(
            names=tuple(names),
            test=self.inputs.test,
            primary=self.recipe.student.primary or None,
            columns=self.inputs.columns,
            rounds=_COMPARE_ROUNDS,
            device=device,
            threads=self.run.threads,
        )
        found = compare([str(model) for model in models], options, tell=self.run.tell)
        found = replace(found, command=repeating_command(shown_models(places), options))
        return with_seen_rows(found, self.inputs, self.task)

    def _keep_control(self, student: Path) -> None:
        """Put the control beside the place of the student, as a copy: a kill may come before."""
        target = control_folder(self.out)
        if self.inputs.control and not (target / MANIFEST_NAME).is_file():
            with folder_whole_or_absent(target) as staging:
                shutil.copytree(control_folder(student), staging, dirs_exist_ok=True)

    def _keep_quantized(
        self, small: QuantizedStudent | None, comparison: Comparison
    ) -> Mapping[str, Any] | None:
        """Put the quantized copy beside the place of the student; None where none is asked for."""
        if small is None:
            return None
        if not small.is_made:
            return small.to_json() | {"bundle": None, "gate_on_test": None}
        return keep_quantized(
            small, comparison, made_in(self.state), self._place_of_quantized(), self.inputs.floor
        )

    def _write(self, student: Path, found: _Found) -> str:
        """Write the student again, with what was measured in its card and manifest."""
        source, comparison = open_folder(student), found.comparison
        assert source.manifest is not None, "distill writes a manifest"
        measured = measurements(comparison, _student(comparison), found.gate)
        manifest = replace(
            source.manifest, measurements={**source.manifest.measurements, **measured}
        )
        moved = {name: each for name, each in found.distillation.items() if name != "bundle"}
        report = {
            "distillation": self._without_places(moved),
            "quantization": self._without_places(found.quantization),
            "gate": found.gate.to_json() if found.gate else None,
            **comparison.to_json(),
        }
        with folder_whole_or_absent(self.out) as staging:
            shutil.copytree(student, staging, dirs_exist_ok=True)
            (staging / PAGE).write_text(render_page(comparison), encoding="utf-8")
            (staging / REPORT).write_text(json.dumps(report, indent=2), encoding="utf-8")
            (staging / FLIPS).write_bytes(flips_csv(comparison.flips))
            (staging / "README.md").write_text(_card(source, manifest), encoding="utf-8")
            write_manifest(staging, manifest)
            return fingerprint(staging)

    def _report(self, identity: str, found: _Found) -> Report:
        comparison, told = found.comparison, found.distillation
        quality = _student(comparison).quality
        assert quality is not None, "there are test rows"
        assert comparison.primary is not None, "there are test rows"
        value = quality.metrics[comparison.primary]
        of_quantized = found.quantization["warnings"] if found.quantization else []
        return Report(
            bundle=self.out,
            fingerprint=identity,
            task=self.task,
            metrics={
                comparison.primary: Measured(value=value.value, low=value.low, high=value.high)
            },
            seconds=told["seconds"],
            steps=told["steps"],
            warnings=[*told["warnings"], *of_quantized, *comparison.warnings],
            gate=found.gate.to_json() if found.gate else None,
            details={
                "metrics_on": "test",
                "teacher": self._place_of_teacher(),
                "report": str(self.out / PAGE),
                "search": told["search"],
                "start": told["start"],
                "layers_kept": told["layers_kept"],
                "quantized": found.quantization,
                "comparison": comparison,
            },
        )

    def _without_places(self, told: Any) -> Any:
        inputs = self.inputs
        rows = (inputs.train, inputs.dev, inputs.unlabelled, inputs.test)
        return without_places(told, [*rows, self.out, self._place_of_teacher()])

    def _place_of_teacher(self) -> str:
        return str(teacher_folder(self.out) if self.is_tuned_first else self.inputs.teacher)

    def _place_of_quantized(self) -> Path:
        assert self.inputs.quantize is not None, "called where it is asked for"
        return quantized_folder(self.out, self.inputs.quantize)

    def _how(self, name: str) -> dict[str, Any]:
        return {
            "device": self.run.device,
            "threads": self.run.threads,
            "listeners": tuple(named(listener, name) for listener in self.run.listeners),
        }

    def _tell(self, line: str) -> None:
        if self.run.tell is not None:
            self.run.tell(line)

    def _require_outputs(self) -> None:
        """Check the places to write to; those of an unfinished run of these settings are ours."""
        require_free(self.out)
        claimed = self._claimed()
        if claimed is not None and claimed != self.key:
            raise RecipeError(
                "an unfinished run with other settings, model or data stands here",
                where=str(self.state),
                cure="repeat its settings to go on, or remove this folder to begin anew",
            )
        if claimed is None and self.is_tuned_first:
            require_free(teacher_folder(self.out))
        if claimed is None and self.inputs.control:
            require_free(control_folder(self.out))
        if claimed is None and self.inputs.quantize is not None:
            require_free(self._place_of_quantized())

    def _claim(self) -> None:
        """Note whose run this is, before anything is written."""
        write_atomically(self.state / _CLAIM, json.dumps({"key": self.key}).encode())

    def _claimed(self) -> str | None:
        try:
            return str(json.loads((self.state / _CLAIM).read_bytes())["key"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _identity(self) -> str:
        """Return the hash of all that decides the bundle; the test rows are not among it."""
        inputs = self.inputs
        roles = {"train": inputs.train, "dev": inputs.dev, "unlabelled": inputs.unlabelled}
        rows = {  # by what they are for: the same rows as dev and as unlabelled are two runs
            role: None if source is None else sorted(read_rows(source).columns.items())
            for role, source in roles.items()
        }
        copy = {} if inputs.quantize is None else {"quantize": str(inputs.quantize)}
        if copy:  # else nothing is decided by it before the test rows are asked
            copy["accept"] = str(inputs.accept)
        return recipe_hash(
            self.recipe.student,
            teacher=recipe_hash(self.recipe.teacher),
            model=fingerprint(self.folder.path),
            rows=hashlib.sha256(repr(rows).encode()).hexdigest(),
            control=str(inputs.control),
            task=self.task,
            **self._start_of_control(),
            **inputs.columns.renamed(),
            **copy,
        )

    def _start_of_control(self) -> dict[str, str]:
        """Return the hash of what a control is tuned from, where that is not the given teacher."""
        inputs = self.inputs
        is_read = self._kind_of_control() == "pretrained" and not self.is_tuned_first
        if not is_read or inputs.pretrained is None:
            return {}
        start = open_model(inputs.pretrained, allow_pickle=inputs.allow_pickle)
        return {"pretrained": fingerprint(start.path)}

    def _require_rows(self) -> None:
        """Refuse rows that could not be used at the end of the work. Nothing is learned here."""
        columns, task = self.inputs.columns, self.task
        train = reading.labelled(task, self.inputs.train, columns)
        test = reading.labelled(task, self.inputs.test, columns)
        if task != Embedding.name:  # vectors are aligned on texts, and judged by pairs of them
            reading.require_one_form(train, test)
        if not self.is_tuned_first:
            require_task_head(self.folder)
            posed = task_of_folder(self.folder)
        else:
            posed = task_from_rows(task, train)
        primary = self.recipe.student.primary or posed.primary(has_gold=True)
        posed.metric(primary)
        gold = posed.gold(test)  # refuses a label that could not be learned
        require_value(posed, primary, gold, source=test.source)


def _task_asked(asked: str | None, folder: ModelFolder) -> str:
    """Return the task to shrink for: as asked, else the teacher's, else classification.

    An embedding model is a start for any task, so it is shrunk as such only where that is asked.
    """
    if asked is not None:
        return task_named(asked)
    is_tuned = folder.task in ANSWERABLE and folder.task != Embedding.name
    return str(folder.task) if is_tuned else Classification.name


def teacher_folder(out: Path) -> Path:
    """Return where a teacher that `shrink` tuned is written."""
    return out.with_name(out.name + "-teacher")


def _student(comparison: Comparison) -> ComparedModel:
    return comparison.others[0]


def _card(folder: ModelFolder, manifest: Manifest) -> str:
    return model_card(folder.config, folder.answering_head, manifest)
