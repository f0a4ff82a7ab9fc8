"""`compare`: models side by side, in size, memory, speed and quality on the same rows."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from potstill.architectures.counting import count_parameters
from potstill.bundle.folder import ModelFolder
from potstill.bundle.manifest import fingerprint
from potstill.bundle.opening import open_model
from potstill.data.columns import Columns
from potstill.errors import InputError, RecipeError
from potstill.files import require_writable_file, write_output
from potstill.hardware import chosen_threads, require_threads
from potstill.measure.machine import machine_facts
from potstill.measure.measuring import (
    Measurement,
    MeasurePlan,
    SideBySide,
    Tell,
    measure_models,
)
from potstill.measure.quietness import MOST_LOAD
from potstill.measure.sample_texts import SAMPLE_TEXTS
from potstill.recipe import require_range
from potstill.runtime.answering import inputs_of_rows, inputs_of_texts
from potstill.tasks.flips import flips_csv
from potstill.workflows.compared_answers import Judged, Proof, judge, read_proof
from potstill.workflows.comparison import ComparedModel, Comparison
from potstill.workflows.model_names import find_model, shown_names
from potstill.workflows.outputs import require_nothing_lost, require_suffix
from potstill.workflows.report_page.page import render_page, require_page_libraries
from potstill.workflows.shown_places import shown_path

_REPEATED = (  # options that decide what is found
    *("primary", "price_per_hour", "rounds", "max_length", "engine", "device", "precision", "seed"),
)
_SUFFIXES = {"--html": (".html", ".htm"), "--flips": (".csv",)}
_FEW_CALLS = 300  # below so many the 99th percentile is hardly more than the slowest call


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions:
    """What is compared with what, on what, and how it is measured."""

    baseline: str | None = None  # a path or shown name; None: the first model
    names: tuple[str, ...] = ()  # to show the models by; empty: their folders'
    test: object | None = None  # anything that read_rows takes; None: speed and size only
    primary: str | None = None  # metric of retention; None: the baseline's own, else accuracy
    html: Path | None = None  # the page to write
    flips: Path | None = None  # the CSV to write
    price_per_hour: float | None = None  # of this machine, in any currency
    rounds: int = 5  # timed rounds of each model
    columns: Columns = field(default_factory=Columns)
    max_length: int | None = None  # tokens; None: what each folder says
    engine: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None  # None: what affinity and quota allow
    seed: int = 0  # of the resampled intervals
    allow_pickle: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be measured, with the setting's name."""
        require_range("rounds", self.rounds, at_least=1)
        require_threads(self.threads)
        if self.price_per_hour is not None:
            require_range("price_per_hour", self.price_per_hour, above=0.0)
        if self.flips is not None and self.test is None:
            raise RecipeError("flips need answers to compare", where="--flips", cure="add --test F")


def compare(
    models: Sequence[str | Path], options: CompareOptions, *, tell: Tell | None = None
) -> Comparison:
    """Measure models side by side, each in a process of its own, in turns.

    Args:
        models: folders or hub names, at least one.
        options: see `CompareOptions`.
        tell: takes a line at each stage.

    Raises:
        InputError: wrong models, rows, labels or outputs; told before anything is measured.
        RunError: a model's process died, the disk is full.
    """
    _require_outputs(models, options)
    folders = {
        name: open_model(path, allow_pickle=options.allow_pickle)
        for name, path in _in_order(models, options).items()
    }
    proof = (
        read_proof(
            folders,
            options.test,
            options.columns,
            primary=options.primary,
            max_length=options.max_length,
            seed=options.seed,
        )
        if options.test is not None
        else None
    )
    task = next(iter(folders.values())).task
    measured = measure_models(
        [(name, folder.path) for name, folder in folders.items()],
        inputs_of_rows(proof.rows) if proof else inputs_of_texts(task, SAMPLE_TEXTS),
        _plan(options),
        rows=proof.rows.columns if proof else None,
        tell=tell or _say_nothing,
    )
    comparison = _put_together(folders, measured, proof, options)
    _write_outputs(comparison, options)
    return comparison


def repeating_command(models: Sequence[str], options: CompareOptions) -> str:
    """Return the command that repeats a comparison, without the places of this disk.

    Args:
        models: as a reader names them, the baseline first.
        options: of the comparison.
    """
    usual = CompareOptions()
    told = {name: getattr(options, name) for name in _REPEATED}
    asked = {name: value for name, value in told.items() if value != getattr(usual, name)}
    for ours, theirs in asdict(options.columns).items():
        if theirs != ours:
            asked[f"{ours}_column"] = theirs
    asked["threads"] = _plan(options).threads  # another machine may have more
    if options.test is not None:
        is_named = isinstance(options.test, str | Path)
        asked = {"test": shown_path(str(options.test)) if is_named else "TEST", **asked}
    flags = [(f"--{name.replace('_', '-')}", str(value)) for name, value in asked.items()]
    return shlex.join(["potstill", "compare", *models, *(word for flag in flags for word in flag)])


def _in_order(asked: Sequence[str | Path], options: CompareOptions) -> dict[str, str]:
    """Return the model of each shown name, the baseline first."""
    models = _named(asked)
    if not models:
        raise InputError("there is no model to compare", cure="name at least one")
    names = list(options.names) or shown_names(models)
    first = 0 if options.baseline is None else find_model(options.baseline, models, names)
    order = [first, *(place for place in range(len(models)) if place != first)]
    return {names[place]: models[place] for place in order}


