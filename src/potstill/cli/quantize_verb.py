"""`potstill quantize MODEL --precision int8 --out D`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from potstill.cli import flags
from potstill.cli.columns import columns_named

if TYPE_CHECKING:
    from potstill.report import Report


_CURE = (
    "give more test rows, a lower --floor, or a --precision that keeps more (int8-weights, bf16); "
    "the bundle stays, marked so in its README.md and in potstill info"
)


def quantize(  # noqa: PLR0913 - a verb's flags are its parameters
    model: Annotated[str, typer.Argument(help="Model folder, or hub:NAME.")],
    out: flags.Out,
    *,
    engine: Annotated[
        str, typer.Option(help="That reads the result: openvino, or onnx (int8 alone).")
    ] = "openvino",
    precision: Annotated[str, typer.Option(help="int8, int8-weights, int4 or bf16.")] = "int8",
    processor: Annotated[
        str,
        typer.Option(
            "--for",
            help="Where int8 is to be right: here, vnni (x86 with VNNI or AMX), avx2 (any x86), "
            "arm.",
        ),
    ] = "here",
    calibration: Annotated[
        str | None,
        typer.Option(
            help="Rows to fit int8 and int4 to, best of training; default: int8 to those of --dev, "
            "int4 to none."
        ),
    ] = None,
    dev: Annotated[str | None, typer.Option("--dev", help="Labelled rows for the gate.")] = None,
    test: Annotated[
        str | None, typer.Option("--test", help="Rows of the proof, answered once, at the end.")
    ] = None,
    floor: flags.Floor = None,
    accept: flags.Accept = None,
    keep_source: Annotated[
        bool, typer.Option("--keep-source", help="Keep the weights beside the quantized graph.")
    ] = False,
    tune: Annotated[
        bool,
        typer.Option(
            help="Measure the result beside its source here, about ten seconds, and store how it "
            "is run fastest."
        ),
    ] = True,
    primary: flags.Primary = None,
    text_column: flags.TextColumn = "text",
    text_pair_column: flags.TextPairColumn = "text_pair",
    label_column: flags.LabelColumn = "label",
    tokens_column: flags.TokensColumn = "tokens",
    tags_column: flags.TagsColumn = "tags",
    seed: flags.Seed = None,
    threads: flags.Threads = None,
    allow_pickle: flags.AllowPickle = False,
    json: flags.Json = False,
) -> None:
    """Make a model's numbers smaller, behind a gate."""
    from potstill.cli.render import print_progress
    from potstill.cli.render_training import evidence_printed, require_gate
    from potstill.workflows.quantize import QuantizeOptions
    from potstill.workflows.quantize import quantize as run

    options = QuantizeOptions(
        engine=engine,
        precision=precision,
        processor=processor,
        calibration=calibration,
        dev=dev,
        test=test,
        floor=floor,
        accept=accept,
        keep_source=keep_source,
        tune=tune,
        primary=primary,
        columns=columns_named(
            text_column, text_pair_column, label_column, tokens_column, tags_column
        ),
        seed=seed or 0,
        threads=threads,
        allow_pickle=allow_pickle,
    )
    with evidence_printed(as_json=json):
        report = run(model, Path(out), options, lambda line: print_progress(line, stays=True))
    _print(report, as_json=json)
    require_gate(report, accept=accept, cure=_CURE)


def _print(report: Report, *, as_json: bool) -> None:
    from potstill.cli.render import print_facts, print_json, print_line, print_report
    from potstill.metrics.gate import Gate

    if as_json:
        print_json(report.to_json())
        return
    details = report.details
    print_facts(
        {
            "engine": details["engine"],
            "precision": _precision(details),
            "bytes": f"{details['size_bytes']:,} (source: {details['source_bytes']:,})",
            "calibrated on": details["calibrated_on"] or "no texts",
            "size": f"{details['size_ratio']:.2f} of the source's",
            "speed": _speed(details),
            "in full precision": ", ".join(details["kept"]) or "none of the parts",
        }
    )
    print_report(report)
    if report.gate is not None:
        print_line(Gate(**report.gate).describe())


def _speed(details: Mapping[str, Any]) -> str:
    speed = details["speed"]
    if speed is None:
        return "not measured"
    compared = f"{speed['precisions']['copy']} beside {speed['precisions']['source']}"
    return (
        f"{speed['ratio']:.2f} times the source's, on one text {speed['ratio_of_one_text']:.2f} "
        f"({speed['engine']}, {compared}, threads: {speed['threads']})"
    )


def _precision(details: Mapping[str, Any]) -> str:
    made_for = details["processor"]
    return (
        f"{details['precision']}, for {made_for} processors" if made_for else details["precision"]
    )
