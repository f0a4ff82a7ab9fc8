"""What a process may use, told from files as Linux writes them."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from potstill import hardware
from potstill.errors import RecipeError

V2 = "/sys/fs/cgroup/cpu.max"
V1_QUOTA = "/sys/fs/cgroup/cpu/cpu.cfs_quota_us"
V1_PERIOD = "/sys/fs/cgroup/cpu/cpu.cfs_period_us"
CPUINFO = "/proc/cpuinfo"

Say = Callable[..., None]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Iterator[Say]:
    """Return a function that sets the content of system files; all others are absent."""

    def set_files(**contents: str) -> None:
        by_path = {{"v2": V2, "quota": V1_QUOTA, "period": V1_PERIOD, "cpu": CPUINFO}[name]: text
                   for name, text in contents.items()}  # fmt: skip

        def read_text(path: Path) -> str:
            if str(path) not in by_path:
                raise FileNotFoundError(path)
            return by_path[str(path)]

        monkeypatch.setattr(Path, "read_text", read_text)
        hardware.cpu_flags.cache_clear()

    yield set_files
    monkeypatch.undo()
    hardware.cpu_flags.cache_clear()


@pytest.mark.parametrize(
    ("files", "threads"),
    [
        ({}, 8),
        ({"v2": "max 100000\n"}, 8),
        ({"v2": "200000 100000\n"}, 2),
        ({"v2": "150000 100000\n"}, 2),
        ({"v2": "10000 100000\n"}, 1),
        ({"v2": "9900000 100000\n"}, 8),
        ({"v2": "nonsense\n"}, 8),
        ({"quota": "300000\n", "period": "100000\n"}, 3),
        ({"quota": "-1\n", "period": "100000\n"}, 8),
        ({"quota": "300000\n"}, 8),
    ],
)
def test_threads_are_the_least_of_affinity_and_quota(
    monkeypatch: pytest.MonkeyPatch, say: Say, files: dict[str, str], threads: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    say(**files)
    assert hardware.usable_threads() == threads


OWN_V2 = "0::/system.slice/texts.service\n"
OWN_V1 = "7:memory:/elsewhere\n4:cpu,cpuacct:/system.slice/texts.service\n1:cpuset:/elsewhere\n"


@pytest.mark.parametrize(
    ("own", "files", "threads"),
    [
        (OWN_V2, {"system.slice/texts.service/cpu.max": "200000 100000"}, 2),
        (OWN_V2, {"system.slice/cpu.max": "300000 100000"}, 3),
        (
            OWN_V2,
            {
                "cpu.max": "700000 100000",
                "system.slice/cpu.max": "300000 100000",
                "system.slice/texts.service/cpu.max": "max 100000",
            },
            3,
        ),
        (OWN_V2, {"system.slice/other.service/cpu.max": "100000 100000"}, 8),
        (OWN_V2, {"cpu.max": "100000 0"}, 8),
        (
            OWN_V1,
            {
                "cpu/system.slice/texts.service/cpu.cfs_quota_us": "150000",
                "cpu/system.slice/texts.service/cpu.cfs_period_us": "100000",
                "cpu/cpu.cfs_quota_us": "-1",
                "cpu/cpu.cfs_period_us": "100000",
            },
            2,
        ),
        (
            OWN_V1,
            {
                "cpu/elsewhere/cpu.cfs_quota_us": "100000",
                "cpu/elsewhere/cpu.cfs_period_us": "100000",
            },
            8,
        ),
        ("0::/docker/as-seen-from-outside\n", {"cpu.max": "400000 100000"}, 4),
        ("0::/../../outside\n", {"cpu.max": "400000 100000"}, 4),
        ("nonsense\n", {"cpu.max": "400000 100000"}, 4),
        (None, {"cpu.max": "400000 100000"}, 4),
    ],
)
def test_the_least_quota_from_the_own_cgroup_up_to_the_root_holds(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    own: str | None,
    files: dict[str, str],
    threads: int,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    root = tmp_path / "mount"
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    (tmp_path / "cpu.max").write_text("100000 100000\n")  # outside of the mount: no limit
    if own is not None:
        (tmp_path / "own").write_text(own)
    monkeypatch.setattr(hardware, "_CGROUPS", root)
    monkeypatch.setattr(hardware, "_OWN_CGROUPS", tmp_path / "own")
    assert hardware.usable_threads() == threads


@pytest.mark.parametrize(
    ("asked", "threads"), [("3", 3), ("99", 8), ("0", 8), ("", 8), ("many", 8), (None, 8)]
)
def test_omp_num_threads_is_heeded_where_it_asks_for_fewer(
    monkeypatch: pytest.MonkeyPatch, say: Say, asked: str | None, threads: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    say()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert hardware.chosen_threads() == threads


@pytest.mark.parametrize("processors", [1, 2, 64, None])
def test_threads_far_above_the_processors_are_refused(
    monkeypatch: pytest.MonkeyPatch,
    processors: int | None,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    most = {64: 256}.get(processors or 1, 16)
    for allowed in (None, 1, 2, most):
        hardware.require_threads(allowed)
    for asked in (-1, 0, most + 1, 1_000_000):
        with pytest.raises(RecipeError, match=f"threads is {asked}.*allowed: 1 to {most}"):
            hardware.require_threads(asked)


def test_without_affinity_the_processors_are_counted(
    monkeypatch: pytest.MonkeyPatch, say: Say
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    say()
    for counted, threads in ((6, 6), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda counted=counted: counted)
        assert hardware.usable_threads() == threads


@pytest.mark.parametrize(
    ("lines", "has_bf16"),
    [
        ("processor: 0\nflags\t\t: fpu avx512f avx512_bf16\n", True),
        ("flags\t\t: fpu amx_bf16\n", True),
        ("Features\t: fp asimd bf16\n", True),
        ("flags\t\t: fpu avx512f avx512bf16x\n", False),
        ("processor: 0\n", False),
    ],
)
def test_bf16_is_read_from_the_flags(say: Say, lines: str, has_bf16: bool) -> None:  # noqa: FBT001
    say(cpu=lines)
    assert hardware.cpu_has_bf16() is has_bf16


def test_flags_are_those_of_the_first_processor_and_read_once(say: Say) -> None:
    say(cpu="flags : a b\n\nflags : c\n")
    assert hardware.cpu_flags() == {"a", "b"}
    assert hardware.cpu_flags() is hardware.cpu_flags()


def test_elsewhere_than_on_linux_nothing_is_claimed(
    monkeypatch: pytest.MonkeyPatch, say: Say
) -> None:
    say()
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert hardware.cpu_flags() == frozenset()
    assert hardware.cpu_has_bf16() is False
    assert hardware.cpu_name() == "arm64"


def test_the_name_is_the_one_that_the_system_tells(say: Say) -> None:
    say(cpu="processor : 0\nmodel name\t: Some CPU @ 3 GHz\nflags : a\n")
    assert hardware.cpu_name() == "Some CPU @ 3 GHz"


def test_on_this_machine_it_answers() -> None:
    assert 1 <= hardware.usable_threads() <= (os.cpu_count() or 1)
    assert hardware.cpu_name()


def test_large_blocks_go_back_while_something_loads_and_stay_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[tuple[int, int]] = []

    class Library:
        def __init__(self, name: object) -> None:
            assert name is None, "the process itself"

        def mallopt(self, option: int, value: int) -> int:
            told.append((option, value))
            return 1

    monkeypatch.setattr(hardware.ctypes, "CDLL", Library)
    with hardware.large_blocks_given_back():
        assert dict(told) == {-3: 2**20, -1: 2**21}
    assert dict(told) == {-3: 2**25, -1: 2**26}


def test_freed_memory_is_kept_where_glibc_is_and_nothing_breaks_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert hardware.keep_freed_memory() == (platform.libc_ver()[0] == "glibc")

    def no_library(name: object) -> object:
        raise OSError(f"no such library: {name}")

    monkeypatch.setattr(hardware.ctypes, "CDLL", no_library)
    assert not hardware.keep_freed_memory()
    with hardware.large_blocks_given_back():
        pass
    assert not hardware.give_back_freed_memory()
