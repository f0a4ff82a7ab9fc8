"""`potstill export MODEL --format onnx --out D`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from potstill.cli import flags

if TYPE_CHECKING:
    from potstill.report import Report


def export(  # noqa: PLR0913 - a verb's flags are its parameters
    model: Annotated[str, typer.Argument(help="Model folder, or hub:NAME.")],
    out: flags.Out,
    *,
    form: Annotated[str, typer.Option("--format", help="onnx, openvino or hf.")] = "onnx",
    quantized: Annotated[
        bool, typer.Option("--quantized", help="Of ONNX: a second file with int8 weights.")
    ] = False,
    check: Annotated[
        str | None, typer.Option(help="Rows that the check reads; default: sentences of ours.")
    ] = None,
    text_column: flags.TextColumn = "text",
    allow_pickle: flags.AllowPickle = False,
    json: flags.Json = False,
) -> None:
    """Write a model as files that other runtimes load."""
    from potstill.workflows.export import ExportOptions
    from potstill.workflows.export import export as run

    options = ExportOptions(
        format=form,
        quantized=quantized,
        check=check,
        text_column=text_column,
        allow_pickle=allow_pickle,
    )
    _print(run(model, Path(out), options), as_json=json)


def _print(report: Report, *, as_json: bool) -> None:
    from potstill.cli.render import print_json, print_report, print_table

    if as_json:
        print_json(report.to_json())
        return
    checked = report.details["checked"]
    if checked:
        rows = [
            [
                name,
                f"{report.details['files'][name]:,}",
                f"{found['largest_difference']:.1e}",
                f"{found['largest_state_difference']:.1e}",
                _share(found["same_decisions"]),
                "-" if found["least_cosine"] is None else f"{found['least_cosine']:.4f}",
            ]
            for name, found in checked.items()
        ]
        rows += [
            [name, f"{size:,}", *["-"] * 4]
            for name, size in report.details["files"].items()
            if name not in checked  # OpenVINO's numbers, a file of their own
        ]
        header = ["file", "bytes", "largest difference", "of hidden states"]
        header += ["same decisions", "least cosine"]
        print_table(header, rows)
    print_report(report)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
