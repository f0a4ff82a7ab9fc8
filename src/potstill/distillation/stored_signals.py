"""Signals on disk: computed once, then read by every epoch, learning rate and control.

A folder holds outputs.npy, (R, C) of whole texts or (tokens of all rows, C), and state-I.npy,
(tokens of all rows, D), memory-mapped fp32, and done.json, which says how far the writer came: a
killed one goes on where it stopped.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from potstill.distillation.signals import Signals, Teacher, Tell
from potstill.errors import StorageError
from potstill.files import told_in_one_line, write_atomically
from potstill.text.batching import batches_by_tokens
from potstill.text.ragged import offsets_of, tokens_of
from potstill.train.objective import Int64

_DONE = "done.json"
_OUTPUTS = "outputs.npy"
_BATCH_TOKENS = 4_096
_BATCHES_BETWEEN_NOTES = 32
_SPARE = 1.1  # of the disk: the run's checkpoints need room too


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalShape:
    """How large the signals of a run are."""

    lengths: NDArray[np.integer]  # tokens of each row
    classes: int  # columns of the outputs
    width: int
    state_indices: tuple[int, ...] = ()
    per_token: bool = False  # the head answers at every token

    @property
    def answers(self) -> int:
        """Return the rows of the outputs."""
        return int(self.lengths.sum()) if self.per_token else len(self.lengths)

    @property
    def size_bytes(self) -> int:
        """Return what the signals take on disk."""
        states = int(self.lengths.sum()) * self.width * len(self.state_indices)
        return 4 * (self.answers * self.classes + states)


class StoredSignals:
    """A teacher that is read from disk."""

    def __init__(self, folder: Path, shape: SignalShape, *, device: torch.device) -> None:
        """Open what `store_signals` has written."""
        self._device = device
        self._offsets = offsets_of(shape.lengths).astype(np.int64)
        self._per_token = shape.per_token
        self._outputs = np.load(folder / _OUTPUTS, mmap_mode="r")
        self._states = {
            index: np.load(_state_file(folder, index), mmap_mode="r")
            for index in shape.state_indices
        }

    def signals(self, rows: Int64) -> Signals:
        """Read the signals of these rows."""
        tokens = tokens_of(rows, self._offsets)
        places = tokens if self._per_token else rows
        return Signals(
            torch.from_numpy(np.ascontiguousarray(self._outputs[places])).to(self._device),
            {
                index: torch.from_numpy(np.ascontiguousarray(states[tokens])).to(self._device)
                for index, states in self._states.items()
            },
        )


def store_signals(
    folder: Path, teacher: Teacher, shape: SignalShape, *, identity: str, tell: Tell
) -> None:
    """Write the teacher's signals of all rows, going on where a killed writer stopped.

    Args:
        folder: where they go; what stands there of another `identity` is replaced.
        teacher: asked once for each row.
        shape: sizes.
        identity: a hash of all that decides the signals: teachers, rows, precision.
        tell: called with the rows done and the rows of all.

    Raises:
        StorageError: the disk has no room, told before anything is computed, or is full.
    """
    batches = batches_by_tokens(shape.lengths, max_tokens=_BATCH_TOKENS)
    done = _done(folder, identity)
    if done is None:
        shutil.rmtree(folder, ignore_errors=True)
        _require_room(folder, shape)
    if done == len(batches):
        return
    with told_in_one_line(folder):
        outputs, states = _open_arrays(folder, shape, is_new=done is None)
        offsets = offsets_of(shape.lengths).astype(np.int64)
        rows_done = sum(map(len, batches[: done or 0]))
        for number, rows in enumerate(batches[done or 0 :], start=(done or 0) + 1):
            found = teacher.signals(rows)
            tokens = tokens_of(rows, offsets)
            outputs[tokens if shape.per_token else rows] = found.outputs.cpu().numpy()
            for index, values in states.items():
                values[tokens] = found.states[index].cpu().numpy()
            rows_done += len(rows)
            if number % _BATCHES_BETWEEN_NOTES == 0 or number == len(batches):
                _flush([outputs, *states.values()])
                _note(folder, identity, number)
                tell(rows_done, len(shape.lengths))


def _done(folder: Path, identity: str) -> int | None:
    """Return the batches that are written, or None where nothing fitting stands there."""
    try:
        told = json.loads((folder / _DONE).read_bytes())
        return int(told["batches"]) if told["identity"] == identity else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _note(folder: Path, identity: str, batches: int) -> None:
    content = json.dumps({"identity": identity, "batches": batches})
    write_atomically(folder / _DONE, content.encode())


def _open_arrays(
    folder: Path, shape: SignalShape, *, is_new: bool
) -> tuple[NDArray[np.float32], dict[int, NDArray[np.float32]]]:
    folder.mkdir(parents=True, exist_ok=True)

    def opened(path: Path, *sizes: int) -> NDArray[np.float32]:
        if not is_new:
            return open_memmap(path, mode="r+")
        return open_memmap(path, mode="w+", dtype=np.float32, shape=sizes)

    tokens = int(shape.lengths.sum())
    states = {
        index: opened(_state_file(folder, index), tokens, shape.width)
        for index in shape.state_indices
    }
    return opened(folder / _OUTPUTS, shape.answers, shape.classes), states


def _flush(arrays: Sequence[NDArray[np.float32]]) -> None:
    for array in arrays:
        assert isinstance(array, np.memmap), "signals are memory-mapped"
        array.flush()


def _state_file(folder: Path, index: int) -> Path:
    return folder / f"state-{index}.npy"


def _require_room(folder: Path, shape: SignalShape) -> None:
    with told_in_one_line(folder):
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    if shape.size_bytes * _SPARE > free:
        raise StorageError(
            f"the teacher's signals need {shape.size_bytes / 1e9:,.1f} GB, {free / 1e9:,.1f} GB "
            "are free",
            where=str(folder),
            cure="use --set signals=live, or fewer rows",
        )
