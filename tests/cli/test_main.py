"""The entry point: help, version, usage errors, signals and outputs that cannot be written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import get_args

import pytest

import potstill
from potstill.cli import flags, render
from potstill.workflows import distill_recipe, finetune, general_recipe, masked_lm
from tests.command_line import command, said, said_apart
from tests.folders import write_tiny_model

BUFFERED = os.environ | {"PYTHONUNBUFFERED": ""}  # so that a short answer waits for the end
VERBS = ("info", "finetune", "embed", "demo")

USAGE = {
    "an unknown verb": (["frobnicate"], "No such command 'frobnicate'", "potstill --help"),
    "an unknown flag": (["info", "--nope", "x"], "No such option: --nope", "info --help"),
    "an unknown flag of all": (["--nope"], "No such option: --nope", "potstill --help"),
    "a missing argument": (["info"], "Missing argument", "info --help"),
    "a missing option": (["finetune", "--model", "m"], "--train", "finetune --help"),
    "one argument too many": (["info", "a", "b"], "b", "info --help"),
    "not a number": (
        ["finetune", "--model", "m", "--train", "t", "--out", "o", "--epochs", "x"],
        "--epochs",
        "finetune --help",
    ),
    "a seed below zero": (
        ["finetune", "--model", "m", "--train", "t", "--out", "o", "--seed", "-1"],
        "--seed",
        "finetune --help",
    ),
    "no thread": (["embed", "m", "--input", "i", "--output", "o", "--threads", "0"], "--threads",
        "embed --help"),
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("main") / "model")


@pytest.mark.parametrize("case", USAGE)
def test_wrong_usage_is_one_line_that_points_to_the_help(
    capsys: pytest.CaptureFixture[str], case: str
) -> None:
    arguments, named, help_of = USAGE[case]
    told = said(capsys, *arguments)
    assert told.status == 2
    assert named in told.complaint
    assert told.complaint.endswith(f"{help_of})")


def test_wrong_usage_in_a_process_of_its_own() -> None:
    told = said_apart("frobnicate")
    assert told.status == 2
    assert "No such command 'frobnicate'" in told.complaint


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_without_a_verb_the_help_names_them_all(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    told = said(capsys, *arguments)
    assert told.status == 0
    assert told.err == ""
    assert [verb for verb in VERBS if f" {verb} " in told.out] == list(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    told = said(capsys, verb, "--help")
    assert told.status == 0
    assert "--json" in told.out


def test_the_help_names_every_recipe() -> None:
    of_texts, of_students = set(masked_lm.RECIPES), set(general_recipe.PRESETS)
    for flag, names in [
        (flags.FinetuneRecipeName, {*finetune.RECIPES, *of_texts}),
        (flags.DistillRecipeName, {*distill_recipe.RECIPES, *of_students}),
        (flags.ForecastRecipeName, {*of_texts, *of_students}),
    ]:
        told = get_args(flag)[1].help
        assert names <= set(re.findall(r"[\w-]+", told))


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "--version").out == f"potstill {potstill.__version__}\n"
    assert potstill.__version__ == metadata.version("potstill")


def test_a_reader_who_has_seen_enough_is_no_error(model: Path) -> None:
    for json in ([], ["--json"]):
        child = subprocess.Popen(
            command("info", model, *json),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=BUFFERED,
        )
        child.stdout.close()
        assert child.stderr.read() == ""
        child.stderr.close()
        assert child.wait(timeout=60) == 0


INTERRUPTED = """
import os, signal, sys
from pathlib import Path
from potstill.cli import main
from potstill.files import folder_whole_or_absent

first, *others = [getattr(signal, name) for name in sys.argv[2:]]

def work(model: str) -> None:
    with folder_whole_or_absent(Path(model)) as staging:
        (staging / "half").touch()
        try:
            os.kill(os.getpid(), first)
        finally:
            for each in others:
                os.kill(os.getpid(), each)

main.app = main.typer.Typer()
main.app.callback()(lambda: None)
main.app.command("work")(work)
main.main(["work", sys.argv[1]])
"""


@pytest.mark.parametrize("first", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_that_come_while_it_cleans_up_do_not_break_that_off(
    first: str, tmp_path: Path
) -> None:
    words = [tmp_path / "out", first, "SIGINT", "SIGTERM", "SIGHUP"]
    child = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *words], stderr=subprocess.PIPE, text=True
    )
    assert child.returncode == 130
    assert child.stderr == "potstill: interrupted; to mend it: repeat the command\n"
    assert list(tmp_path.iterdir()) == []


def test_what_nohup_asks_for_is_heeded(tmp_path: Path) -> None:
    child = subprocess.run(
        ["nohup", sys.executable, "-c", INTERRUPTED, tmp_path / "out", "SIGHUP"],
        capture_output=True,
    )
    assert child.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_mistake_that_nobody_hears_ends_as_it_would() -> None:
    child = subprocess.Popen(command("info", "nowhere"), stderr=subprocess.PIPE)
    child.stderr.close()
    assert child.wait(timeout=60) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, as Linux has it")
@pytest.mark.parametrize("json", [[], ["--json"]])
def test_an_output_that_is_full_is_told_in_one_line(model: Path, json: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        child = subprocess.run(
            command("info", model, *json),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=BUFFERED,
        )
    assert child.returncode == 1
    (line,) = child.stderr.splitlines()
    assert line.startswith("potstill: standard output: the answer cannot be written")


def test_what_a_foreign_folder_says_cannot_command_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    render.print_facts({"labels": ["a\tb", "c\nd", "\x1b[2Jgone"]})
    render.print_error("folder \x1b]0;title\x07: gone")
    captured = capsys.readouterr()
    assert captured.out == "labels\ta\\tb, c\\nd, \\x1b[2Jgone\n"
    assert captured.err == "potstill: folder \\x1b]0;title\\x07: gone\n"


def test_an_error_wipes_out_unfinished_progress_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    render.print_progress("step 1", stays=False)
    render.print_progress("step 2", stays=True)
    render.print_error("gone")
    wiped = "\r\033[2K"
    assert capsys.readouterr().err == f"{wiped}step 1{wiped}step 2\n{wiped}potstill: gone\n"


def test_memory_that_ends_where_nobody_foresaw_it_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    def describe(*_: object, **__: object) -> None:
        bytes(2**62)  # more than any machine has

    monkeypatch.setattr("potstill.workflows.info.describe", describe)
    told = said(capsys, "info", model)
    assert told.status == 1
    assert told.complaint.startswith("the machine has no memory left; to mend it: give fewer")
