"""A collapsed student is refused, whatever its mean cosine; one that is only noisy is not."""

from __future__ import annotations

import numpy as np
import pytest

from potstill.distillation.collapse import likeness, require_not_collapsed
from potstill.errors import Collapsed

TEACHER = np.random.default_rng(0).normal(size=(200, 32)) + 3.0  # close together, as real ones are


def test_the_teacher_itself_is_like_itself() -> None:
    found = likeness(TEACHER, TEACHER)
    assert found.cosine == pytest.approx(1.0)
    assert found.own_text_found == 1.0
    assert found.spread == pytest.approx(1.0)
    assert not found.has_collapsed


def test_one_vector_for_all_is_a_collapse_although_its_cosine_is_high() -> None:
    student = np.tile(TEACHER.mean(axis=0), (len(TEACHER), 1))
    student += 1e-3 * np.random.default_rng(1).normal(size=student.shape)
    found = likeness(student, TEACHER)
    assert found.cosine > 0.9
    assert found.own_text_found < 0.1
    assert found.has_collapsed
    with pytest.raises(Collapsed, match=r"^out: the student has collapsed: only \d+% of 200 texts"):
        require_not_collapsed(found, where="out")


def test_some_noise_is_no_collapse() -> None:
    noise = np.random.default_rng(2).normal(size=TEACHER.shape)
    found = likeness(TEACHER + 0.3 * noise, TEACHER)
    assert found.own_text_found > 0.9
    require_not_collapsed(found, where="out")


def test_a_length_changes_nothing_and_a_text_that_stands_twice_counts_once() -> None:
    twice = np.concatenate([TEACHER, TEACHER[:50]])
    assert likeness(7.0 * twice, twice).texts == len(TEACHER)
    assert likeness(7.0 * twice, twice).own_text_found == 1.0


def test_the_spread_is_the_mean_over_all_pairs() -> None:
    few = TEACHER[:6]
    normed = few / np.linalg.norm(few, axis=1, keepdims=True)
    pairs = [1 - normed[i] @ normed[j] for i in range(6) for j in range(6) if i != j]
    wider = np.random.default_rng(3).normal(size=few.shape)
    other = wider / np.linalg.norm(wider, axis=1, keepdims=True)
    expected = np.mean([1 - other[i] @ other[j] for i in range(6) for j in range(6) if i != j])
    assert likeness(wider, few).spread == pytest.approx(expected / np.mean(pairs))
