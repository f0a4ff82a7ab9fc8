"""Freed memory is handed back when it has piled up, and not before."""

from __future__ import annotations

import platform
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from potstill.bundle.opening import open_model
from potstill.freed_memory import FreedMemory
from potstill.runtime.torch_engine import load_torch_engine
from tests.folders import write_tiny_model
from tests.tiny import random_batch


@dataclass
class Machine:
    """A process whose batches leave pieces behind, and whose clock stands still between them."""

    needs: int = 100  # bytes, of a batch that begins clean
    piece: int = 5  # bytes, left behind by each
    batch_s: float = 10.0
    giving_back_s: float = 0.1
    now: float = 0.0
    held: int = 0
    given_back: list[float] = field(default_factory=list)

    def give_back(self) -> bool:
        self.now += self.giving_back_s
        self.given_back.append(self.now)
        self.held = 0
        return True

    def run(self, batches: int, *, is_kept: bool = True) -> int:
        """Compute some batches; return the most that was held after one."""
        memory = FreedMemory(
            held=lambda: self.held,
            give_back=self.give_back,
            clock=lambda: self.now,
            is_kept=is_kept,
        )
        most = 0
        for _ in range(batches):
            self.now += self.batch_s
            self.held = max(self.held, self.needs) + self.piece
            most = max(most, self.held)
            memory.after_batch()
        return most


def test_what_is_held_stays_within_a_fifth_of_what_a_batch_needs_however_long_it_runs() -> None:
    machine = Machine()
    assert machine.run(1000) <= 1.2 * 105 + machine.piece
    assert len(machine.given_back) == 1000 // 6  # every sixth step: the bound does not rise


def test_only_batches_that_began_clean_teach_what_is_needed() -> None:
    machine = Machine()
    memory = FreedMemory(
        held=lambda: machine.held, give_back=machine.give_back, clock=lambda: machine.now
    )
    bounds = []
    for held in [100, 119, 130, 140, 150, 145]:  # handed back after the third and the fifth
        machine.now += 100.0
        machine.held = held
        memory.after_batch()
        bounds.append(memory.bound())
    assert bounds == pytest.approx([1.2 * 100] * 3 + [1.2 * 120] * 2 + [1.2 * 385 / 3])
    assert len(machine.given_back) == 2


def test_short_batches_are_not_made_to_wait_for_it() -> None:
    machine = Machine(batch_s=0.05, piece=50)
    machine.run(1000)
    assert machine.now * 0.02 >= 0.1 * (len(machine.given_back) - 1) > 0


def test_where_nothing_is_kept_nothing_is_handed_back() -> None:
    machine = Machine()
    assert machine.run(100, is_kept=False) == 100 + 100 * machine.piece
    assert machine.given_back == []


_FRAGMENTS = """
from potstill.freed_memory import FreedMemory
from potstill.hardware import give_back_freed_memory, keep_freed_memory
from potstill.held_memory import resident_bytes
import torch
keep_freed_memory()
large, small = [], []
for _ in range(100):  # 4 MB blocks between small ones that stay
    large.append(torch.ones(1_000_000))
    small.append(torch.ones(1_000))
large.clear()
piled = resident_bytes()
assert {hand_back}
print(piled - resident_bytes())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep nothing")
@pytest.mark.parametrize(
    "hand_back",
    [
        "give_back_freed_memory()",
        "FreedMemory().is_kept",  # a run begins with nothing free, whatever was done before it
    ],
)
def test_what_lies_free_between_blocks_in_use_goes_too(hand_back: str) -> None:
    script = _FRAGMENTS.format(hand_back=hand_back)
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert int(told.stdout) > 300 * 2**20


def test_an_engine_of_torch_hands_back_what_its_calls_left(tmp_path: Path) -> None:
    engine = load_torch_engine(open_model(write_tiny_model(tmp_path / "model")), device="cpu")
    held = iter([100, 110, 150, 100])
    given_back = []
    engine._freed = FreedMemory(
        held=lambda: next(held), give_back=lambda: given_back.append(1) or True, is_kept=True
    )
    for _ in range(4):
        engine.run(random_batch([5, 3], seed=0), ["vectors"])
    assert given_back == [1], "after the third call alone, which held a half more than needed"
