"""General distillation on one card: how fast, which preset, and the whole way at a small scale.

Stages, each with a time or token budget of its own, so that they fit calls of ten minutes; what one
leaves under WORK is where the next goes on:

    python benchmarks/gpu_distillation.py speed   WORK    # two minutes for each of three works
    python benchmarks/gpu_distillation.py presets WORK    # twenty times the CPU's budget
    python benchmarks/gpu_distillation.py scaled  WORK    # BERT-base from scratch, DistilBERT of it

`--data` names the folder of data sets and corpus, `--out` the folder of JSON results; `--tiny` runs
all of it in a minute on a CPU, on tiny models. Neither openvino nor orjson is needed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from facts import SHARED_DATA, machine_facts
from general_comparison import TASKS, Comparison, Plan, TaskPlan, between_presets, summary

import potstill
from potstill.architectures.config import EncoderConfig
from potstill.architectures.heads import HeadSpec
from potstill.architectures.presets import preset
from potstill.bundle.opening import open_model
from potstill.distillation.general_objective import TERMS, GeneralObjective
from potstill.distillation.layers import choose_layers
from potstill.distillation.student import cut_student, student_config
from potstill.metrics.metric import point
from potstill.metrics.retention import is_above, retention
from potstill.models.precision import resolve_precision
from potstill.models.task_model import TaskModel
from potstill.runtime.torch_engine import TorchEngine
from potstill.text.masking import MaskingShares, masking_for
from potstill.train.masked_lm_objective import MaskedLMObjective, Passages
from potstill.train.objective import Objective
from potstill.train.rehearsal import rehearse
from potstill.workflows.corpus_recipe import CorpusRecipe
from potstill.workflows.demo import packaged_model
from potstill.workflows.general_recipe import PRESETS, GeneralRecipe, distilbert
from potstill.workflows.passages import CorpusSources, Ground, read_passages
from potstill.workflows.suite_test import TestSet, judge_model
from potstill.workflows.task_rows import joined_world, own_device

MASKED_LM = HeadSpec(kind="masked-lm")
SCALED_TASKS = (
    TaskPlan(name="sst2", epochs=3.0, seeds=1),
    TaskPlan(name="mrpc", epochs=4.0, seeds=1),
    TaskPlan(name="cola", test="dev.jsonl", primary="matthews", epochs=4.0, seeds=1),
    TaskPlan(name="stsb", kind="regression", primary="pearson+spearman", epochs=4.0, seeds=1),
)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large everything is."""

    base: EncoderConfig  # of teachers that are drawn anew
    seconds: float  # of each measured work
    tokens: int  # of each student of the comparison
    head_tokens: int
    teacher_tokens: int  # of BERT-base from scratch
    student_tokens: int  # of DistilBERT
    step_tokens: int
    batch_tokens: int
    matrix: int  # rows and columns of the products that measure the card
    scratch: str  # of the teacher from scratch, as finetune names it
    layers: int  # of the compared students
    is_tiny: bool = False


CARD = Scale(
    base=preset("bert-base"),
    seconds=120.0,
    tokens=100_000_000,
    head_tokens=50_000_000,
    teacher_tokens=150_000_000,
    student_tokens=100_000_000,
    step_tokens=131_072,
    batch_tokens=65_536,
    matrix=8_192,
    scratch="bert-base",
    layers=3,
)


