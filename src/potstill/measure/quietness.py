"""How busy this machine is with other work: threads that wait for each other suffer most.

Where two threads meet at the end of every product and a third program wants one of their cores,
a text takes a hundred times as long. No figure taken then is worth anything, so it is told.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

MOST_LOAD = 0.3  # cores busy with other work that still count as quiet

_STAT = Path("/proc/stat")
_IDLE_FIELDS = (3, 4)  # idle and waiting for a disk, proc(5)


def busy_cores(seconds: float = 0.4) -> float | None:
    """Return how many of the usable cores were busy on average while this process slept.

    None where the system does not tell.
    """
    before = _times(_STAT)
    time.sleep(seconds)
    after = _times(_STAT)
    return busy_between(before, after) if before and after else None


def busy_between(before: dict[int, list[int]], after: dict[int, list[int]]) -> float:
    """Return the cores' busy shares, added up; from their counters at two moments."""
    return sum(_busy_share(before[core], after[core]) for core in before.keys() & after.keys())


def times_of_cores(stat: str) -> dict[int, list[int]]:
    """Read the counters of each core from the content of /proc/stat."""
    found = {}
    for line in stat.splitlines():
        name, *counters = line.split()
        if name.startswith("cpu") and name != "cpu":
            found[int(name.removeprefix("cpu"))] = [int(counter) for counter in counters]
    return found


def _times(file: Path) -> dict[int, list[int]]:
    try:
        usable = os.sched_getaffinity(0)
        cores = times_of_cores(file.read_text(encoding="ascii"))
    except (AttributeError, OSError, ValueError):
        return {}
    return {core: counters for core, counters in cores.items() if core in usable}


def _busy_share(before: list[int], after: list[int]) -> float:
    # The last two fields, time of guests, are counted in the first two already.
    spent = [end - start for start, end in zip(before[:8], after[:8], strict=True)]
    total = sum(spent)
    idle = sum(spent[field] for field in _IDLE_FIELDS)
    return 1.0 - idle / total if total else 0.0
