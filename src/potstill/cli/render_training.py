"""How the verbs that train show what they found."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from potstill.cli.render import (
    print_facts,
    print_json,
    print_line,
    print_report,
    print_table,
    print_warnings,
)
from potstill.cli.render_comparison import print_comparison
from potstill.errors import GateNotMet
from potstill.metrics.gate import Gate
from potstill.report import Report

_RANKED_SHOWN = 5
_MORE_TO_LEARN = "give more test rows, more unlabelled text or more layers; the bundle stays"
_TO_BE_SOLVED = "give test rows on which the teacher beats the trivial answer; the bundle stays"


def print_distillation(report: Report, *, as_json: bool) -> None:
    """Print the student, how it began, the ranking of layers, and the control beside it."""
    if as_json:
        print_json(report.to_json())
        return
    details = report.details
    if "held_out" in details:
        _print_held_out(report)
    else:
        if details["search"]:
            print_search(details["search"])
        _print_start(details)
    if "control" in details:
        _print_control(report, details["control"])
    print_report(report)


def _print_held_out(report: Report) -> None:
    """Print what a student of text loses at its start and in the end, beside its teacher."""
    details = report.details
    start, teacher = details["start"]["student"], details["start"]["teacher"]
    end = {**details["held_out"], **details["probes"]}
    end["held_out_loss"] = report.metrics["held_out_loss"].value
    rows = [
        [
            name,
            f"{start[name]:.4f}",
            f"{end[name]:.4f}",
            f"{teacher[name]:.4f}" if name in teacher else "-",
        ]
        for name in start
    ]
    print_table(["held-out text", "the cut", "student", "teacher"], rows)


def print_plan(steps: Iterable[str]) -> None:
    """Print what would be done, a step a line."""
    for step in steps:
        print_line(step)


def print_shrink(report: Report, *, as_json: bool) -> None:
    """Print the comparison, where everything lies, and what to do next."""
    if as_json:
        print_json(report.to_json())
        return
    details = report.details
    if details["search"]:
        print_search(details["search"][:_RANKED_SHOWN])
    print_comparison(details["comparison"])
    facts = {
        "bundle": str(report.bundle),
        "teacher": details["teacher"],
        "report": details["report"],
        "layers kept": " ".join(map(str, details["layers_kept"])),
        "fingerprint": report.fingerprint,
    }
    print_facts(facts)
    if report.gate is not None:
        print_line(_gate_of(report).describe())
    if details["quantized"] is not None:
        _print_quantized(details["quantized"])
    print_warnings(report.warnings)
    print_line(f"Next: potstill predict {report.bundle} 'your text'")
    print_line(f"      potstill info {report.bundle}")


@contextlib.contextmanager
def evidence_printed(*, as_json: bool) -> Iterator[None]:
    """Have what was tried printed as JSON when a gate refuses and nothing is made."""
    try:
        yield
    except GateNotMet as refusal:
        if as_json and refusal.evidence is not None:
            print_json(refusal.evidence)
        raise


def require_gate(report: Report, *, accept: str | None, cure: str | None = None) -> None:
    """Check the floor, where one was asked for; without a cure it is that of a student.

    Raises:
        GateNotMet: it fails, or it is undecided and the value alone was not accepted.
    """
    if report.gate is not None:
        _require_met(_gate_of(report), str(report.bundle), accept, cure)


def require_gates(report: Report, *, accept: str | None) -> None:
    """Check the floors of a student and of its quantized copy.

    Raises:
        GateNotMet: one is not met, or no copy kept enough on dev rows.
    """
    require_gate(report, accept=accept)
    small = report.details["quantized"]
    if small is None:
        return
    if small["refusal"] is not None:
        precision = small["precision"]
        texts = "--calibration TRAIN " if precision == "int8" else ""  # else those of dev
        raise GateNotMet(
            f"no quantized student: {small['refusal']}",
            where=str(report.bundle),
            cure=f"potstill quantize {report.bundle} --precision {precision} {texts}--dev DEV "
            f"--floor FLOOR --out {report.bundle}-{precision}, with a lower floor or "
            "--accept point; the student stays",
        )
    if small["gate_on_test"] is not None:
        _require_met(Gate(**small["gate_on_test"]), small["bundle"], accept)


def _require_met(gate: Gate, where: str, accept: str | None, cure: str | None = None) -> None:
    of_student = _TO_BE_SOLVED if gate.value is None else _MORE_TO_LEARN
    if not gate.is_met(accept):
        raise GateNotMet(gate.describe(), where=where, cure=cure or of_student)


def _print_quantized(small: Mapping[str, Any]) -> None:
    if small["refusal"] is not None:
        print_line(f"No quantized student: {small['refusal']}")
        return
    print_facts(
        {
            f"{small['precision']} bundle": small["bundle"],
            "its bytes": f"{small['size_bytes']:,}",
            "in full precision": ", ".join(small["kept"]) or "none of its parts",
        }
    )
    if small["gate"] is not None:
        print_line(f"On dev rows, beside the student: {Gate(**small['gate']).describe()}")
    if small["gate_on_test"] is not None:
        print_line(f"On test rows: {Gate(**small['gate_on_test']).describe()}")


def print_search(ranking: list[dict[str, Any]]) -> None:
    """Print the candidates of a layer search, the best first."""
    rows = [
        [
            " ".join(map(str, candidate["layers"])),
            f"{candidate['divergence']:.4f}",
            f"{candidate['agreement']:.4f}",
        ]
        for candidate in ranking
    ]
    print_table(["layers", "KL of a linear fit", "agreement"], rows, title="layer search")


def _gate_of(report: Report) -> Gate:
    assert report.gate is not None, "asked for where there is one"
    return Gate(**report.gate)


def _loss(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _print_start(details: Mapping[str, Any]) -> None:
    start = details["start"]
    if not start:  # of a foreign teacher no layer is known
        return
    rows = [
        [side, _loss(start[side]["hard_labels"]), _loss(start[side]["soft_targets"])]
        for side in ("teacher", "student")
    ]
    difference = start["embedding_difference"]
    how_exact = "" if difference is None else f" (embedding outputs differ by {difference:.1e})"
    title = f"before the first step{how_exact}"
    print_table(["dev loss", "to labels", "to teacher"], rows, title=title)


def _print_control(report: Report, control: Mapping[str, Any]) -> None:
    primary = report.details["primary"]
    rows = [
        ["student", *_run_cells(report.to_json(), primary)],
        [f"control ({control['control']})", *_run_cells(control, primary)],
    ]
    header = ["", f"{primary} (dev)", "steps", "tokens", "learning rate"]
    print_table(header, rows, title="student and control")


def _run_cells(told: Mapping[str, Any], primary: str) -> list[str]:
    return [
        f"{told['metrics'][primary]['value']:.4f}",
        f"{told['steps']:,}",
        f"{told['train_tokens']:,}",
        f"{told['learning_rate']:g}",
    ]