def _named(asked: Sequence[str | Path]) -> list[str]:
    return [str(model) for model in ([asked] if isinstance(asked, str | Path) else asked)]


def _require_outputs(asked: Sequence[str | Path], options: CompareOptions) -> None:
    """Check where page and flips go; by their endings they are never the same file."""
    outputs = (("page", "--html", options.html), ("flips", "--flips", options.flips))
    for written, flag, file in outputs:
        if file is not None:
            require_writable_file(file)
            require_suffix(file, _SUFFIXES[flag], flag=flag)
            require_nothing_lost(file, written=written, rows=options.test, models=_named(asked))
    if options.html is not None:
        require_page_libraries()


def _plan(options: CompareOptions) -> MeasurePlan:
    return MeasurePlan(
        threads=options.threads or chosen_threads(),
        rounds=options.rounds,
        engine=options.engine,
        device=options.device,
        precision=options.precision,
        max_length=options.max_length,
    )


def _put_together(
    folders: Mapping[str, ModelFolder],
    side_by_side: SideBySide,
    proof: Proof | None,
    options: CompareOptions,
) -> Comparison:
    measured = dict(zip(folders, side_by_side.models, strict=True))
    judged = (
        judge(proof, {name: found.outputs for name, found in measured.items()}) if proof else None
    )
    baseline = side_by_side.models[0]
    return Comparison(
        models=tuple(
            _row(name, folders[name], baseline, found, judged, options.price_per_hour)
            for name, found in measured.items()
        ),
        machine=machine_facts(),
        method=_method(side_by_side, options),
        command=repeating_command(list(folders), options),
        test=judged.test if judged else None,
        agreement=judged.agreement if judged else {},
        flips=judged.flips if judged else {},
        warnings=(
            *_warnings_of_speed(measured, side_by_side.other_load),
            *_warnings_of_models(folders, measured),
            *(judged.warnings if judged else ()),
        ),
    )


def _row(
    name: str,
    folder: ModelFolder,
    baseline: Measurement,
    measured: Measurement,
    judged: Judged | None,
    price_per_hour: float | None,
) -> ComparedModel:
    return ComparedModel(
        name=name,
        architecture=folder.config.family,
        layers=folder.config.layers,
        parameters=count_parameters(folder.config, folder.head),
        size_bytes=folder.size_bytes(measured.engine, measured.precision),
        fingerprint=fingerprint(folder.path),
        measured=measured,
        speedup=baseline.percentiles_ms["p50"] / measured.percentiles_ms["p50"],
        cost_per_million=_cost(price_per_hour, measured.texts_per_second),
        quality=judged.quality[name] if judged else None,
        note=judged.note if judged else None,
    )


def _cost(price_per_hour: float | None, texts_per_second: float) -> float | None:
    """Return what a million texts cost at this throughput."""
    if price_per_hour is None:
        return None
    return price_per_hour / 3600 * 1e6 / texts_per_second


def _warnings_of_speed(
    measured: Mapping[str, Measurement], other_load: float | None
) -> Iterator[str]:
    if other_load is not None and other_load > MOST_LOAD:
        yield (
            f"other work kept {other_load:.1f} cores busy meanwhile, so speeds and latencies say "
            "little; repeat this on a quiet machine"
        )
    for name, found in measured.items():
        if found.is_disturbed:
            yield f"{name}: its slowest round took {found.drift:.1f} times its fastest one"
    calls = next(iter(measured.values())).latencies_ms.size
    if calls < _FEW_CALLS:
        yield f"p99 rests on {calls} timed calls a model: it is little more than the slowest one"


def _warnings_of_models(
    folders: Mapping[str, ModelFolder], measured: Mapping[str, Measurement]
) -> Iterator[str]:
    for name, found in measured.items():
        yield from (f"{name}: {warning}" for warning in folders[name].warnings())
        if found.truncated:
            yield f"{name}: {found.truncated:,} test rows were cut to the longest text it takes"
    if len({found.precision for found in measured.values()}) > 1:
        yield "the models ran in different precisions"


def _method(side_by_side: SideBySide, options: CompareOptions) -> dict[str, Any]:
    measured, load = side_by_side.models[0], side_by_side.other_load
    rounds, alone = measured.latencies_ms.shape
    return {
        "threads": _plan(options).threads,
        "rounds": rounds,
        "texts_one_by_one": alone,
        "timed_calls": rounds * alone,
        "texts_at_once": measured.texts_together,
        "interleaved": True,
        "busy_cores": None if load is None else round(load, 2),
        "texts": "sample sentences" if options.test is None else "test rows",
        "engine": measured.engine,
        "device": measured.device,
        "precision": measured.precision,
        "price_per_hour": options.price_per_hour,
        "seed": options.seed,
        "date": datetime.now(UTC).date().isoformat(),
    }


def _write_outputs(comparison: Comparison, options: CompareOptions) -> None:
    """Write the page and the flips, each whole or not at all."""
    files: dict[Path, bytes] = {}
    if options.html is not None:
        files[options.html] = render_page(comparison).encode()
    if options.flips is not None:
        files[options.flips] = flips_csv(comparison.flips)
    for file, content in files.items():
        write_output(file, content)


def _say_nothing(line: str) -> None:
    del line
