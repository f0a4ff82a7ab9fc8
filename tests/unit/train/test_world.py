"""Processes of one run: what one is told when another is gone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from tests.conftest import REPOSITORY

MAIN_LEAVES = """
import os

import torch
from torch import nn

from potstill.errors import RunError
from potstill.train.world import join_world

world, device = join_world("cpu"), torch.device("cpu")
if world.is_main:
    os._exit(2)
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


def test_a_process_whose_peer_is_gone_says_so_in_one_line() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    main, other = (
        subprocess.Popen(
            [sys.executable, "-c", MAIN_LEAVES],
            cwd=REPOSITORY,
            env={**os.environ, **place, "RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    )
    told, complaint = other.communicate(timeout=60)
    main.communicate(timeout=60)
    line = "another process of this run has ended or cannot be reached"
    assert told.splitlines() == [f"{line}; to mend it: do what its own message says"] * 4, complaint
