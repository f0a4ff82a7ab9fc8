"""On CPU: torch's fused attention beside the two products written out, forward and backward.

python benchmarks/bench_attention.py       # about a minute, on a quiet machine
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from facts import store
from torch.nn.functional import scaled_dot_product_attention

from potstill.hardware import usable_threads
from potstill.models.attention import attend_in_rows

SHAPES = [(32, 12, 32, 32), (8, 12, 128, 32), (4, 12, 256, 64), (2, 12, 512, 64)]
REPEATS = 30


def main() -> None:
    torch.set_num_threads(usable_threads())
    torch.set_flush_denormal(True)
    cases = [case(shape, dtype) for shape in SHAPES for dtype in (torch.float32, torch.bfloat16)]
    store("attention", {"rows_heads_tokens_width": SHAPES, "repeats": REPEATS, "cases": cases})


def case(shape: tuple[int, int, int, int], dtype: torch.dtype) -> dict[str, Any]:
    rows, heads, tokens, width = shape
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(rows, tokens, heads, width, generator=generator)
        .to(dtype)
        .transpose(1, 2)
        .requires_grad_()
        for _ in range(3)
    )
    attends = torch.ones(rows, 1, 1, tokens, dtype=torch.bool)
    attends[..., tokens - 5 :] = False

    def fused() -> torch.Tensor:
        return scaled_dot_product_attention(query, key, value, attn_mask=attends)

    def written() -> torch.Tensor:
        return attend_in_rows(query, key, value, attends, writes_out=True)

    times = {
        f"{name}_{kind}_ms": best_ms(run, with_backward=kind == "train")
        for name, run in (("fused", fused), ("written", written))
        for kind in ("infer", "train")
    }
    return {"shape": shape, "dtype": str(dtype).removeprefix("torch."), **times} | {
        f"written_is_times_faster_{kind}": round(
            times[f"fused_{kind}_ms"] / times[f"written_{kind}_ms"], 2
        )
        for kind in ("infer", "train")
    }


def best_ms(run: Callable[[], torch.Tensor], *, with_backward: bool) -> float:
    """Return the least of many times: what the kernel needs when nothing disturbs it."""
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        if with_backward:
            output = run()
            output.backward(output.detach())
        else:
            with torch.inference_mode():
                run()
        times.append(time.perf_counter() - began)
    return round(1e3 * min(times), 3)


if __name__ == "__main__":
    main()
