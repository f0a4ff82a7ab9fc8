"""Laws of the losses over the vocabulary: in chunks as at once, values and gradients."""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from potstill.errors import ShapeError
from potstill.losses import vocabulary
from potstill.losses.hard_labels import hard_label_loss
from potstill.losses.soft_targets import soft_target_loss
from potstill.losses.vocabulary import NO_TARGET, Decoder, TopWords, vocabulary_losses

V, D, E = 50, 8, 12


@dataclass(frozen=True)
class Case:
    """Random features and tables; some positions have a target."""

    student: tuple[Tensor, Tensor, Tensor]
    teacher: Decoder
    targets: Tensor

    def leaves(self) -> list[Tensor]:
        return [each.clone().requires_grad_() for each in self.student]


def case(seed: int, positions: int) -> Case:
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    targets = torch.randint(0, V, (positions,), generator=draw)
    targets[torch.rand(positions, generator=draw) < 0.4] = NO_TARGET
    student = normal(positions, D), normal(V, D), normal(V)
    return Case(student, Decoder(normal(positions, E), normal(V, E), normal(V)), targets)


def plain(
    leaves: list[Tensor], found: Case, temperature: float, *, has_teacher: bool
) -> tuple[Tensor, Tensor]:
    """Return the sums with all logits at once."""
    features, words, bias = leaves
    logits = features @ words.T + bias
    known = found.targets != NO_TARGET
    hard = hard_label_loss(logits[known], found.targets[known]).sum()
    if not has_teacher:
        return logits.sum() * 0.0, hard
    theirs = found.teacher.features_PD @ found.teacher.words_VD.T + found.teacher.bias_V
    return soft_target_loss(logits, theirs, temperature=temperature).sum(), hard


@given(
    seed=st.integers(0, 99),
    positions=st.integers(1, 20),
    chunk=st.integers(1, 25),
    rows=st.integers(1, 25),
    temperature=st.sampled_from([1.0, 2.0, 4.0]),
    has_teacher=st.booleans(),
    factors=st.sampled_from([None, (0.3, 0.7), (0.15, 0.35)]),
)
def test_in_chunks_as_at_once(
    seed, positions, chunk, rows, temperature, has_teacher, factors
) -> None:
    found = case(seed, positions)
    ours, theirs = found.leaves(), found.leaves()
    with mock.patch.object(vocabulary, "_ROWS", rows):
        soft, hard = vocabulary_losses(
            Decoder(*ours),
            found.targets,
            found.teacher if has_teacher else None,
            temperature=temperature,
            factors=factors,
            chunk=chunk,
        )
    expected = plain(theirs, found, temperature, has_teacher=has_teacher)
    torch.testing.assert_close((soft, hard), expected, rtol=1e-5, atol=1e-4)
    (0.3 * soft + 0.7 * hard).backward()
    (0.3 * expected[0] + 0.7 * expected[1]).backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-4)


def test_a_total_that_is_not_the_promised_one_is_our_fault() -> None:
    found = case(1, 10)
    soft, hard = vocabulary_losses(
        Decoder(*found.leaves()), found.targets, found.teacher, factors=(0.3, 0.7)
    )
    with pytest.raises(AssertionError, match="promised"):
        (0.7 * soft + 0.3 * hard).backward()


def test_equal_distributions_cost_nothing() -> None:
    found = case(1, 10)
    student = Decoder(*found.student)
    soft, _ = vocabulary_losses(student, found.targets, student, temperature=2.0)
    assert soft.item() == pytest.approx(0.0, abs=1e-5)


def test_a_small_divergence_over_many_words_is_not_lost_in_rounding() -> None:
    draw = torch.Generator().manual_seed(0)
    words = torch.randn(30_522, D, generator=draw)
    features = torch.randn(40, D, generator=draw)
    teacher = Decoder(features, words, torch.zeros(len(words)))
    student = Decoder(features * 1.02, words, torch.zeros(len(words)))
    targets = torch.full((40,), NO_TARGET)
    soft, _ = vocabulary_losses(student, targets, teacher, temperature=2.0)
    own, its = (
        torch.log_softmax(each.features_PD.double() @ words.double().T / 2.0, dim=-1)
        for each in (student, teacher)
    )
    exact = 4.0 * (its.exp() * (its - own)).sum(dim=-1)
    assert exact.mean() < 0.01
    assert soft.item() == pytest.approx(exact.sum().item(), rel=2e-3)


def test_gradients_are_right_by_finite_differences() -> None:
    found = case(2, 5)
    leaves = [each.double().requires_grad_() for each in found.student]

    def both(features: Tensor, words: Tensor, bias: Tensor) -> Tensor:
        soft, hard = vocabulary_losses(
            Decoder(features, words, bias), found.targets, found.teacher, temperature=2.0, chunk=2
        )
        return soft + 2 * hard

    # Sums are kept in fp32, so the step is large and the tolerance wide.
    assert torch.autograd.gradcheck(both, leaves, eps=1e-2, atol=5e-2, rtol=2e-2)


