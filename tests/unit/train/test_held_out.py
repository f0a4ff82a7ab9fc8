"""The held-out loss: that of all logits at once, always the same question, an interval around."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from potstill.models.layout import arrange
from potstill.train.held_out import HeldOutLoss
from tests.unit.train.test_masked_lm_objective import objective, tiny_model


def test_it_is_the_mean_over_hidden_tokens() -> None:
    asked, model = objective(40), tiny_model()
    held_out = HeldOutLoss(asked.passages, asked.masking, precision="fp32")
    total, count = 0.0, 0
    for batch in held_out.batches:
        with torch.no_grad():
            logits, _ = model(arrange(batch.texts, model.config))
        targets = torch.from_numpy(batch.targets)
        total += float(cross_entropy(logits[batch.places], targets, reduction="sum"))
        count += len(batch.targets)
    assert held_out.of(model) == pytest.approx(total / count, rel=1e-5)
    statistics = held_out.statistics(model)
    assert len(statistics) == 40
    assert statistics[:, 1].sum() == count


def test_the_interval_lies_around_and_the_question_stays_the_same() -> None:
    asked, model = objective(40), tiny_model()
    first = HeldOutLoss(asked.passages, asked.masking, precision="fp32").measured(model)
    again = HeldOutLoss(asked.passages, asked.masking, precision="fp32").measured(model)
    assert first == again
    assert first.low is not None
    assert first.high is not None
    assert first.low < first.value < first.high
    assert not first.greater_is_better
    # A network that knows nothing is about as good as guessing.
    assert first.value == pytest.approx(np.log(model.config.vocabulary_size), rel=0.1)
