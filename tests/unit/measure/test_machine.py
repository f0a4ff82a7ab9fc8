"""The machine's facts: what decides about speed, nothing that tells whose machine it is."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from potstill.hardware import usable_threads
from potstill.measure.machine import machine_facts, numbers_of, quiet_cores, usable_memory_bytes


def test_the_facts_are_json_and_name_neither_host_nor_place():
    told = json.dumps(machine_facts())
    assert str(Path.home()) not in told
    assert str(Path.cwd()) not in told
    if len(platform.node()) > 3:
        assert platform.node() not in told


def test_the_facts_that_decide_about_speed_are_there():
    facts = machine_facts()
    assert facts["cores"] == usable_threads()
    assert facts["processor"]
    assert facts["memory_bytes"] == usable_memory_bytes() > 2**28
    assert facts["packages"]["numpy"]


def test_the_version_of_torch_is_told_without_importing_it():
    code = (
        "import sys; from potstill.measure.machine import machine_facts; "
        "print(machine_facts()['packages']['torch'], 'torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    version, is_imported = told.stdout.split()
    assert version[0].isdigit()
    assert is_imported == "False"


@pytest.mark.parametrize(
    ("ranges", "numbers"), [("0", [0]), ("0,4-6\n", [0, 4, 5, 6]), ("2-3", [2, 3])]
)
def test_ranges_of_cores_are_read(ranges: str, numbers: list[int]):
    assert numbers_of(ranges) == numbers


def test_as_many_cores_are_chosen_as_threads_run():
    cores = quiet_cores(1)
    if cores is None:
        pytest.skip("this system has no affinity")
    assert len(cores) == 1
    assert len(quiet_cores(10_000)) >= usable_threads()