def test_products_run_in_the_dtype_of_autocast() -> None:
    found = case(3, 16)
    leaves = found.leaves()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        soft, hard = vocabulary_losses(Decoder(*leaves), found.targets, found.teacher)
    exact = plain(found.leaves(), found, 1.0, has_teacher=True)
    assert soft.dtype == hard.dtype == torch.float32
    assert soft.item() != exact[0].item()
    torch.testing.assert_close((soft, hard), exact, rtol=2e-2, atol=1e-1)
    (soft + hard).backward()
    assert all(leaf.grad is not None and leaf.grad.dtype == torch.float32 for leaf in leaves)


def test_nothing_is_kept_where_nothing_is_trained() -> None:
    found = case(4, 6)
    soft, hard = vocabulary_losses(Decoder(*found.student), found.targets, found.teacher)
    assert not soft.requires_grad
    assert not hard.requires_grad


def test_the_gradients_that_wait_are_gone_with_the_losses() -> None:
    """A node that holds its own outputs is a ring: each micro-batch once left 400 MB behind."""
    student = Decoder(*(torch.randn(4, 3, requires_grad=True), torch.randn(9, 3), torch.zeros(9)))
    gc.disable()  # what only a collection finds is a ring
    try:
        losses = vocabulary_losses(student, torch.tensor([1, NO_TARGET, 2, 0]), student)
        node = weakref.ref(losses[0].grad_fn)
        assert node() is not None
        del losses
        assert node() is None
    finally:
        gc.enable()


def test_other_vocabularies_are_refused() -> None:
    found = case(5, 6)
    other = Decoder(torch.zeros(6, E), torch.zeros(V + 1, E), torch.zeros(V + 1))
    with pytest.raises(ShapeError, match="one vocabulary"):
        vocabulary_losses(Decoder(*found.student), found.targets, other)


def top_of(teacher: Decoder, kept: int, temperature: float) -> TopWords:
    logits = teacher.features_PD @ teacher.words_VD.T + teacher.bias_V
    found = torch.log_softmax(logits / temperature, dim=-1).topk(kept, dim=-1)
    return TopWords(found.indices, found.values)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_all_words_kept_are_the_whole_distribution(temperature: float) -> None:
    found = case(3, 9)
    whole, part = found.leaves(), found.leaves()
    exact, _ = vocabulary_losses(
        Decoder(*whole), found.targets, found.teacher, temperature=temperature
    )
    kept, _ = vocabulary_losses(
        Decoder(*part),
        found.targets,
        top_of(found.teacher, V, temperature),
        temperature=temperature,
    )
    torch.testing.assert_close(kept, exact, rtol=1e-4, atol=1e-4)
    exact.backward()
    kept.backward()
    for one, other in zip(whole, part, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4)


@given(seed=st.integers(0, 99), kept=st.integers(1, V - 1), chunk=st.integers(1, 12))
def test_some_words_and_the_rest_are_what_plain_torch_gives(
    seed: int, kept: int, chunk: int
) -> None:
    found = case(seed, 7)
    top = top_of(found.teacher, kept, 2.0)
    ours, theirs = found.leaves(), found.leaves()
    loss, _ = vocabulary_losses(Decoder(*ours), found.targets, top, temperature=2.0, chunk=chunk)
    loss.backward()
    features, words, bias = theirs
    student = torch.softmax((features @ words.T + bias) / 2.0, dim=-1)
    own = student.gather(-1, top.words_PK)
    p = top.log_p_PK.exp()
    rest, own_rest = (1 - p.sum(-1)).clamp_min(1e-6), (1 - own.sum(-1)).clamp_min(1e-6)
    plain = (p * (p.log() - own.log())).sum(-1) + rest * (rest.log() - own_rest.log())
    expected = plain.sum() * 4.0
    expected.backward()
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-3, atol=1e-3)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize("decided", [0.3, 1.0])  # 5 % and 78 % of the probability are kept
def test_fp16_rounds_little_off_the_likeliest_of_a_real_vocabulary(decided: float) -> None:
    draw = torch.Generator().manual_seed(0)
    words = torch.randn(30_522, 64, generator=draw) * decided
    features, others = (torch.randn(16, 64, generator=draw) for _ in range(2))
    bias, targets = torch.zeros(len(words)), torch.full((16,), NO_TARGET)
    exact = top_of(Decoder(features, words, bias), 64, 2.0)
    rounded = TopWords(exact.words_PK, exact.log_p_PK.half().float())
    losses, slopes = [], []
    for teacher in (rounded, exact):
        own = (features + 0.3 * others).requires_grad_()
        loss, _ = vocabulary_losses(Decoder(own, words, bias), targets, teacher, temperature=2.0)
        loss.backward()
        losses.append(loss.item())
        assert own.grad is not None
        slopes.append(own.grad)
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)
    assert (slopes[0] - slopes[1]).norm() < 5e-3 * slopes[1].norm()


@given(seed=st.integers(0, 99), kept=st.integers(1, V))
def test_some_words_never_lose_more_than_all(seed: int, kept: int) -> None:
    found = case(seed, 5)
    exact, _ = vocabulary_losses(
        Decoder(*found.student), found.targets, found.teacher, temperature=2.0
    )
    some, _ = vocabulary_losses(
        Decoder(*found.student), found.targets, top_of(found.teacher, kept, 2.0), temperature=2.0
    )
    assert -1e-3 <= float(some) <= float(exact) * (1 + 1e-4) + 1e-3
