"""Devices and number formats: what is asked, and what this machine has."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import nn

from potstill.errors import RecipeError
from potstill.hardware import cpu_has_bf16
from potstill.models.heads import TiedDecoder

Precision = Literal["fp32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
DEVICES = ("auto", "cpu", "cuda", "mps")


def resolve_device(name: str) -> torch.device:
    """Return the device that is asked for; "auto" takes CUDA where there is one, else the CPU.

    mps runs only when named: it is not tested on every release.

    Raises:
        RecipeError: no such device here.
    """
    if name not in DEVICES:
        raise RecipeError(f"--device is {name!r}", allowed=", ".join(DEVICES))
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    is_there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }[name]
    if not is_there:
        raise RecipeError(
            f"--device is {name}, but torch sees no such device here",
            cure="use --device cpu, or install a torch build for your card",
        )
    return torch.device(name)


def resolve_precision(name: str, device: torch.device, *, training: bool = False) -> Precision:
    """Return the format that is asked for; "auto" is bf16 where the hardware multiplies it.

    Raises:
        RecipeError: unknown, or not on this device.
    """
    if name == "auto":
        return "bf16" if has_bf16(device) else "fp32"
    allowed = [choice for choice in PRECISIONS if choice != "fp16" or device.type == "cuda"]
    if training:
        allowed = [choice for choice in allowed if choice != "fp16"]  # would need loss scaling
    if name not in allowed:
        raise RecipeError(
            f"precision is {name!r} on {device.type}", allowed=", ".join(["auto", *allowed])
        )
    return name


def has_bf16(device: torch.device) -> bool:
    """Tell whether the device multiplies bf16 itself."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and cpu_has_bf16()


def keep_products_in(precision: Precision, model: nn.Module) -> None:
    """Keep the weights of a model's products in the format in which they are multiplied.

    For a model that is only run, under autocast: its numbers stay what they are, since autocast
    would cast the same weights to the same format at every pass, and keep both copies meanwhile.
    """
    if precision == "fp32":
        return
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.to(DTYPES[precision])
        elif isinstance(module, TiedDecoder):
            module.keep_products_in(DTYPES[precision])
