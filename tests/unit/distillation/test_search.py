"""Layers are ranked by forward passes alone: the same sets, features and ranking every time."""

from __future__ import annotations

from math import comb
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.distillation import search
from potstill.distillation.layers import CHOICES, Kept, choose_layers
from potstill.distillation.search import (
    FEWEST_TEXTS,
    MOST_CANDIDATES,
    candidate_sets,
    rank_candidates,
    require_enough_texts,
)
from potstill.distillation.student import cut_student, student_config
from potstill.errors import DataError
from potstill.models import TaskModel
from potstill.models.heads import mean_of_texts
from potstill.models.layout import arrange
from potstill.train.learnable import Learnable
from potstill.workflows.distill import searched_layers
from tests.distilling import teacher_model
from tests.tiny import random_batch

TEXTS = random_batch(np.random.default_rng(3).integers(2, 30, 240).tolist(), seed=4)
ROWS = Learnable(TEXTS, np.full(len(TEXTS), -1))
WHOLE = (0, 1, 2, 3)


def silent(done: int, total: int) -> None:
    del done, total


def test_of_six_layers_to_three_all_twenty_sets_are_looked_at() -> None:
    sets = candidate_sets(6, 3)
    assert len(sets) == len(set(sets)) == comb(6, 3) == 20


def test_of_twelve_layers_to_six_twenty_are() -> None:
    sets = candidate_sets(12, 6)
    assert len(sets) == len(set(sets)) == MOST_CANDIDATES
    assert (0, 2, 4, 6, 8, 10) in sets
    assert (0, 2, 4, 7, 9, 11) in sets
    others = [kept for kept in sets if kept not in {choose(12, 6) for choose in CHOICES.values()}]
    assert all(kept[0] == 0 for kept in others)  # where there are enough that begin at the bottom
    used = {layer for kept in others for layer in kept}
    assert used == set(range(12))


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 12), st.integers(4, 30), st.data())
def test_no_set_twice_and_the_named_choices_always(
    teacher: int, at_most: int, data: st.DataObject
) -> None:
    student = data.draw(st.integers(1, teacher))
    sets = candidate_sets(teacher, student, at_most=at_most)
    assert len(set(sets)) == len(sets) <= at_most
    assert {choose_layers(teacher, student, choice=choice) for choice in CHOICES} <= set(sets)
    for kept in sets:
        assert len(kept) == student
        assert list(kept) == sorted(set(kept))
        assert set(kept) <= set(range(teacher))
    if comb(teacher, student) <= at_most:
        assert len(sets) == comb(teacher, student)


def read_by_the_head(model: TaskModel) -> torch.Tensor:
    layout = arrange(TEXTS, model.config)
    last = model.encoder(layout).last
    return mean_of_texts(last, layout) if model.spec.pooling == "mean" else last[layout.first_B]


@pytest.mark.parametrize("pooling", ["first", "mean"])
@torch.inference_mode()
def test_walking_all_sets_at_once_is_running_each_alone(pooling: str) -> None:
    teacher = teacher_model(pooling=pooling)
    sets = {(0,), (0, 1), (0, 2), (1, 3), (0, 1, 3), (2, 3), WHOLE}
    found = search._walk(teacher, arrange(TEXTS, teacher.config), sets)
    assert set(found) == sets
    for kept in sets:
        config = student_config(teacher.config, len(kept), architecture="teacher")
        alone = read_by_the_head(cut_student(teacher, config, kept))
        torch.testing.assert_close(found[kept], alone, rtol=0, atol=1e-5)


def test_a_beginning_that_sets_share_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = teacher_model()
    calls: list[int] = []
    for index, layer in enumerate(teacher.encoder.layers):
        layer.register_forward_pre_hook(lambda *_, number=index: calls.append(number))
    sets = {(0, 1, 2), (0, 1, 3), (0, 2, 3)}
    search._walk(teacher, arrange(TEXTS, teacher.config), sets)
    assert sorted(calls) == [0, 1, 2, 2, 3, 3]