def tiny_scale() -> Scale:
    """Return sizes at which all stages run in a minute on a CPU."""
    base = replace(preset("all-minilm-l6"), layers=2, hidden_size=64, heads=2, feed_forward_size=96)
    return replace(
        CARD,
        base=base,
        seconds=0.5,
        tokens=40_000,
        head_tokens=80_000,
        teacher_tokens=80_000,
        student_tokens=80_000,
        step_tokens=512,
        batch_tokens=512,
        matrix=256,
        scratch="64x2",
        layers=1,
        is_tiny=True,
    )


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a stage reads and writes."""

    work: Path
    data: Path
    out: Path
    corpus: tuple[Path, ...]
    pretrained: Path
    device: str = "auto"
    threads: int | None = None

    @property
    def how(self) -> dict[str, Any]:
        """Return where trainings run."""
        return {"device": self.device, "threads": self.threads}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("work", type=Path)
    parser.add_argument("--data", type=Path, default=SHARED_DATA)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--tiny", action="store_true")
    asked = parser.parse_args()
    place = Place(
        work=asked.work,
        data=asked.data,
        out=asked.out,
        corpus=tuple(sorted((asked.data / "corpus").glob("*.txt*"))),
        pretrained=packaged_model(),
    )
    run(asked.stage, place, tiny_scale() if asked.tiny else CARD)


def run(stage: str, place: Place, scale: Scale) -> dict[str, Any]:
    """Do one stage and store what it found."""
    place.work.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    found = STAGES[stage](place, scale)
    result = {
        "benchmark": f"gpu_{stage}",
        "machine": machine_facts() | {"card": card_name()},
        "tiny": scale.is_tiny,
        "seconds": round(time.perf_counter() - began, 1),
        **found,
    }
    place.out.mkdir(parents=True, exist_ok=True)
    (place.out / f"gpu_{stage}.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))
    return result


def card_name() -> str | None:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


# Speed


def speed(place: Place, scale: Scale) -> dict[str, Any]:
    """Measure masked-LM training, the distillation step, and bulk inference."""
    with joined_world(place.device, place.threads) as world:
        device = own_device(place.device, world)
        recipe = recipe_of(scale)
        ground = Ground(out=place.work / "speed", world=world, device=device)
        tokenizer = open_model(place.pretrained).tokenizer()
        sources = CorpusSources(files=place.corpus[:1], folder=place.work / "speed-corpus")
        passages = read_passages(sources, tokenizer, recipe, ground).train
        masking = masking_for(tokenizer, MaskingShares())
        ceiling = bf16_rate(scale.matrix, device)
        works: dict[str, Callable[[], dict[str, float]]] = {
            "masked-LM training": lambda: training_speed(
                drawn(scale.base, device),
                MaskedLMObjective(passages, masking),
                recipe,
                scale,
                flops_of_training(scale.base, passages, asked=masking.shares.chosen),
            ),
            "distillation step": lambda: distillation_speed(passages, masking, scale, device),
            "bulk inference": lambda: inference_speed(passages, scale, device),
        }
        found = {name: work() for name, work in works.items()}
    for each in found.values():
        each["share_of_bf16_rate"] = round(each["flops_per_second"] / ceiling, 3)
    return {"bf16_flops_per_second": ceiling, "works": found}


def recipe_of(scale: Scale) -> GeneralRecipe:
    """Return a run that is longer than what is measured of it."""
    return replace(
        distilbert(),
        other_share=0.1,
        epochs=1_000.0,
        step_tokens=scale.step_tokens,
        batch_tokens=scale.batch_tokens,
        held_out_documents=5,
    )


def drawn(config: EncoderConfig, device: torch.device) -> TaskModel:
    """Return a model of random weights: time and memory do not depend on them."""
    model = TaskModel(config, MASKED_LM)
    model.initialize(0)
    return model.to(device)


def training_speed(
    model: TaskModel,
    objective: Objective,
    recipe: CorpusRecipe,
    scale: Scale,
    flops_per_token: float,
) -> dict[str, float]:
    """Do steps for a while and count real tokens."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        found = rehearse(
            model,
            objective,
            recipe,
            score=lambda: 0.0,
            folder=Path(folder),
            seconds=scale.seconds,
        )
    return {
        "tokens_per_second": round(found.tokens_per_second, 1),
        "flops_per_second": found.tokens_per_second * flops_per_token,
        "flops_per_token": flops_per_token,
        "peak_bytes": found.peak_bytes,
        "steps": found.steps,
        "seconds": round(found.seconds, 2),
    }


