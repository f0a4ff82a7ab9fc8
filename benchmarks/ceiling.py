"""What this machine's matrix products reach: by which a step's speed is to be judged.

Processors differ in how much faster they multiply bf16 than fp32 (2 to 4 times without tiles), and
one machine differs from day to day: a ratio between a bf16 and an fp32 program says little without
both rates beside it.
"""

from __future__ import annotations

import time

import torch

ROWS, INNER, OUTER = 2_048, 768, 3_072  # the widest product of a BERT-base layer, 2,048 tokens
_ROUNDS, _PRODUCTS = 5, 8


def product_rates(threads: int) -> dict[str, float]:
    """Return operations a second of the best of some rounds, by format; one per multiply or add."""
    torch.set_num_threads(threads)
    formats = {"fp32": torch.float32, "bf16": torch.bfloat16}
    return {name: max(_rates(dtype)) for name, dtype in formats.items()}


def _rates(dtype: torch.dtype) -> list[float]:
    left, right = torch.randn(ROWS, INNER).to(dtype), torch.randn(INNER, OUTER).to(dtype)
    rates = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        for _ in range(_PRODUCTS):
            left @ right
        rates.append(2.0 * ROWS * INNER * OUTER * _PRODUCTS / (time.perf_counter() - began))
    return rates
