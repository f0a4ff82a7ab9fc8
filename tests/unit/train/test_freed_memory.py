"""Freed memory is handed back when it has piled up, and not before."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from potstill.train.freed_memory import FreedMemory


def told_of(helds: list[int], *, is_kept: bool = True) -> list[int]:
    """Return after which steps all was handed back, if so much is held after each."""
    now, given_back = [0], []

    def give_back() -> bool:
        given_back.append(now[0])
        return True

    memory = FreedMemory(held=lambda: helds[now[0]], give_back=give_back, is_kept=is_kept)
    for step in range(len(helds)):
        now[0] = step
        memory.after_step()
    return given_back


def test_it_is_handed_back_when_a_fifth_more_is_held_than_ten_steps_needed() -> None:
    ten = [80, 100, 90, 70, 100, 60, 80, 90, 100, 100]
    assert told_of([*ten, 110, 120, 121, 100]) == [12]
    assert told_of([*ten, 121, *ten, 115, 121]) == [10, 22]


def test_large_steps_at_the_beginning_are_no_pile() -> None:
    assert told_of([100, 1000, *[500] * 30]) == []


def test_where_nothing_is_kept_nothing_is_handed_back() -> None:
    assert told_of([100] * 10 + [1000] * 5, is_kept=False) == []


_FRAGMENTS = """
from potstill.hardware import give_back_freed_memory, keep_freed_memory
from potstill.measure.memory import resident_bytes
import torch
keep_freed_memory()
large, small = [], []
for _ in range(100):  # 4 MB blocks between small ones that stay
    large.append(torch.ones(1_000_000))
    small.append(torch.ones(1_000))
large.clear()
piled = resident_bytes()
assert give_back_freed_memory()
print(piled - resident_bytes())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep nothing")
def test_what_lies_free_between_blocks_in_use_goes_too() -> None:
    told = subprocess.run([sys.executable, "-c", _FRAGMENTS], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert int(told.stdout) > 300 * 2**20
