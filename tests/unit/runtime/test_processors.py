"""Kinds of processors, told from flags that are made up."""

from __future__ import annotations

import platform

import pytest

from potstill.runtime import processors
from potstill.runtime.processors import PROCESSORS, processor_here, runs_here


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ({"sse4_1", "avx2", "avx512f", "avx512_vnni"}, "vnni"),
        ({"avx2", "avx_vnni"}, "vnni"),
        ({"avx2", "amx_int8"}, "vnni"),
        ({"avx2"}, "avx2"),
        ({"avx2", "avx512f", "avx512bw"}, "avx2"),
        ({"sse4_1"}, "avx2"),
        ({"fp", "asimd", "i8mm"}, "arm"),
    ],
)
def test_the_kind_is_told_from_flags(flags: set[str], kind: str, monkeypatch) -> None:
    monkeypatch.setattr(processors, "cpu_flags", lambda: frozenset(flags))
    assert processor_here() == kind


@pytest.mark.parametrize(
    ("machine", "kind"),
    [("arm64", "arm"), ("aarch64", "arm"), ("x86_64", "avx2"), ("AMD64", "avx2")],
)
def test_where_no_flags_are_told_nothing_can_saturate(machine: str, kind: str, monkeypatch) -> None:
    monkeypatch.setattr(processors, "cpu_flags", frozenset)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert processor_here() == kind


@pytest.mark.parametrize(
    ("made_for", "right_on"),
    [
        (None, {"vnni", "avx2", "arm"}),
        ("avx2", {"vnni", "avx2", "arm"}),
        ("vnni", {"vnni", "arm"}),
        ("arm", {"vnni", "arm"}),
        ("of a later release", set()),
    ],
)
def test_only_the_full_range_on_avx2_is_wrong(
    made_for: str | None, right_on: set[str], monkeypatch
) -> None:
    found = set()
    for kind in PROCESSORS:
        monkeypatch.setattr(processors, "processor_here", lambda kind=kind: kind)
        if runs_here(made_for):
            found.add(kind)
    assert found == right_on
