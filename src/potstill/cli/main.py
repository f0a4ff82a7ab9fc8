"""The entry point: find the verb, run it, turn errors into one line and an exit status."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable, Sequence
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
from potstill.cli.system_faults import mend_standard_streams, require_names_in_utf8, told
from potstill.errors import InputError, PotstillError, Stopped
from potstill.version import __version__

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Make a BERT-family model small, and prove what was lost and what was gained.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
# A verb's module holds flags only; what the verb needs is imported when it is called.
_MAKE, _JUDGE, _SERVE = "Make a model", "Judge and plan", "Serve it"
_VERBS: tuple[tuple[str, Callable[..., None], str, str, str], ...] = (  # by the order of work
    (
        *("shrink", shrink_verb.shrink, _MAKE),
        "Tune, distil, compare and write, in one command.",
        "potstill shrink --teacher MODEL --train train.jsonl --test test.jsonl --out small",
    ),
    (
        *("finetune", finetune_verb.finetune, _MAKE),
        "Make a task model from a pre-trained one.",
        "potstill finetune --model MODEL --train train.jsonl --dev dev.jsonl --out tuned",
    ),
    (
        *("distill", distill_verb.distill, _MAKE),
        "Make a small model of a teacher, on a task or on a corpus.",
        "potstill distill --teacher tuned --train train.jsonl --layers 3 --out small",
    ),
    (
        *("quantize", quantize_verb.quantize, _MAKE),
        "Make a model's numbers smaller, behind a gate.",
        "potstill quantize small --calibration train.jsonl --dev dev.jsonl --floor 0.99 "
        "--out small-int8",
    ),
    (
        *("export", export_verb.export, _MAKE),
        "Write a model as files that other runtimes load.",
        "potstill export small --out small-onnx --quantized",
    ),
    (
        *("info", info_verb.info, _JUDGE),
        "Show what a model folder holds.",
        "potstill info hub:distilbert/distilbert-base-uncased",
    ),
    (
        *("evaluate", evaluate_verb.evaluate, _JUDGE),
        "Judge a model on labelled rows.",
        "potstill evaluate small --test test.jsonl",
    ),
    (
        *("compare", compare_verb.compare, _JUDGE),
        "Measure models side by side.",
        "potstill compare tuned small --test test.jsonl --html report.html",
    ),
    (
        *("suite", suite_verb.suite, _JUDGE),
        "Measure retention over tasks and seeds.",
        "potstill suite recipes/shared_data.toml --data DATA --out RUNS",
    ),
    (
        *("forecast", forecast_verb.forecast, _JUDGE),
        "Measure what a training on a corpus will cost.",
        "potstill forecast --teacher lm --corpus wiki.txt.xz --layers 3 --out small",
    ),
    (
        *("demo", demo_verb.demo, _JUDGE),
        "Shrink the packaged model on example data, in minutes.",
        "potstill demo",
    ),
    (
        *("predict", predict_verb.predict, _SERVE),
        "Answer texts.",
        "potstill predict small 'where is my parcel?' --json",
    ),
    (
        *("embed", embed_verb.embed, _SERVE),
        "Turn texts into vectors.",
        "potstill embed MODEL --input texts.csv --text-column body --output vectors.npy",
    ),
    (
        *("tune", tune_verb.tune, _SERVE),
        "Measure which engine serves a model best here.",
        "potstill tune small",
    ),
)
for _name, _verb, _panel, _help, _example in _VERBS:
    app.command(_name, help=_help, epilog=f"Example: {_example}", rich_help_panel=_panel)(_verb)


# Loading modules makes hundreds of thousands of objects and no garbage; to look for it after every
# 700 of them, as Python does, takes a twentieth of a second of each start.
_OBJECTS_BEFORE_COLLECTING = 20_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit status."""
    mend_standard_streams()
    gc.set_threshold(_OBJECTS_BEFORE_COLLECTING, *gc.get_threshold()[1:])
    _heed(_interrupt)  # so that what is half written is taken away
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status; a user's mistake never shows a traceback."""
    try:
        require_names_in_utf8(arguments)
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
    except Exception as error:
        refused = told(error)
        if refused is None:
            raise
        print_error(str(refused))
        return refused.exit_status
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


def _heed(handler: Callable[[int, FrameType | None], None]) -> None:
    """Let a handler have every signal that asks to end, but for those that are to be ignored."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # Windows has no last one
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:  # nohup's wish
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    _heed(_pass_over)
    raise KeyboardInterrupt


def _pass_over(number: int, frame: FrameType | None) -> None:
    """Do nothing: a second signal would break off the cleaning that the first one began."""
    del number, frame


def _usage_line(error: TyperException) -> str:
    message = getattr(error, "format_message", lambda: str(error))()
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "potstill"
    return f"{' '.join(message.split())} (see {command} --help)"
