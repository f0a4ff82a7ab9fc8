"""The entry point: find the verb, run it, turn errors into one line and an exit status."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Annotated

import typer
from typer.exceptions import TyperException

from potstill.cli import (
    compare_verb,
    demo_verb,
    distill_verb,
    embed_verb,
    evaluate_verb,
    export_verb,
    finetune_verb,
    forecast_verb,
    info_verb,
    predict_verb,
    quantize_verb,
    shrink_verb,
    suite_verb,
    tune_verb,
)
from potstill.cli.bare_options import with_values
from potstill.cli.render import flush_answer, print_error, print_line
from potstill.errors import InputError, PotstillError, Stopped
from potstill.version import __version__

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Make a BERT-family model small, and prove what was lost and what was gained.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
# A verb's module holds flags only; what the verb needs is imported when it is called.
app.command("info", help="Show what a model folder holds.")(info_verb.info)
app.command("finetune", help="Make a task model from a pre-trained one.")(finetune_verb.finetune)
app.command("compare", help="Measure models side by side.")(compare_verb.compare)
app.command("distill", help="Make a small model of a tuned teacher.")(distill_verb.distill)
app.command("forecast", help="Measure what a training on a corpus will cost.")(
    forecast_verb.forecast
)
app.command("export", help="Write a model as files that other runtimes load.")(export_verb.export)
app.command("quantize", help="Make a model's numbers smaller, behind a gate.")(
    quantize_verb.quantize
)
app.command("shrink", help="Tune, distil, compare and write, in one command.")(shrink_verb.shrink)
app.command("tune", help="Measure which engine serves a model best here.")(tune_verb.tune)
app.command("suite", help="Measure retention over tasks and seeds.")(suite_verb.suite)
app.command("evaluate", help="Judge a model on labelled rows.")(evaluate_verb.evaluate)
app.command("predict", help="Answer texts.")(predict_verb.predict)
app.command("embed", help="Turn texts into vectors.")(embed_verb.embed)
app.command("demo", help="Shrink the packaged model on example data, in minutes.")(demo_verb.demo)


# Loading modules makes hundreds of thousands of objects and no garbage; to look for it after every
# 700 of them, as Python does, takes a twentieth of a second of each start.
_OBJECTS_BEFORE_COLLECTING = 20_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit status."""
    gc.set_threshold(_OBJECTS_BEFORE_COLLECTING, *gc.get_threshold()[1:])
    signal.signal(signal.SIGTERM, _interrupt)  # so that what is half written is taken away
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status; a user's mistake never shows a traceback."""
    try:
        words = with_values(arguments) or ["--help"]
        status = app(words, prog_name="potstill", standalone_mode=False)
        flush_answer()
        if status == Stopped.exit_status:  # how typer tells a KeyboardInterrupt
            raise KeyboardInterrupt
    except PotstillError as error:
        print_error(str(error))
        return error.exit_status
    except TyperException as error:
        print_error(_usage_line(error))
        return InputError.exit_status
    except (KeyboardInterrupt, typer.Abort):
        print_error(str(Stopped("interrupted", cure="repeat the command")))
        return Stopped.exit_status
    return status if isinstance(status, int) else 0


@app.callback(invoke_without_command=True)
def _version(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.")
    ] = False,
) -> None:
    if version:
        print_line(f"potstill {__version__}")
        raise typer.Exit


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


def _usage_line(error: TyperException) -> str:
    message = getattr(error, "format_message", lambda: str(error))()
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "potstill"
    return f"{' '.join(message.split())} (see {command} --help)"
