"""Laws of batches and of an epoch's plan: every text once, the budget kept, little padding."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.text.batching import (
    batches_by_tokens,
    cut_by_sum,
    padding_share,
    plan_epoch,
    plan_epoch_by_tokens,
)

lengths_of_texts = st.lists(st.integers(1, 60), max_size=60).map(np.array)
budgets = st.integers(1, 200)


@given(lengths_of_texts, budgets, st.none() | st.integers(1, 8))
def test_batches_hold_every_text_once_within_the_budget(lengths, max_tokens, max_texts):
    batches = batches_by_tokens(lengths, max_tokens=max_tokens, max_texts=max_texts)
    assert sorted(itertools.chain.from_iterable(batches)) == list(range(len(lengths)))
    for batch in batches:
        assert batch.dtype == np.int64
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= max_tokens
        assert max_texts is None or len(batch) <= max_texts


@given(lengths_of_texts, budgets)
def test_batches_are_cut_only_where_the_next_text_would_not_fit(lengths, max_tokens):
    batches = batches_by_tokens(lengths, max_tokens=max_tokens)
    for batch in batches[:-1]:
        assert (len(batch) + 1) * lengths[batch].max() > max_tokens


def test_texts_of_equal_length_keep_their_order():
    batches = batches_by_tokens(np.array([3, 5, 3, 5, 3]), max_tokens=1_000)
    assert [batch.tolist() for batch in batches] == [[1, 3, 0, 2, 4]]


def test_padding_share_counts_the_wasted_positions():
    lengths = np.array([4, 1, 3])
    together, alone = [np.array([0, 1, 2])], [np.array([0]), np.array([1]), np.array([2])]
    assert padding_share(lengths, together) == pytest.approx(4 / 12)
    assert padding_share(lengths, alone) == 0
    assert padding_share(lengths[:0], []) == 0


@given(lengths_of_texts, budgets)
def test_cuts_are_the_greedy_ones(lengths, budget):
    """The slow twin walks from length to length."""
    ends, tokens = [], 0
    for place, length in enumerate(lengths.tolist()):
        if place and tokens + length > budget:
            ends.append(place)
            tokens = 0
        tokens += length
    expected = [*ends, len(lengths)] if len(lengths) else []
    assert cut_by_sum(lengths, budget) == expected


@given(lengths_of_texts, st.integers(1, 9), budgets, st.integers(0, 4), st.integers(0, 2**32 - 1))
def test_an_epoch_deals_every_row_once_within_the_budget(lengths, rows, tokens, pools, seed):
    steps = plan(lengths, rows, tokens, pools, seed)
    dealt = [row for step in steps for batch in step for row in batch]
    assert sorted(dealt) == list(range(len(lengths)))
    sizes = [sum(len(batch) for batch in step) for step in steps]
    assert all(size == rows for size in sizes[:-1])
    assert all(0 < size <= rows for size in sizes[-1:])
    for batch in itertools.chain.from_iterable(steps):
        assert batch.dtype == np.int64
        assert len(batch) == 1 or lengths[batch].sum() <= tokens
        assert (np.diff(lengths[batch]) <= 0).all()


@given(lengths_of_texts, st.integers(1, 9), budgets, st.integers(0, 4), st.integers(0, 99))
def test_the_same_seed_gives_the_same_plan(lengths, rows, tokens, pools, seed):
    first, second = (plan(lengths, rows, tokens, pools, seed) for _ in range(2))
    assert [[b.tolist() for b in s] for s in first] == [[b.tolist() for b in s] for s in second]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=12).map(np.array), st.integers(1, 60))
def test_micro_batches_are_as_few_and_as_even_as_possible(lengths, tokens):
    """The slow twin tries all ways to cut the sorted rows."""
    (step,) = plan(lengths, len(lengths), tokens, 0, 0)
    ordered = np.sort(lengths)[::-1]
    ways = [
        np.split(ordered, cuts)
        for count in range(len(lengths))
        for cuts in itertools.combinations(range(1, len(lengths)), count)
    ]
    allowed = [way for way in ways if all(len(p) == 1 or p.sum() <= tokens for p in way)]
    fewest = min(map(len, allowed))
    largest = min(largest_part(way) for way in allowed if len(way) == fewest)
    assert len(step) == fewest
    assert largest_part([lengths[batch] for batch in step]) == largest


def test_another_seed_gives_another_plan():
    lengths = np.arange(1, 101)
    assert flat(plan(lengths, 10, 500, 2, 0)) != flat(plan(lengths, 10, 500, 2, 1))


def test_length_pools_give_a_step_texts_of_like_lengths():
    lengths = np.random.default_rng(0).integers(1, 500, size=2_000)
    spread = {
        pools: length_spread(lengths, plan(lengths, 20, 4_000, pools, 7)) for pools in (0, 20)
    }
    assert spread[20] < spread[0] / 5


def test_length_pools_do_not_sort_the_steps():
    lengths = np.random.default_rng(0).integers(1, 500, size=2_000)
    means = [lengths[flat([step])].mean() for step in plan(lengths, 20, 4_000, 100, 7)]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.4


def test_without_pools_a_step_is_a_random_sample():
    lengths = np.arange(1, 2_001)
    first_step = flat(plan(lengths, 100, 10**6, 0, 3)[:1])
    assert 600 < lengths[first_step].mean() < 1_400
    assert sorted(first_step) != list(range(100))


def plan(lengths, rows: int, tokens: int, pools: int, seed: int) -> list[list[np.ndarray]]:
    return plan_epoch(
        lengths,
        rows_per_step=rows,
        max_batch_tokens=tokens,
        length_pools=pools,
        rng=np.random.default_rng(seed),
    )


def flat(steps) -> list[int]:
    return [int(row) for step in steps for batch in step for row in batch]


def largest_part(parts) -> int:
    return max((int(part.sum()) for part in parts if len(part) > 1), default=0)


def length_spread(lengths, steps) -> float:
    return float(np.mean([np.ptp(lengths[flat([step])]) for step in steps]))


@given(lengths_of_texts, st.integers(60, 300), budgets, st.integers(0, 9))
def test_steps_by_tokens_hold_every_row_once_and_miss_their_budget_by_less_than_a_row(
    lengths, step_tokens, max_tokens, seed
):
    plan = plan_epoch_by_tokens(
        lengths,
        step_tokens=step_tokens,
        max_batch_tokens=max_tokens,
        rng=np.random.default_rng(seed),
    )
    steps = [np.concatenate(step) for step in plan]
    assert sorted(itertools.chain.from_iterable(steps)) == list(range(len(lengths)))
    assert len(plan) == -(-int(lengths.sum()) // step_tokens)
    total = 0
    for number, rows in enumerate(steps, start=1):
        assert len(rows)
        total += int(lengths[rows].sum())
        longest = int(lengths.max())
        assert total <= number * step_tokens
        assert number == len(steps) or total > number * step_tokens - longest
    for batch in itertools.chain.from_iterable(plan):
        assert len(batch) == 1 or lengths[batch].sum() <= max_tokens
    assert len(plan[1:]) == max(len(plan) - 1, 0)


@given(
    lengths_of_texts,
    st.integers(60, 300),
    budgets,
    st.integers(2, 9),
    st.integers(1, 9),
    st.integers(0, 9),
)
def test_processes_share_the_steps_of_one_and_differ_by_a_row_at_most(
    lengths, step_tokens, max_tokens, processes, rows, seed
):
    def plans(count):
        rngs = (np.random.default_rng(seed) for _ in range(2))
        common = {"max_batch_tokens": max_tokens, "processes": count}
        return [
            *plan_epoch(lengths, rows_per_step=rows, rng=next(rngs), **common),
            *plan_epoch_by_tokens(lengths, step_tokens=step_tokens, rng=next(rngs), **common),
        ]

    for alone, shared in zip(plans(1), plans(processes), strict=True):
        assert all(batch.size for batch in alone)
        assert sorted(flat([shared])) == sorted(flat([alone]))
        assert len(shared) % processes == 0
        loads = [tokens_of(lengths, shared[each::processes]) for each in range(processes)]
        assert max(loads) - min(loads) <= lengths[flat([shared])].max()
        for batch in shared:
            assert batch.dtype == np.int64
            assert len(batch) <= 1 or lengths[batch].sum() <= max_tokens
            assert (np.diff(lengths[batch]) <= 0).all()


@pytest.mark.parametrize("processes", [2, 4, 8])
@pytest.mark.parametrize(
    ("step_tokens", "batch_tokens"),
    [(8_192, 4_096), (8_192, 8_192), (65_536, 4_096), (131_072, 65_536), (262_144, 16_384)],
)
def test_no_process_waits_long_for_the_heaviest(step_tokens, batch_tokens, processes):
    rng = np.random.default_rng(0)
    lengths = np.concatenate([np.full(6_000, 128), rng.integers(14, 128, 4_000)])
    steps = plan_epoch_by_tokens(
        lengths,
        step_tokens=step_tokens,
        max_batch_tokens=batch_tokens,
        rng=rng,
        processes=processes,
    )
    for step in steps[:-1]:  # the last one has the rest
        loads = [tokens_of(lengths, step[each::processes]) for each in range(processes)]
        assert np.mean(loads) / max(loads) > 0.9


def tokens_of(lengths, step) -> int:
    return int(lengths[flat([step])].sum())
