"""Which texts are computed together: by a budget of tokens, with little padding.

Pure functions of lengths; nothing here sees a token.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Step = list[Indices]  # the micro-batches of one optimizer step


def batches_by_tokens(
    lengths: NDArray[np.integer], *, max_tokens: int, max_texts: int | None = None
) -> list[Indices]:
    """Cut texts, sorted by length, into batches of at most `max_tokens` padded tokens.

    A text longer than the budget goes alone.
    """
    order = np.argsort(lengths, kind="stable").astype(np.int64)
    batches: list[Indices] = []
    start = 0
    for end in range(1, len(order) + 1):
        is_last = end == len(order)
        texts = end - start + 1
        if (
            is_last
            or texts * int(lengths[order[end]]) > max_tokens
            or (max_texts is not None and texts > max_texts)
        ):
            batches.append(order[start:end])
            start = end
    return batches


def padding_share(lengths: NDArray[np.integer], batches: list[Indices]) -> float:
    """Return wasted positions / all, if each batch were padded to its longest text."""
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    real = sum(int(lengths[batch].sum()) for batch in batches)
    return 1.0 - real / padded if padded else 0.0


def plan_epoch(
    lengths: NDArray[np.integer],
    *,
    rows_per_step: int,
    max_batch_tokens: int,
    rng: np.random.Generator,
    length_pools: int = 0,
) -> list[Step]:
    """Deal all rows once, at random, into optimizer steps and their micro-batches.

    Args:
        lengths: tokens of each row.
        rows_per_step: rows of a step; the last one may have fewer.
        max_batch_tokens: real tokens of a micro-batch; a longer text goes alone.
        rng: decides the order; the same state gives the same plan.
        length_pools: sort by length inside pools of so many steps' rows, so that a step's texts
            are of like lengths; 0: steps are plain random samples.
    """
    order = rng.permutation(len(lengths)).astype(np.int64)
    if length_pools:
        order = _sorted_in_pools(order, lengths, rows_per_step * length_pools)
    steps = [order[at : at + rows_per_step] for at in range(0, len(order), rows_per_step)]
    if length_pools:
        steps = [steps[index] for index in _shuffled_but_last(len(steps), rng)]
    return [_micro_batches(rows, lengths, max_batch_tokens) for rows in steps]


def _sorted_in_pools(order: Indices, lengths: NDArray[np.integer], pool: int) -> Indices:
    pools = [order[at : at + pool] for at in range(0, len(order), pool)]
    return np.concatenate([rows[np.argsort(lengths[rows], kind="stable")] for rows in pools])


def _shuffled_but_last(count: int, rng: np.random.Generator) -> list[int]:
    """Shuffle steps; the last one stays, because it alone may be smaller."""
    return [*rng.permutation(count - 1).tolist(), count - 1] if count else []


def _micro_batches(rows: Indices, lengths: NDArray[np.integer], max_tokens: int) -> Step:
    """Cut a step's rows, sorted by length, into parts of about equal real tokens."""
    ordered = rows[np.argsort(lengths[rows], kind="stable")]
    total = int(lengths[ordered].sum())
    parts = max(1, math.ceil(total / max_tokens))
    wanted = max(total / parts, 1.0)
    batches: Step = []
    start, tokens = 0, 0
    for end, length in enumerate(lengths[ordered].tolist()):
        is_over = tokens + length > max_tokens
        if end > start and (is_over or tokens >= wanted):
            batches.append(ordered[start:end])
            start, tokens = end, 0
        tokens += length
    if start < len(ordered):
        batches.append(ordered[start:])
    return batches
