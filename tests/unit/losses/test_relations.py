"""Laws of the relation loss: equal relations cost nothing, and each text is alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import ShapeError
from potstill.losses.relations import relation_loss

HEADS = 2
LENGTHS = st.lists(st.integers(1, 7), min_size=1, max_size=5)


def vectors(seed: int, tokens: int, width: int = 8) -> torch.Tensor:
    return torch.randn(tokens, width, generator=torch.Generator().manual_seed(seed))


def places(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each token's text and its place there."""
    text = np.repeat(np.arange(len(lengths)), lengths)
    place = np.concatenate([np.arange(length) for length in lengths])
    return torch.from_numpy(text), torch.from_numpy(place)


def loss(
    student: torch.Tensor, teacher: torch.Tensor, lengths: list[int], heads: int = HEADS
) -> torch.Tensor:
    return relation_loss(student, teacher, *places(lengths), heads=heads)


def by_a_loop(
    student: np.ndarray, teacher: np.ndarray, lengths: list[int], heads: int = HEADS
) -> np.ndarray:
    """Return the same from the definition: text by text, head by head, token by token."""
    losses, start = [], 0
    for length in lengths:
        here = slice(start, start + length)
        losses.extend(
            np.mean(
                [of_head(student[here], teacher[here], token, head, heads) for head in range(heads)]
            )
            for token in range(length)
        )
        start += length
    return np.array(losses)


def of_head(student: np.ndarray, teacher: np.ndarray, token: int, head: int, heads: int) -> float:
    """Return KL(teacher || student) of one token's relations in one head."""
    true, other = (shares(text, token, head, heads) for text in (teacher, student))
    return float((true * np.log(true / other)).sum())


def shares(text: np.ndarray, token: int, head: int, heads: int) -> np.ndarray:
    width = text.shape[1] // heads
    part = text[:, head * width : (head + 1) * width].astype(np.float64)
    powers = np.exp(part @ part[token] / math.sqrt(width))
    return powers / powers.sum()


@settings(deadline=None, max_examples=25)
@given(LENGTHS, st.integers(0, 99))
def test_it_is_what_a_plain_loop_gives(lengths: list[int], seed: int) -> None:
    student, teacher = vectors(seed, sum(lengths)), vectors(seed + 100, sum(lengths))
    expected = by_a_loop(student.numpy(), teacher.numpy(), lengths)
    np.testing.assert_allclose(loss(student, teacher, lengths), expected, atol=2e-6, rtol=1e-4)


def test_a_student_of_another_width_is_what_a_plain_loop_gives() -> None:
    lengths = [3, 6, 1]
    student, teacher = vectors(0, 10, width=4), vectors(1, 10, width=12)
    expected = by_a_loop(student.numpy(), teacher.numpy(), lengths)
    np.testing.assert_allclose(loss(student, teacher, lengths), expected, atol=2e-6, rtol=1e-4)


@given(LENGTHS, st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_equal_vectors_cost_nothing(lengths: list[int], seed: int) -> None:
    same = vectors(seed, sum(lengths))
    assert loss(same, same.clone(), lengths).abs().max() < 1e-6


def test_it_is_never_negative_and_sees_a_difference() -> None:
    found = loss(vectors(0, 20), vectors(1, 20), [8, 12])
    assert found.min() > 0.0
    assert found.mean() > 0.1


@settings(deadline=None, max_examples=25)
@given(LENGTHS, st.integers(0, 99))
def test_a_text_in_a_batch_is_the_text_alone(lengths: list[int], seed: int) -> None:
    student, teacher = vectors(seed, sum(lengths)), vectors(seed + 100, sum(lengths))
    together = loss(student, teacher, lengths)
    alone = [
        loss(own, its, [len(own)])
        for own, its in zip(student.split(lengths), teacher.split(lengths), strict=True)
    ]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-6, rtol=1e-5)


def test_the_order_of_the_tokens_does_not_matter() -> None:
    lengths = [4, 5]
    student, teacher = vectors(0, 9), vectors(1, 9)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    text, place = places(lengths)
    shuffled = relation_loss(student[order], teacher[order], text[order], place[order], heads=HEADS)
    torch.testing.assert_close(shuffled, loss(student, teacher, lengths)[order])


def test_a_rotation_inside_each_head_changes_nothing() -> None:
    lengths = [5, 7]
    student, teacher = vectors(0, 12), vectors(1, 12)
    before = loss(student, teacher, lengths)
    turns = [torch.linalg.qr(vectors(seed, 4, width=4)).Q for seed in (3, 4)]
    rotated = student @ torch.block_diag(*turns)
    assert (rotated - student).abs().max() > 0.1
    torch.testing.assert_close(loss(rotated, teacher, lengths), before, atol=1e-5, rtol=1e-5)


def test_a_rotation_across_heads_changes_it() -> None:
    student, teacher = vectors(0, 12), vectors(1, 12)
    across = torch.linalg.qr(vectors(5, 8, width=8)).Q
    before = loss(student, teacher, [12])
    assert (loss(student @ across, teacher, [12]) - before).abs().max() > 1e-2


def test_a_text_of_one_token_costs_nothing() -> None:
    assert loss(vectors(0, 1), vectors(1, 1), [1]).abs().max() < 1e-7


def test_its_gradient_is_finite_and_leads_to_the_teacher() -> None:
    student = (30 * vectors(0, 9)).bfloat16().requires_grad_()
    loss(student, 30 * vectors(1, 9), [4, 5]).sum().backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()

    student, teacher = vectors(0, 9).requires_grad_(), vectors(1, 9)
    before = loss(student, teacher, [4, 5]).sum()
    before.backward()
    moved = student.detach() - 0.1 * student.grad
    assert loss(moved, teacher, [4, 5]).sum() < before


def test_heads_that_do_not_fit_the_width_are_refused() -> None:
    with pytest.raises(ShapeError, match="width 8 cannot be cut into 3"):
        loss(vectors(0, 4), vectors(1, 4), [4], heads=3)


def test_other_tokens_are_refused() -> None:
    with pytest.raises(ShapeError, match="student vectors"):
        loss(vectors(0, 3), vectors(1, 4), [4])


def test_inside_autocast_it_is_still_in_fp32() -> None:
    student, teacher = vectors(0, 90), vectors(1, 90)
    alone = loss(student, teacher, [40, 50])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(student, teacher, [40, 50])
    assert torch.equal(inside, alone)
