"""Which texts are computed together: by a budget of tokens, with little padding.

Pure functions of lengths; nothing here sees a token. Legend: B texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
# The micro-batches of one optimizer step: the i-th is of process i modulo their number, and empty
# where a step has too few rows.
Step = list[Indices]


def batches_by_tokens(
    lengths: NDArray[np.integer], *, max_tokens: int, max_texts: int | None = None
) -> list[Indices]:
    """Cut texts, sorted by length, into batches of at most `max_tokens` padded tokens.

    The longest come first, so that a batch too big for the memory fails at once; texts of equal
    length keep their order. A text longer than the budget goes alone.
    """
    assert max_tokens >= 1, "a budget without a token: this is a bug"
    assert max_texts is None or max_texts >= 1, "a batch without a text: this is a bug"
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    batches: list[Indices] = []
    start = 0
    while start < order.size:
        longest = max(int(lengths[order[start]]), 1)
        texts = max(max_tokens // longest, 1)
        end = start + (texts if max_texts is None else min(texts, max_texts))
        batches.append(order[start:end])
        start = end
    return batches


def padding_share(lengths: NDArray[np.integer], batches: Sequence[Indices]) -> float:
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
    processes: int = 1,
) -> list[Step]:
    """Deal all rows once, at random, into optimizer steps and their micro-batches.

    Args:
        lengths: tokens of each row.
        rows_per_step: rows of a step; the last one may have fewer.
        max_batch_tokens: real tokens of a micro-batch; a longer text goes alone.
        rng: decides the order; the same state gives the same plan.
        length_pools: sort by length inside pools of so many steps' rows, so that a step's texts
            are of like lengths; 0: steps are plain random samples.
        processes: that share each step, balanced by tokens.
    """
    assert rows_per_step >= 1, "a step without a row: this is a bug"
    assert max_batch_tokens >= 1, "a budget without a token: this is a bug"
    assert length_pools >= 0, "a negative count of steps: this is a bug"
    sizes = np.asarray(lengths, dtype=np.int64)
    order = rng.permutation(sizes.size)
    if length_pools:
        order = _sorted_in_pools(order, sizes, rows_per_step * length_pools)
    steps = _slices(order, rows_per_step)
    if length_pools:
        full = sizes.size // rows_per_step
        steps = [steps[index] for index in rng.permutation(full)] + steps[full:]
    return [_micro_batches(rows, sizes, max_batch_tokens, processes) for rows in steps]


class StepsByTokens(Sequence[Step]):
    """The steps of one pass; a step's micro-batches are found when it is asked for.

    A corpus has millions of rows, and to sort them all at once would stop the run for minutes.
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],
        order: Indices,
        ends: Indices,
        max_batch_tokens: int,
        processes: int,
    ) -> None:
        self.lengths, self.order, self.ends = lengths, order, ends
        self.max_batch_tokens, self.processes = max_batch_tokens, processes

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.ends)

    @overload
    def __getitem__(self, step: int) -> Step: ...
    @overload
    def __getitem__(self, step: slice) -> Sequence[Step]: ...
    def __getitem__(self, step: int | slice) -> Step | Sequence[Step]:
        """Return the micro-batches of a step."""
        if isinstance(step, slice):
            return [self[each] for each in range(*step.indices(len(self)))]
        start = self.ends[step - 1] if step else 0
        rows = self.order[start : self.ends[step]]
        return _micro_batches(rows, self.lengths, self.max_batch_tokens, self.processes)


def plan_epoch_by_tokens(
    lengths: NDArray[np.integer],
    *,
    step_tokens: int,
    max_batch_tokens: int,
    rng: np.random.Generator,
    processes: int = 1,
) -> StepsByTokens:
    """Deal all rows once, at random, into steps of about `step_tokens` real tokens.

    In the random order, step s takes the rows whose last token is one of its `step_tokens`. So a
    step misses its budget by less than one row, none is empty, and there are always as many.

    Args:
        lengths: tokens of each row, none longer than a step.
        step_tokens: real tokens of a step.
        max_batch_tokens: real tokens of a micro-batch; a longer text goes alone.
        rng: decides the order; the same state gives the same plan.
        processes: that share each step, balanced by tokens.
    """
    assert step_tokens >= 1, "a step without a token: this is a bug"
    assert int(max(lengths, default=0)) <= step_tokens, "a row longer than a step: this is a bug"
    sizes = np.asarray(lengths, dtype=np.int64)
    order = rng.permutation(sizes.size)
    sums = np.cumsum(sizes[order])
    count = -(-int(sizes.sum()) // step_tokens)
    ends = np.searchsorted(sums, step_tokens * np.arange(1, count + 1), side="right")
    return StepsByTokens(sizes, order, ends, max_batch_tokens, processes)


def cut_by_sum(lengths: NDArray[np.integer], budget: int) -> list[int]:
    """Return where to cut lengths, in their order, into the fewest parts that sum to `budget`.

    The ends of the parts, the last of them B. A single length above the budget is a part.
    """
    sums = np.cumsum(lengths, dtype=np.int64)
    ends: list[int] = []
    start, before = 0, 0
    while start < sums.size:
        end = int(np.searchsorted(sums, before + budget, side="right"))
        start = max(end, start + 1)
        before = int(sums[start - 1])
        ends.append(start)
    return ends


def _sorted_in_pools(order: Indices, lengths: NDArray[np.int64], pool: int) -> Indices:
    sorted_pools = [rows[np.argsort(lengths[rows], kind="stable")] for rows in _slices(order, pool)]
    return np.concatenate(sorted_pools) if sorted_pools else order


def _slices(rows: Indices, size: int) -> list[Indices]:
    return [rows[start : start + size] for start in range(0, rows.size, size)]


def _micro_batches(
    rows: Indices, lengths: NDArray[np.int64], max_tokens: int, processes: int
) -> Step:
    """Cut each process's rows, the longest first, into as few and as equal parts as there can be.

    All processes have as many parts, so that whose part it is follows from its number.
    """
    shares = _dealt(rows[np.argsort(-lengths[rows], kind="stable")], processes)
    parts = max(len(cut_by_sum(lengths[share], max_tokens)) for share in shares)
    cut = [_cut_evenly(share, lengths, max_tokens, parts) for share in shares]
    return [own[part] for part in range(parts) for own in cut]


def _dealt(rows: Indices, processes: int) -> list[Indices]:
    """Deal sorted rows there and back: two processes differ by the longest at most."""
    turns, places = np.divmod(np.arange(rows.size), processes)
    owners = np.where(turns % 2, processes - 1 - places, places)
    return [rows[owners == process] for process in range(processes)]


def _cut_evenly(
    rows: Indices, lengths: NDArray[np.int64], max_tokens: int, parts: int
) -> list[Indices]:
    """Cut sorted rows into `parts`; those that few long rows leave over are empty."""
    ends = _even_cuts(lengths[rows], max_tokens, parts)
    return np.split(rows, ends[:-1]) + [rows[:0]] * (parts - max(len(ends), 1))


def _even_cuts(lengths: NDArray[np.int64], budget: int, parts: int) -> list[int]:
    """Find, by halving, the smallest budget that needs no more than `parts`, as `budget` does."""
    found = cut_by_sum(lengths, budget)
    low, high = 0, budget  # `low` needs more parts, `high` does not
    while high - low > 1:
        middle = (low + high) // 2
        cuts = cut_by_sum(lengths, middle)
        if len(cuts) > parts:
            low = middle
        else:
            high, found = middle, cuts
    return found
