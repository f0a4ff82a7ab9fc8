"""Checkpoints of a run: tensors first, then a small JSON file whose rename makes them count.

A checkpoint is valid if its JSON file is there, and its tensors and the weights of the best score
so far have the sha256 that it tells; the newest valid one is resumed. No pickle: safetensors and
JSON only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from potstill.errors import RecipeError
from potstill.files import (
    flush_folder,
    sha256_of_file,
    told_in_one_line,
    write_atomically,
)
from potstill.recipe import TrainingRecipe, recipe_hash
from potstill.stages import TEMPORARY_SUFFIX

_KEPT = 2  # the newest, and one before in case the newest is torn by the disk
_HASH_LENGTH = 16
_MEAN, _SQUARE, _WEIGHT = "adam.mean.", "adam.square.", "weight."


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """Where a run stands, beside its tensors.

    The data order and all random numbers are functions of the recipe's seed and the step, so the
    step is their whole state.
    """

    recipe_hash: str
    step: int  # optimizer steps done
    settings: Mapping[str, Any] = field(default_factory=dict)  # what the hash was made of
    best_score: float | None = None
    best_step: int | None = None
    best_sha256: str | None = None  # of the file of these weights; known to the main process
    scores: list[list[float]] = field(default_factory=list)  # [step, dev score]
    losses: Mapping[str, Any] = field(default_factory=dict)  # a LossWatch
    seconds: float = 0.0  # of work so far
    train_tokens: int = 0  # real tokens seen so far
    torch_version: str = torch.__version__
    threads: int = field(default_factory=torch.get_num_threads)
    processes: int = 1
    precision: str = "fp32"
    device: str = "cpu"  # its kind


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """What must be equal for a checkpoint to be of this run."""

    recipe_hash: str
    settings: Mapping[str, Any]  # of the recipe, and hashes of what else decides the result

    @classmethod
    def of(cls, recipe: TrainingRecipe, inputs: Mapping[str, str]) -> RunIdentity:
        """Return the identity of a run with this recipe and hashes of its inputs by name."""
        told = json.loads(json.dumps({**asdict(recipe), **inputs}, default=str))
        return cls(recipe_hash(recipe, **inputs), told)


@dataclass(frozen=True, slots=True)
class CheckpointFolder:
    """The folder of one run's checkpoints."""

    path: Path

    def newest(self, identity: RunIdentity) -> RunState | None:
        """Return the newest valid state, or None to begin from the start.

        Raises:
            RecipeError: the folder holds a run of another recipe or other data; they are named.
        """
        for file in sorted(self.path.glob("step-*.json"), reverse=True):
            state = _read_state(file)
            if state is None or not self._is_whole(file) or not self._has_best(state):
                continue
            if state.recipe_hash != identity.recipe_hash:
                raise RecipeError(
                    "an unfinished run with other settings, model or data stands here"
                    + _differences(state.settings, identity.settings),
                    where=str(self.path),
                    cure="repeat its settings to go on, or remove this folder to begin anew",
                )
            return state
        return None

    def steps_after(self, step: int) -> list[int]:
        """Return the steps of checkpoints that stand here and are later than one."""
        steps = (_step_of(file) for file in self.path.glob("step-*.json"))
        return sorted(each for each in steps if each > step)

    def save(self, state: RunState, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Write a checkpoint; older ones go when it stands.

        Raises:
            StorageError: the disk is full; the checkpoint before is whole.
        """
        tensors = _tensors(model, optimizer)
        content = save(tensors)
        path = self._tensor_file(state.step)
        with told_in_one_line(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
        told = asdict(state) | {"sha256": sha256_of_file(path)}
        write_atomically(path.with_suffix(".json"), json.dumps(told, indent=2).encode())
        self._remove_old(state)

    def restore(self, state: RunState, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Put a checkpoint's tensors into the model and the optimizer."""
        targets = _tensors(model, optimizer)
        with safe_open(self._tensor_file(state.step), framework="pt") as stored:
            assert set(stored.keys()) == set(targets), "other tensors under one recipe hash"
            with torch.no_grad():
                for name, target in targets.items():
                    target.copy_(stored.get_tensor(name))
        set_steps(optimizer, state.step)

    def save_best(self, step: int, model: nn.Module) -> str:
        """Write the weights of the best score so far; return their sha256."""
        with told_in_one_line(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.detach().cpu() for name, tensor in model.named_parameters()}
        file = self._best_file(step)
        write_atomically(file, save(weights))
        return sha256_of_file(file)

    @torch.no_grad()
    def restore_best(self, step: int, model: nn.Module) -> None:
        """Put the weights of the best score into the model."""
        with safe_open(self._best_file(step), framework="pt") as stored:
            for name, parameter in model.named_parameters():
                parameter.copy_(stored.get_tensor(name))

    def _tensor_file(self, step: int) -> Path:
        return self.path / f"step-{step:09d}.safetensors"

    def _best_file(self, step: int) -> Path:
        return self.path / f"best-{step:09d}.safetensors"

    def _is_whole(self, state_file: Path) -> bool:
        tensor_file = state_file.with_suffix(".safetensors")
        told = json.loads(state_file.read_bytes()).get("sha256")
        if not tensor_file.is_file() or sha256_of_file(tensor_file) != told:
            return False
        try:
            with safe_open(tensor_file, framework="pt"):
                return True
        except SafetensorError:
            return False

    def _has_best(self, state: RunState) -> bool:
        """Tell whether the best weights that a state names stand as they were written."""
        if state.best_step is None:
            return True
        file = self._best_file(state.best_step)
        return file.is_file() and sha256_of_file(file) == state.best_sha256

    def _remove_old(self, state: RunState) -> None:
        """Keep the newest checkpoints and every best file that one of them names.

        What a kill has left half-written goes too, and what is of a later step than this one, which
        was passed over as damaged: only this process writes here.
        """
        files = sorted(self.path.glob("step-*.json"))
        newest = [file for file in files if _step_of(file) <= state.step][-_KEPT:]
        for file in set(files) - set(newest):
            file.unlink()
            file.with_suffix(".safetensors").unlink(missing_ok=True)
        kept = [_read_state(file) for file in newest]
        needed = {self._best_file(told.best_step) for told in kept if told and told.best_step}
        for file in self.path.glob("best-*.safetensors"):
            if file not in needed and file != self._best_file(state.best_step or 0):
                file.unlink()
        whole = {file.with_suffix(".safetensors") for file in newest}
        halves = set(self.path.glob("step-*.safetensors")) - whole
        for kind in ("step", "best"):
            halves |= set(self.path.glob(f"{kind}-*{TEMPORARY_SUFFIX}"))
        for file in halves:
            file.unlink()
        flush_folder(self.path)


def pause_between(asked_s: float, save_s: float) -> float:
    """Return the seconds from one checkpoint to the next; 0: there is one at every step.

    Args:
        asked_s: seconds between them, 0 for every step.
        save_s: seconds that writing one takes: a fiftieth of the time at most, unless 0 is asked.
    """
    return max(asked_s, 50 * save_s) if asked_s else 0.0


def _differences(there: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """Return in words what two runs differ in; nothing where the older one did not tell."""
    if not there:
        return ""
    names = [name for name in {**there, **asked} if there.get(name) != asked.get(name)]
    told = [
        f"another {name}"
        if _is_hash(there.get(name))
        else f"{name} {there.get(name)} there, {asked.get(name)} asked for"
        for name in names
    ]
    return f": {'; '.join(told)}" if told else ""


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and len(value) >= _HASH_LENGTH


def adam_moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return AdamW's running means of every trained parameter, in the model's order."""
    return [
        tensor
        for name, tensor in _tensors(model, optimizer).items()
        if not name.startswith(_WEIGHT)
    ]


def set_steps(optimizer: torch.optim.Optimizer, step: int) -> None:
    """Tell AdamW how many steps its running means have seen."""
    for moments in optimizer.state.values():
        moments["step"].fill_(float(step))


def _tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return weights and the optimizer's running means by name; they are views, not copies."""
    named: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        named[_WEIGHT + name] = parameter.detach()
        if not parameter.requires_grad:
            continue
        moments = _moments(optimizer, parameter)
        named[_MEAN + name] = moments["exp_avg"]
        named[_SQUARE + name] = moments["exp_avg_sq"]
    return named


def _moments(optimizer: torch.optim.Optimizer, parameter: Tensor) -> Mapping[str, Any]:
    """Return AdamW's state of one parameter, made as AdamW itself would before its first step."""
    moments: dict[str, Any] = optimizer.state[parameter]
    if "exp_avg" not in moments:
        moments["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
        moments["exp_avg"] = torch.zeros_like(parameter)
        moments["exp_avg_sq"] = torch.zeros_like(parameter)
    return moments


def _step_of(file: Path) -> int:
    return int(file.stem.removeprefix("step-"))


def _read_state(file: Path) -> RunState | None:
    """Read a state file; None if it is torn."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    names = {field.name for field in fields(RunState)}
    if not isinstance(content, dict) or not {"recipe_hash", "step"} <= set(content):
        return None
    return RunState(**{name: value for name, value in content.items() if name in names})
