"""The masked-LM objective: head at hidden positions alone = head everywhere; it learns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from potstill.models import TaskModel
from potstill.models.layout import arrange
from potstill.models.noise import Noise
from potstill.recipe import TrainingRecipe
from potstill.text.masking import Masking, MaskingShares
from potstill.text.ragged import RaggedBatch
from potstill.train.checkpoints import CheckpointFolder
from potstill.train.loop import train
from potstill.train.masked_lm_objective import NAME, MaskedLMObjective
from tests.tiny import tiny_config, tiny_head


@dataclass(frozen=True)
class Lists:
    """Passages in memory."""

    texts: RaggedBatch

    @property
    def lengths(self) -> Any:
        return self.texts.lengths

    def batch(self, rows: Any) -> RaggedBatch:
        return self.texts.take(rows)


def counting_passages(count: int, vocabulary: int) -> Lists:
    """Return passages in which every token is one more than the one before: easy to guess."""
    rng = np.random.default_rng(0)
    starts = rng.integers(5, vocabulary - 12, count)
    rows = [[2, *range(start, start + int(rng.integers(6, 11))), 3] for start in starts]
    return Lists(RaggedBatch.from_lists(rows))


def objective(count: int = 60) -> MaskedLMObjective:
    size = tiny_config().vocabulary_size
    is_maskable = np.arange(size) >= 5
    masking = Masking(MaskingShares(), 4, is_maskable, np.zeros(size, bool), np.zeros(size))
    return MaskedLMObjective(counting_passages(count, size), masking)


def tiny_model() -> TaskModel:
    model = TaskModel(tiny_config(dropout=0.0, attention_dropout=0.0), tiny_head("masked-lm"))
    model.initialize(seed=1)
    return model


def test_the_loss_is_that_of_a_head_at_every_position() -> None:
    found, model = objective(), tiny_model()
    batch = found.prepare(np.arange(20), np.random.default_rng(0))
    noise = Noise(0, 0, 0, device=torch.device("cpu"))
    ours = found.loss_sums(model, batch, noise)[NAME]
    ours.backward()
    gradients = {name: each.grad.clone() for name, each in model.named_parameters()}
    model.zero_grad()
    logits, _ = model(arrange(batch.texts, model.config))
    labels = torch.full((batch.texts.total_tokens,), -100)
    labels[batch.places] = torch.from_numpy(batch.targets)
    theirs = cross_entropy(logits, labels, reduction="sum")
    theirs.backward()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)
    for name, each in model.named_parameters():
        torch.testing.assert_close(each.grad, gradients[name], rtol=1e-4, atol=1e-5)
    assert found.counts(batch) == {NAME: len(batch.places)}


def test_a_short_training_learns_to_count(tmp_path: Path) -> None:
    model, rows = tiny_model(), objective(200)
    batch = rows.prepare(np.arange(200), np.random.default_rng(1))
    noise = Noise(0, 0, 0, device=torch.device("cpu"))

    def loss() -> float:
        with torch.no_grad():
            return float(rows.loss_sums(model, batch, noise)[NAME]) / rows.counts(batch)[NAME]

    chance = np.log(model.config.vocabulary_size)
    assert loss() > 0.9 * chance
    recipe = TrainingRecipe(epochs=30, learning_rate=3e-3, precision="fp32")
    train(model, rows, recipe, checkpoints=CheckpointFolder(tmp_path))
    assert loss() < 0.75 * chance
