"""Memory is counted in bytes, and a peak stays until it is forgotten."""

from __future__ import annotations

import mmap
import sys

import pytest

from potstill import held_memory

BLOCK = 64 * 2**20


def test_what_is_held_is_never_more_than_the_peak():
    held = held_memory.resident_bytes()
    assert 10 * 2**20 < held <= held_memory.peak_bytes()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux forgets a peak")
def test_a_peak_stays_after_the_block_is_gone_until_it_is_forgotten():
    held_memory.forget_peak()
    before = held_memory.peak_bytes()
    # Pages of its own: an allocator may hand out memory again that the process holds already.
    with mmap.mmap(-1, BLOCK) as block:
        for start in range(0, BLOCK, mmap.PAGESIZE):
            block[start] = 1
    assert held_memory.peak_bytes() - before > BLOCK // 2
    assert held_memory.resident_bytes() - before < BLOCK // 2
    held_memory.forget_peak()
    assert held_memory.peak_bytes() - before < BLOCK // 2


@pytest.mark.parametrize(("platform", "expected"), [("darwin", 3000), ("linux", 3_072_000)])
def test_macos_counts_bytes_and_all_others_kibibytes(platform: str, expected: int):
    assert held_memory.bytes_of_usage(3000, platform) == expected


def test_where_the_system_tells_only_a_peak_that_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path
):
    monkeypatch.setattr(held_memory, "_STATUS", tmp_path / "absent")
    monkeypatch.setattr(held_memory, "_CLEAR", tmp_path / "absent" / "too")
    held_memory.forget_peak()
    assert held_memory.resident_bytes() == held_memory.peak_bytes() > 10 * 2**20
