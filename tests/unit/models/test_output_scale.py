"""Numbers and their deviations: the last layer holds the scale exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from potstill.architectures.config import Family
from potstill.architectures.heads import HeadSpec
from potstill.models import TaskModel
from potstill.models.output_scale import answer_in_deviations, answer_in_numbers
from potstill.runtime.torch_engine import TorchEngine
from tests.tiny import random_batch, tiny_config

TEXTS = random_batch([3, 9, 1, 12], seed=3)
SCALE = {"center": 2.7, "scale": 1.5}
FORMS: list[tuple[Family, str]] = [
    ("bert", "first"),
    ("bert", "mean"),
    ("distilbert", "first"),
    ("roberta", "first"),
]


def model_of_numbers(family: Family = "bert", pooling: str = "first") -> TaskModel:
    spec = HeadSpec(kind="classification", labels=("score",), pooling=pooling, problem="regression")
    model = TaskModel(tiny_config(family, initializer_range=0.3), spec)
    model.initialize(seed=2)
    with torch.no_grad():
        model.head.output.bias.fill_(0.4)
    return model


def numbers_of(model: TaskModel) -> np.ndarray:
    return TorchEngine(model).run(TEXTS)["logits"][:, 0].astype(np.float64)


@pytest.mark.parametrize(("family", "pooling"), FORMS)
def test_a_model_answers_deviations_and_then_numbers_again(family: Family, pooling: str) -> None:
    model = model_of_numbers(family, pooling)
    numbers = numbers_of(model)
    assert np.ptp(numbers) > 0.01
    assert answer_in_deviations(model, **SCALE) is model
    np.testing.assert_allclose(numbers_of(model), (numbers - 2.7) / 1.5, atol=1e-5)
    assert answer_in_numbers(model, **SCALE) is model
    np.testing.assert_allclose(numbers_of(model), numbers, atol=1e-5)


def test_the_scale_of_a_task_without_one_changes_nothing() -> None:
    model = model_of_numbers()
    before = numbers_of(model)
    answer_in_numbers(answer_in_deviations(model, center=0.0, scale=1.0), center=0.0, scale=1.0)
    assert numbers_of(model).tolist() == before.tolist()


def test_only_the_last_layer_is_touched() -> None:
    model = model_of_numbers("roberta")
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    answer_in_numbers(model, **SCALE)
    after = model.state_dict()
    changed = {name for name, weight in before.items() if not torch.equal(weight, after[name])}
    assert changed == {"head.output.weight", "head.output.bias"}


def test_a_model_without_a_head_has_no_numbers() -> None:
    with pytest.raises(AssertionError, match="without a head"):
        answer_in_numbers(TaskModel(tiny_config()), **SCALE)
