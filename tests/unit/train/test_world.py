"""Processes of one run: what one is told when another is gone, or its own place makes no sense."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
import torch.distributed as dist

from potstill.errors import RecipeError
from potstill.train.world import World, join_world
from tests.conftest import REPOSITORY

MAIN_IS_KILLED = """
import time

import torch
from torch import nn

from potstill.errors import RunError
from potstill.train.world import join_world

world, device = join_world("cpu"), torch.device("cpu")
print("joined", flush=True)
if world.is_main:
    time.sleep(600)
model = nn.Linear(2, 2)
model(torch.ones(1, 2)).sum().backward()
for together in (
    lambda: world.from_main(None, device),
    lambda: world.sum_counts({"rows": 1.0}, device),
    lambda: world.sum_gradients(model),
    lambda: world.share_tensors(model.parameters()),
):
    try:
        together()
    except RunError as error:
        print(error)
"""


WAITS = """
import signal

from potstill.train.world import join_world

for kind in (signal.SIGTERM, signal.SIGINT):
    signal.signal(kind, lambda number, frame: None)  # Python calls it after the wait
print("ready", flush=True)
join_world("cpu")
"""


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_waits_for_an_absent_host_can_be_ended(asked: signal.Signals) -> None:
    with socket.socket() as absent:
        absent.bind(("127.0.0.1", 0))  # and does not listen
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(absent.getsockname()[1])}
        child = subprocess.Popen(
            [sys.executable, "-c", WAITS],
            cwd=REPOSITORY,
            env={**os.environ, **place, "WORLD_SIZE": "2", "RANK": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            deadline = time.monotonic() + 30
            while child.poll() is None and time.monotonic() < deadline:
                child.send_signal(asked)  # passed over until the wait begins
                time.sleep(0.2)
            assert child.returncode == -asked
        finally:
            child.kill()
            child.communicate()


def test_a_process_whose_peer_is_gone_says_so_in_one_line() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    main, other = (
        subprocess.Popen(
            [sys.executable, "-c", MAIN_IS_KILLED],
            cwd=REPOSITORY,
            env={**os.environ, **place, "RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    )
    for process in (main, other):  # one that leaves sooner ends the other's joining
        assert process.stdout is not None
        assert process.stdout.readline() == "joined\n"
    main.kill()
    told, complaint = other.communicate(timeout=60)
    main.communicate(timeout=60)
    line = "another process of this run has ended or cannot be reached"
    assert told.splitlines() == [f"{line}; to mend it: do what its own message says"] * 4, complaint


ALL = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
PLACES = {
    "alone": (
        {"WORLD_SIZE": "2"},
        "the environment's WORLD_SIZE is 2, and RANK, MASTER_ADDR, MASTER_PORT are missing; to "
        "mend it: start with torchrun, which sets all of them, or unset WORLD_SIZE for one process",
    ),
    "no port": (
        {name: told for name, told in ALL.items() if name != "MASTER_PORT"},
        "WORLD_SIZE is 2, and MASTER_PORT is missing; to mend it: start with torchrun",
    ),
    "port": (ALL | {"MASTER_PORT": "web"}, "the environment's MASTER_PORT is 'web'; allowed: a n"),
    "size": (ALL | {"WORLD_SIZE": "two"}, "the environment's WORLD_SIZE is 'two'; allowed: a num"),
    "rank": (
        ALL | {"RANK": "2"},
        "the environment's RANK is 2, and its WORLD_SIZE 2; allowed: ranks from 0 to 1",
    ),
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in (*ALL, "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize("case", PLACES)
def test_a_place_that_makes_no_sense_is_told_in_one_line(
    environment: pytest.MonkeyPatch, case: str
) -> None:
    place, says = PLACES[case]
    for name, told in place.items():
        environment.setenv(name, told)
    with pytest.raises(RecipeError) as caught:
        join_world("cpu")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_process_needs_nothing_beside_its_number(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("WORLD_SIZE", "1")
    assert join_world("cpu") == World()


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_more_processes_than_cards_are_told(environment: pytest.MonkeyPatch, device: str) -> None:
    """Stand-ins tell of two cards, and take the first two processes."""
    taken: list[int] = []
    environment.setattr(torch.cuda, "is_available", lambda: True)
    environment.setattr(torch.cuda, "device_count", lambda: 2)
    environment.setattr(torch.cuda, "set_device", taken.append)
    environment.setattr(dist, "init_process_group", lambda *_, **__: None)
    for name, told in (ALL | {"WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "3"}).items():
        environment.setenv(name, told)
    for rank in ("0", "1"):
        environment.setenv("LOCAL_RANK", rank)
        assert join_world(device).local_rank == int(rank)
    environment.setenv("LOCAL_RANK", "2")
    with pytest.raises(RecipeError) as caught:
        join_world(device)
    assert str(caught.value) == (
        "process 2 of this machine, counted from 0, has no card: there are 2; to mend it: "
        "torchrun --nproc-per-node 2, or --device cpu"
    )
    assert taken == [0, 1]