def distillation_speed(
    passages: Passages, masking: Any, scale: Scale, device: torch.device
) -> dict[str, float]:
    """Measure DistilBERT's step, its teacher heard at a tenth of the tokens that are not hidden."""
    teacher = drawn(scale.base, device)
    teacher.requires_grad_(requires_grad=False)
    depth = scale.base.layers
    kept = choose_layers(depth, depth // 2, choice="distilbert")
    student = cut_student(teacher, student_config(scale.base, len(kept)), kept).to(device)
    recipe = recipe_of(scale)
    objective = GeneralObjective(
        passages=passages,
        masking=masking,
        teacher=teacher,
        term_weights={name: getattr(recipe, name) for name in TERMS},
        other_share=recipe.other_share,
        precision=resolve_precision("auto", device, training=True),
    )
    asked = recipe.mask_share + recipe.other_share * (1.0 - recipe.mask_share)
    flops = flops_of_training(student.config, passages, asked=asked)
    flops += flops_of_reading(scale.base, passages, asked=asked)
    return training_speed(student, objective, recipe, scale, flops)


def inference_speed(passages: Passages, scale: Scale, device: torch.device) -> dict[str, float]:
    """Run a DistilBERT-size classifier over passages for a while."""
    config = student_config(scale.base, scale.base.layers // 2)
    model = TaskModel(config, HeadSpec(kind="classification", labels=("no", "yes")))
    model.initialize(0)
    engine = TorchEngine(model.to(device), precision=resolve_precision("auto", device))
    texts = passages.batch(np.arange(min(4_096, len(passages.lengths))))
    engine.run(texts)  # memory is taken, kernels are chosen
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    tokens, rows, began = 0, 0, time.perf_counter()
    while (seconds := time.perf_counter() - began) < scale.seconds or not rows:
        engine.run(texts)  # the answers are copied back, so the card has finished
        tokens, rows = tokens + texts.total_tokens, rows + len(texts)
    flops = flops_of_reading(config, passages, asked=0.0)
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return {
        "tokens_per_second": round(tokens / seconds, 1),
        "texts_per_second": round(rows / seconds, 1),
        "flops_per_second": tokens / seconds * flops,
        "flops_per_token": flops,
        "peak_bytes": peak,
        "seconds": round(seconds, 2),
    }


def flops_of_reading(config: EncoderConfig, passages: Passages, *, asked: float) -> float:
    """Return multiplications and additions a token: layers, attention, and the head where asked."""
    width, inner = config.hidden_size, config.feed_forward_size
    dense = config.layers * (4 * width * width + 2 * width * inner)
    lengths = np.asarray(passages.lengths, dtype=np.float64)
    context = float((lengths**2).sum() / lengths.sum())  # tokens that a token attends to
    attention = config.layers * 2 * width * context
    head = asked * (width * width + width * config.vocabulary_size)
    return 2.0 * (dense + attention + head)


def flops_of_training(config: EncoderConfig, passages: Passages, *, asked: float) -> float:
    """Return those of a forward and a backward pass, which does each product twice."""
    return 3.0 * flops_of_reading(config, passages, asked=asked)


def bf16_rate(size: int, device: torch.device) -> float:
    """Return the operations a second of a large bf16 product: what the card can do."""
    one, other = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(20):
        _wait(device)
        began = time.perf_counter()
        one @ other
        _wait(device)
        times.append(time.perf_counter() - began)
    return 2.0 * size**3 / float(np.median(times))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


# Presets


def presets(place: Place, scale: Scale) -> dict[str, Any]:
    """Compare the presets as `experiment_general` does, on more text."""
    comparison = Comparison(plan_of(place, scale), place.work / "presets")
    comparison.cut()
    students = {}
    for name in PRESETS:
        report = json.loads(comparison.student(name).with_suffix(".json").read_text())
        told = ("start", "held_out", "seconds", "steps", "train_tokens")
        students[name] = {key: report[key] for key in told}
    cells = list(comparison.cells())
    return {
        "tokens": scale.tokens,
        "students": students,
        "rows": summary(cells),
        "between_presets": between_presets(cells),
    }


def plan_of(place: Place, scale: Scale) -> Plan:
    texts = settings_of_texts(scale)
    tasks = TASKS if not scale.is_tiny else (replace(TASKS[0], rows=64, seeds=1, epochs=1.0),)
    return Plan(
        pretrained=place.pretrained,
        data=place.data,
        corpus=place.corpus,
        tokens=scale.tokens,
        head_tokens=scale.head_tokens,
        layers=scale.layers,
        tasks=tasks,
        corpus_settings=texts,
        **place.how,
    )


def settings_of_texts(scale: Scale) -> dict[str, Any]:
    settings: dict[str, Any] = {"step_tokens": scale.step_tokens}
    settings["batch_tokens"] = scale.batch_tokens
    if scale.is_tiny:
        settings |= {"held_out_documents": 5, "scores": 1, "max_length": 32}
        settings["learning_rate"] = 5e-3
    return settings


# The whole way


def scaled(place: Place, scale: Scale) -> dict[str, Any]:
    """Train a BERT from scratch, distil a DistilBERT of it, tune both; retention where solved."""
    teacher, student = place.work / "scaled-bert", place.work / "scaled-distilbert"
    folder = place.work / "scaled-corpus"
    texts = settings_of_texts(scale)
    reports: dict[str, Any] = {}
    if not teacher.exists():
        report = potstill.finetune(
            *(place.pretrained, list(place.corpus), teacher),
            task="masked-lm",
            scratch=scale.scratch,
            corpus_folder=folder,
            tokens=scale.teacher_tokens,
            **texts,
            **place.how,
        )
        _keep(teacher, report.to_json())
    if not student.exists():
        settings = asdict(distilbert()) | texts | {"tokens": scale.student_tokens}
        report = potstill.distill(teacher, student, corpus=folder, **place.how, **settings)
        _keep(student, report.to_json())
    for name, bundle in (("teacher", teacher), ("student", student)):
        reports[name] = json.loads(bundle.with_suffix(".json").read_text())
    tasks = SCALED_TASKS
    if scale.is_tiny:
        tasks = (replace(SCALED_TASKS[0], rows=64, epochs=1.0),)
    rows = [tuned_pair(place, scale, task, teacher, student) for task in tasks]
    return {
        "teacher_tokens": scale.teacher_tokens,
        "student_tokens": scale.student_tokens,
        "texts": reports,
        "rows": rows,
    }


def tuned_pair(
    place: Place, scale: Scale, task: TaskPlan, teacher: Path, student: Path
) -> dict[str, Any]:
    """Tune both on one task; the student learns from labels alone, as DistilBERT did."""
    del scale
    reader = Comparison(_reading(place), place.work)
    judged = {}
    for name, start in (("teacher", teacher), ("student", student)):
        out = place.work / "scaled-tuned" / f"{task.name}-{name}"
        if not out.exists():
            out.parent.mkdir(exist_ok=True)
            rows = reader.rows(task, task.train, task.rows)
            settings = {"epochs": task.epochs, "primary": task.primary}
            potstill.finetune(start, rows, out, task=task.kind, **settings, **place.how)
        judged[name] = judge_model(
            out,
            TestSet(rows=reader.rows(task, task.test)),
            primary=task.primary,
            index=None,
            **place.how,
        )
    ours, theirs = judged["student"], judged["teacher"]
    model = open_model(place.work / "scaled-tuned" / f"{task.name}-teacher")
    metric = _metric(model, theirs.primary)
    sides = {name: [np.asarray(each.statistics)] for name, each in judged.items()}
    is_solved = is_above(metric, sides["teacher"], [np.asarray(theirs.trivial)])
    kept = retention(metric, sides["student"], sides["teacher"]) if is_solved else None
    return {
        "task": task.name,
        "metric": theirs.primary,
        "teacher": point(metric, np.asarray(theirs.statistics)),
        "student": point(metric, np.asarray(ours.statistics)),
        "trivial": point(metric, np.asarray(theirs.trivial)),
        "is_solved": is_solved,
        "retention": None if kept is None else asdict(kept),
    }


def _metric(model: Any, name: str) -> Any:
    from potstill.runtime.answering import task_of_folder

    return task_of_folder(model).metric(name)


def _reading(place: Place) -> Plan:
    return Plan(
        pretrained=place.pretrained, data=place.data, corpus=(), tokens=0, head_tokens=0, tasks=()
    )


def _keep(bundle: Path, report: Mapping[str, Any]) -> None:
    bundle.with_suffix(".json").write_text(json.dumps(report, default=str))


STAGES: Mapping[str, Callable[[Place, Scale], dict[str, Any]]] = {
    "speed": speed,
    "presets": presets,
    "scaled": scaled,
}


if __name__ == "__main__":
    main()
