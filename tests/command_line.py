"""The command line at work: rows to train on, the arguments of a quick run, and what was said."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from potstill.cli.main import run
from tests.tiny import WORDS

FIRST_PLAIN_WORD = 5
QUICK = ("--threads", "1", "--set", "precision=fp32")


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended and what stood on its two outputs."""

    status: int
    out: str
    err: str

    @property
    def answer(self) -> dict[str, Any]:
        """Return the one JSON object on standard output."""
        assert self.status == 0, self.err
        (line,) = self.out.splitlines()
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    @property
    def pairs(self) -> dict[str, str]:
        """Return the tab-separated pairs of a plain answer."""
        assert self.status == 0, self.err
        return dict(line.split("\t") for line in self.out.splitlines())

    @property
    def complaint(self) -> str:
        """Return the one line on standard error that is not progress."""
        (line,) = [line for line in self.err.splitlines() if not line.startswith("step ")]
        assert line.startswith("potstill: ")
        assert self.out == ""
        return line.removeprefix("potstill: ")


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> Said:
    """Run a command in this process."""
    capsys.readouterr()
    threads = torch.get_num_threads()
    try:
        status = run([str(argument) for argument in arguments])
    finally:
        torch.set_num_threads(threads)
    captured = capsys.readouterr()
    return Said(status, captured.out, captured.err)


def said_apart(*arguments: object, **options: Any) -> Said:
    """Run a command in a process of its own."""
    child = subprocess.run(
        command(*arguments), capture_output=True, text=True, check=False, timeout=120, **options
    )
    return Said(child.returncode, child.stdout, child.stderr)


def command(*arguments: object) -> list[str]:
    """Return the words of a command for a process of its own."""
    return [sys.executable, "-m", "potstill", *map(str, arguments)]


def finetuning(model: object, train: object, out: object, *more: object) -> list[object]:
    """Return the words of a quick fine-tuning."""
    return ["finetune", "--model", model, "--train", train, "--out", out, *QUICK, *more]


def write_rows(file: Path, *, count: int = 60, seed: int = 0) -> Path:
    """Write texts of tiny words whose last one tells the class."""
    rng = np.random.default_rng(seed)
    rows = []
    for row in range(count):
        words = [*rng.choice(WORDS[FIRST_PLAIN_WORD:], rng.integers(3, 9)), "great"]
        rows.append({"text": " ".join(words), "label": "praise"})
        if row % 2:
            rows[-1] = {"text": " ".join([*words[:-1], "awful"]), "label": "blame"}
    return write_jsonl(file, *rows)


def write_jsonl(file: Path, *rows: Mapping[str, object]) -> Path:
    """Write one JSON object a line."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def tree_of(folder: Path) -> dict[str, bytes | None]:
    """Return all that lies in a folder: the bytes of files, None for folders."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def require_undelivered(
    capsys: pytest.CaptureFixture[str], words: Sequence[object], out: Path, *told: str
) -> None:
    """Check that a run fails at work, says so in these words, and leaves no bundle."""
    found = said(capsys, *words)
    assert found.status == 1
    for part in told:
        assert part in found.err
    assert not out.exists()
