"""The processes of one run: alone, or several under torchrun."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from potstill.errors import RecipeError, RunError
from potstill.train.signals import ended_by_signals

# The others wait while the main process builds a corpus; torchrun itself ends them if one dies.
_PATIENCE = timedelta(days=2)
_PLACE = ("RANK", "MASTER_ADDR", "MASTER_PORT")  # what torch itself needs beside WORLD_SIZE


@dataclass(frozen=True, slots=True)
class World:
    """This process among all; with one process every method is a plain pass."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # number of the card on this host
    local_size: int = 1  # processes on this host, who share its processors

    @property
    def is_main(self) -> bool:
        """Tell whether this process writes and prints."""
        return self.rank == 0

    def sum_counts(self, counts: Mapping[str, float], device: torch.device) -> dict[str, float]:
        """Add numbers over all processes; each must name the same keys."""
        if self.size == 1:
            return dict(counts)
        names = sorted(counts)
        values = torch.tensor(
            [counts[name] for name in names],
            dtype=torch.float64 if device.type != "mps" else torch.float32,
            device=device,
        )
        with _all_alive():
            dist.all_reduce(values)
        return dict(zip(names, values.tolist(), strict=True))

    def sum_gradients(self, model: nn.Module) -> None:
        """Add gradients over all processes, once a step; one that has none adds zeros.

        What has none anywhere stays without, so that nothing decays that is not learned.
        """
        if self.size == 1:
            return
        learned = [each for each in model.parameters() if each.requires_grad]
        device = learned[0].device
        has_one = torch.tensor([each.grad is not None for each in learned], device=device).int()
        with _all_alive():
            dist.all_reduce(has_one)
            waiting = []
            for parameter, holders in zip(learned, has_one.tolist(), strict=True):
                if not holders:
                    continue
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                waiting.append(dist.all_reduce(parameter.grad, async_op=True))
            for work in waiting:
                work.wait()

    def from_main(self, value: Any, device: torch.device) -> Any:
        """Return the main process's value, anything that JSON can hold, in every process."""
        if self.size == 1:
            return value
        # As JSON in a tensor: torch's own way of sending objects is a pickle.
        content = torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8, device=device)
        size = torch.tensor([content.numel()], device=device)
        with _all_alive():
            dist.broadcast(size, src=0)
            if not self.is_main:
                content = torch.empty(int(size.item()), dtype=torch.uint8, device=device)
            dist.broadcast(content, src=0)
        return json.loads(bytes(content.tolist()))

    def share_tensors(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors with the main process's."""
        if self.size == 1:
            return
        with _all_alive():
            for tensor in tensors:
                dist.broadcast(tensor, src=0)


def join_world(device: str = "auto") -> World:
    """Return this process's place, joining the group if torchrun started it.

    Raises:
        RecipeError: torchrun's variables do not fit together, or there are fewer cards than
            processes.
        RunError: another process ended before all had joined.
    """
    world = World(
        rank=_told("RANK", 0),
        size=_told("WORLD_SIZE", 1),
        local_rank=_told("LOCAL_RANK", 0),
        local_size=_told("LOCAL_WORLD_SIZE", 1),
    )
    if world.size <= 1:
        return World()
    _require_place(world)
    uses_cuda = device in {"auto", "cuda"} and torch.cuda.is_available()
    if uses_cuda:
        _require_card(world)
        torch.cuda.set_device(world.local_rank)
    if not dist.is_initialized():
        with _all_alive(), ended_by_signals():  # a host that is absent is waited for in C++
            dist.init_process_group("nccl" if uses_cuda else "gloo", timeout=_PATIENCE)
    return world


def leave_world() -> None:
    """Leave the group, if one was joined."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _told(name: str, default: int) -> int:
    """Return one of the numbers by which torchrun tells a process its place."""
    told = os.environ.get(name)
    try:
        return default if told is None else int(told)
    except ValueError as error:
        raise RecipeError(f"the environment's {name} is {told!r}", allowed="a number") from error


def _require_place(world: World) -> None:
    """Check that the environment tells the place of one among several processes."""
    missing = [name for name in _PLACE if name not in os.environ]
    if missing:
        raise RecipeError(
            f"the environment's WORLD_SIZE is {world.size}, and {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing",
            cure="start with torchrun, which sets all of them, or unset WORLD_SIZE for one process",
        )
    if not 0 <= world.rank < world.size:
        raise RecipeError(
            f"the environment's RANK is {world.rank}, and its WORLD_SIZE {world.size}",
            allowed=f"ranks from 0 to {world.size - 1}",
        )
    _told("MASTER_PORT", 0)


def _require_card(world: World) -> None:
    cards = torch.cuda.device_count()
    if not 0 <= world.local_rank < cards:
        raise RecipeError(
            f"process {world.local_rank} of this machine, counted from 0, has no card: there are "
            f"{cards}",
            cure=f"torchrun --nproc-per-node {cards}, or --device cpu",
        )


@contextlib.contextmanager
def _all_alive() -> Iterator[None]:
    """Tell in one line that another process of the run is gone; it has told its own reason.

    Raises:
        RunError: torch lost the connection to another process.
    """
    try:
        yield
    except RuntimeError as error:
        # Of gloo's own errors torch makes a plain RuntimeError, of others a DistError.
        is_lost = isinstance(error, dist.DistError) or "gloo/" in str(error)
        if not is_lost:
            raise
        raise RunError(
            "another process of this run has ended or cannot be reached",
            cure="do what its own message says",
        ) from error
