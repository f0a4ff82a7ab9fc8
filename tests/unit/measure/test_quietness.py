"""Other work is seen in the counters of the cores."""

from __future__ import annotations

import pytest

from potstill.measure.quietness import busy_between, busy_cores, times_of_cores

STAT = """cpu  30 0 10 200 0 0 0 0 0 0
cpu0 10 0 5 100 0 0 0 0 0 0
cpu1 20 0 5 100 0 0 0 0 0 0
intr 12345
"""


def test_each_core_has_its_counters():
    assert times_of_cores(STAT) == {
        0: [10, 0, 5, 100, 0, 0, 0, 0, 0, 0],
        1: [20, 0, 5, 100, 0, 0, 0, 0, 0, 0],
    }


def test_idle_and_waiting_for_a_disk_are_not_busy():
    before = {0: [0] * 10, 1: [0] * 10}
    after = {0: [25, 0, 25, 40, 10, 0, 0, 0, 0, 0], 1: [0, 0, 0, 100, 0, 0, 0, 0, 0, 0]}
    assert busy_between(before, after) == pytest.approx(0.5)


def test_time_of_guests_is_not_counted_twice():
    after = {0: [50, 0, 0, 50, 0, 0, 0, 0, 50, 0]}
    assert busy_between({0: [0] * 10}, after) == pytest.approx(0.5)


def test_a_core_that_did_not_tick_is_idle():
    assert busy_between({0: [1] * 10}, {0: [1] * 10}) == 0.0


def test_the_machine_tells_a_number_of_cores_or_nothing():
    found = busy_cores(0.02)
    assert found is None or 0 <= found <= 4096
