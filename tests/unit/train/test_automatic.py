"""Settings that follow from rows and width, where the user left them open; class weights too."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from potstill.losses.hard_labels import hard_label_loss
from potstill.models.noise import Noise
from potstill.recipe import TrainingRecipe
from potstill.runtime.torch_engine import TorchEngine
from potstill.train.answer_losses import ClassLoss
from potstill.train.automatic import settle
from potstill.train.label_objective import LabelObjective
from potstill.train.learnable import Learnable
from potstill.workflows.distill_recipe import DistillRecipe
from potstill.workflows.finetune import FinetuneRecipe, class_weights
from tests.tiny import random_batch
from tests.training import tiny_model

OPEN = TrainingRecipe(epochs=0, learning_rate=0)
USUAL = {"rows": 1_000, "width": 384, "texts_seen": 30_000, "rate_factor": 1.0}


def settled(recipe: TrainingRecipe = OPEN, **changes: float) -> TrainingRecipe:
    return settle(recipe, **{**USUAL, **changes})


@pytest.mark.parametrize(
    ("rows", "epochs"),
    [(1, 15), (100, 15), (2_000, 15), (3_000, 10), (9_999, 4), (10_000, 3), (10**7, 3)],
)
def test_few_rows_are_seen_often_and_many_seldom(rows: int, epochs: int) -> None:
    assert settled(rows=rows).epochs == epochs


@pytest.mark.parametrize(
    ("width", "rate"),
    [(32, 1e-4), (384, 1e-4), (512, 1e-4), (768, 5e-5), (769, 2e-5), (1024, 2e-5)],
)
def test_a_wide_model_learns_slowly(width: int, rate: float) -> None:
    assert settled(width=width).learning_rate == rate
    assert settled(width=width, rate_factor=2.0).learning_rate == 2 * rate


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_more_rows_never_mean_more_epochs(one: int, other: int) -> None:
    few, many = sorted((one, other))
    assert settled(rows=few).epochs >= settled(rows=many).epochs


@given(st.floats(0.1, 50.0), st.floats(1e-6, 1e-1), st.integers(1, 10**5), st.integers(8, 2048))
def test_what_was_given_is_not_changed(epochs: float, rate: float, rows: int, width: int) -> None:
    given_both = TrainingRecipe(epochs=epochs, learning_rate=rate, seed=4)
    assert settled(given_both, rows=rows, width=width) == given_both
    given_one = TrainingRecipe(epochs=epochs, learning_rate=0)
    assert settled(given_one, rows=rows, width=width).epochs == epochs
    given_other = TrainingRecipe(epochs=0, learning_rate=rate)
    assert settled(given_other, rows=rows, width=width).learning_rate == rate


@pytest.mark.parametrize("recipe", [FinetuneRecipe(seed=5), DistillRecipe(layers=2)])
def test_only_the_open_settings_are_filled_in(recipe: TrainingRecipe) -> None:
    found = settled(recipe)
    assert type(found) is type(recipe)
    before, after = asdict(recipe), asdict(found)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"epochs", "learning_rate"}
    assert min(found.epochs, found.learning_rate) > 0


TARGETS = np.array([0] * 12 + [1] * 3 + [2], dtype=np.int64)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.sampled_from(["sqrt", "balanced"]))
def test_class_weights_are_1_on_average_over_the_rows(targets: list[int], how: str) -> None:
    weights = class_weights(how, np.array(targets), 4)
    assert weights is not None
    assert weights.dtype == np.float32
    assert np.isfinite(weights).all()
    assert weights[np.array(targets)].mean() == pytest.approx(1.0, rel=1e-5)


def test_balanced_classes_have_the_same_say_and_sqrt_goes_half_the_way() -> None:
    balanced, half = (class_weights(how, TARGETS, 3) for how in ("balanced", "sqrt"))
    assert balanced is not None
    assert half is not None
    counts = np.bincount(TARGETS)
    np.testing.assert_allclose(balanced * counts, (balanced * counts)[0], rtol=1e-6)
    np.testing.assert_allclose(half[1:] / half[0], np.sqrt(balanced[1:] / balanced[0]), rtol=1e-6)
    assert class_weights("none", TARGETS, 3) is None


@pytest.mark.parametrize("how", ["sqrt", "balanced"])
def test_even_classes_all_weigh_1(how: str) -> None:
    np.testing.assert_allclose(class_weights(how, np.arange(9) % 3, 3), np.ones(3), rtol=1e-6)


@pytest.mark.parametrize("how", ["none", "sqrt", "balanced"])
def test_the_weighted_loss_is_what_a_hand_computes(how: str) -> None:
    texts = random_batch([3, 9, 1, 20, 7, 5, 4, 2], seed=1)
    targets = np.array([0, 0, 0, 0, 0, 1, 1, 2])
    weights = class_weights(how, targets, 3)
    model = tiny_model(dropout=0.0)
    objective = LabelObjective(Learnable(texts, targets), ClassLoss(weights))
    rows = np.array([7, 0, 5, 3])
    batch = objective.prepare(rows, np.random.default_rng(0))
    with torch.no_grad():
        sums = objective.loss_sums(model, batch, Noise(0))
    logits = torch.from_numpy(TorchEngine(model).run(texts.take(rows))["logits"])
    losses = hard_label_loss(logits, torch.from_numpy(targets[rows])).numpy()
    each = np.ones(4) if weights is None else weights[targets[rows]]
    assert float(sums["hard_labels"]) == pytest.approx(float((losses * each).sum()), rel=1e-5)
    assert objective.counts(batch) == {"hard_labels": pytest.approx(float(each.sum()))}