def test_the_ranking_is_the_same_every_time_and_whatever_the_order() -> None:
    teacher, sets = teacher_model(), candidate_sets(4, 2)
    first = rank_candidates(teacher, ROWS, sets, tell=silent)
    assert rank_candidates(teacher, ROWS, sets, tell=silent) == first
    backwards = rank_candidates(teacher, ROWS, sets[::-1], tell=silent)
    assert [each.kept for each in backwards] == [each.kept for each in first]
    divergences = [each.divergence for each in first]
    assert divergences == sorted(divergences)
    assert len(set(divergences)) > 1
    assert {each.kept for each in first} == set(sets)


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_the_whole_teacher_is_nearest_to_itself(pooling: str) -> None:
    teacher = teacher_model(pooling=pooling)
    sets = [kept for layers in (1, 2, 3) for kept in candidate_sets(4, layers)]
    ranking = rank_candidates(teacher, ROWS, [*sets, WHOLE], tell=silent)
    assert ranking[0].kept == WHOLE
    assert 0.0 <= ranking[0].divergence < ranking[1].divergence
    assert all(0.0 <= each.agreement <= 1.0 for each in ranking)


def test_the_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, sets = teacher_model(), candidate_sets(4, 2)
    told: list[tuple[int, int]] = []
    large = rank_candidates(teacher, ROWS, sets, tell=silent)
    monkeypatch.setattr(search, "_BATCH_TOKENS", 60)
    small = rank_candidates(teacher, ROWS, sets, tell=lambda *each: told.append(each))
    for ours, theirs in zip(small, large, strict=True):
        assert ours.kept == theirs.kept
        assert ours.divergence == pytest.approx(theirs.divergence, abs=1e-5)
    assert told[-1] == (240, 240)
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_the_fit_is_judged_on_texts_that_it_has_not_seen() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 30)).astype(np.float32)  # as many as texts: anything fits
    noise = 3 * rng.normal(size=(40, 2)).astype(np.float32)
    is_seen = np.arange(40) % 2 == 0

    def measured(outputs: np.ndarray) -> tuple[float, float]:
        return search._of_classes(*search._fit(features, outputs, is_seen))

    divergence, agreement = measured(noise)
    assert divergence > 0.3
    assert agreement < 0.9
    linear = features[:, :2] * 3
    assert measured(linear)[0] < divergence


def test_a_written_ranking_is_read_back_for_the_same_key_alone(tmp_path: Path) -> None:
    asked: list[str] = []

    def ranking(key: str) -> list[Kept]:
        found = searched_layers(
            teacher_model(),
            ROWS,
            2,
            "fp32",
            tmp_path / "search.json",
            key=key,
            tell=lambda *_: asked.append(key),
        )
        return [each.kept for each in found]

    first = ranking("one")
    assert ranking("one") == first
    searched_once = len(asked)
    assert searched_once > 0
    assert set(asked) == {"one"}
    assert ranking("other") == first
    assert asked[searched_once:] == ["other"] * searched_once
    (tmp_path / "search.json").write_text('{"key": "other", "ranking": [{}]}')
    assert ranking("other") == first
    assert len(asked) == 3 * searched_once


def test_what_is_told_of_a_candidate_is_plain() -> None:
    candidate = search.Candidate((0, 2), 0.123456789, 0.98765)
    assert candidate.to_json() == {"layers": [0, 2], "divergence": 0.12346, "agreement": 0.9877}


def test_hardly_any_text_is_refused() -> None:
    require_enough_texts(TEXTS.take(range(FEWEST_TEXTS)))
    with pytest.raises(DataError, match=r"11 training texts are too few.*12 or more.*--keep"):
        require_enough_texts(TEXTS.take(range(FEWEST_TEXTS - 1)))
