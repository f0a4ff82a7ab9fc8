"""Each term of the objective is the loss that a hand computes, over real tokens or rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from potstill.distillation import objective as objective_module
from potstill.distillation import relation_term as relation_module
from potstill.distillation.objective import (
    COSINE,
    HARD,
    RELATIONS,
    SOFT,
    SQUARED,
    DistillObjective,
    needed_states,
    require_terms,
)
from potstill.distillation.signals import LiveTeacher, Signals
from potstill.distillation.student import cut_student, student_config
from potstill.errors import RecipeError
from potstill.models import TaskModel
from potstill.models.noise import Noise
from potstill.runtime.torch_engine import TorchEngine
from potstill.train import answer_losses
from potstill.train.learnable import Learnable
from potstill.train.objective import Int64
from tests.distilling import teacher_model
from tests.tiny import random_batch

UNLABELLED = -1
TEXTS = random_batch([3, 9, 1, 20, 7, 5, 4, 12], seed=1)
TARGETS = np.array([0, 1, UNLABELLED, 1, 0, UNLABELLED, UNLABELLED, 1])
TERMS = {SOFT: 0.9, HARD: 0.1, COSINE: 0.5, SQUARED: 0.4, RELATIONS: 0.3}
LAYERS = ((1, 2), (2, 4))
TEACHER = teacher_model()
ROWS = np.array([6, 3, 0, 2, 7])


def student(architecture: str = "distilbert") -> TaskModel:
    config = student_config(TEACHER.config, 2, architecture=architecture)
    return cut_student(TEACHER, config, (0, 2))


def objective(**changes: Any) -> DistillObjective:
    weights = changes.get("term_weights", TERMS)
    states = needed_states(weights, LAYERS, (2, 4))
    live = LiveTeacher(models=[TEACHER], texts=[TEXTS], temperature=2.0, state_indices=states)
    usual = DistillObjective(
        rows=Learnable(TEXTS, TARGETS),
        teacher=live,
        term_weights=TERMS,
        temperature=2.0,
        layer_map=LAYERS,
        relation_layers=(2, 4),
        teacher_encoder=TEACHER.encoder,
        relation_heads=4,
    )
    return replace(usual, **changes)


def sums_of(
    chosen: DistillObjective, rows: Int64 = ROWS, model: TaskModel | None = None
) -> dict[str, float]:
    with torch.no_grad():
        found = chosen.loss_sums(
            model or student(), chosen.prepare(rows, np.random.default_rng(0)), Noise(0)
        )
    return {name: float(value) for name, value in found.items()}


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits.astype(np.float64)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def states_of(model: TaskModel, row: int, index: int) -> np.ndarray:
    name = f"state.{index}"
    return TorchEngine(model).run(TEXTS.take([row]), [name])[name].astype(np.float64)


def test_soft_targets_are_a_divergence_summed_over_rows() -> None:
    ours, theirs = (
        TorchEngine(model).run(TEXTS.take(ROWS))["logits"] for model in (student(), TEACHER)
    )
    own, its = log_softmax(ours / 2.0), log_softmax(theirs / 2.0)
    expected = 4.0 * (np.exp(its) * (its - own)).sum()
    assert expected > 0.1
    assert sums_of(objective())[SOFT] == pytest.approx(expected, rel=1e-4)


def test_hard_labels_are_summed_over_the_labelled_rows_alone() -> None:
    known = [row for row in ROWS if TARGETS[row] != UNLABELLED]
    assert len(known) == 3
    logs = log_softmax(TorchEngine(student()).run(TEXTS.take(known))["logits"])
    expected = -sum(log[TARGETS[row]] for log, row in zip(logs, known, strict=True))
    assert sums_of(objective())[HARD] == pytest.approx(expected, rel=1e-4)


def test_rows_without_labels_add_nothing_to_hard_labels() -> None:
    known = ROWS[TARGETS[ROWS] != UNLABELLED]
    only_hard = objective(term_weights={HARD: 1.0})
    assert sums_of(only_hard)[HARD] == pytest.approx(sums_of(only_hard, known)[HARD], rel=1e-5)
    unknown = ROWS[TARGETS[ROWS] == UNLABELLED]
    batch = only_hard.prepare(unknown, np.random.default_rng(0))
    model = student()
    (loss,) = only_hard.loss_sums(model, batch, Noise(0)).values()
    assert loss.item() == 0.0
    assert only_hard.counts(batch) == {HARD: 0.0}
    loss.backward()  # a micro-batch without any label must not break the step
    assert all(float(weight.grad.abs().max()) == 0.0 for weight in model.head.parameters())


def test_hidden_states_are_compared_at_every_real_token() -> None:
    cosine = squared = 0.0
    model = student()
    for row in ROWS:
        for own_index, its_index in LAYERS:
            own, its = states_of(model, row, own_index), states_of(TEACHER, row, its_index)
            lengths = np.linalg.norm(own, axis=1) * np.linalg.norm(its, axis=1)
            cosine += (1.0 - (own * its).sum(axis=1) / lengths).sum() / len(LAYERS)
            squared += ((own - its) ** 2).mean(axis=1).sum() / len(LAYERS)
    found = sums_of(objective(), model=model)
    assert min(cosine, squared) > 0.1
    assert found[COSINE] == pytest.approx(cosine, rel=1e-4)
    assert found[SQUARED] == pytest.approx(squared, rel=1e-4)


def test_relations_are_of_queries_keys_and_values_of_both_last_layers() -> None:
    model, expected = student(), 0.0
    for row in ROWS:
        own, its = (
            vectors_of(model, 1, states_of(model, row, 1)),
            vectors_of(TEACHER, 3, states_of(TEACHER, row, 3)),
        )
        expected += np.mean([divergence(*pair) for pair in zip(own, its, strict=True)], axis=0)
    assert expected > 0.1
    assert sums_of(objective(), model=model)[RELATIONS] == pytest.approx(expected, rel=1e-4)


def vectors_of(model: TaskModel, layer: int, inputs: np.ndarray) -> list[np.ndarray]:
    """Return queries, keys and values of one text, computed by hand."""
    weights = {name: each.numpy() for name, each in model.state_dict().items()}
    return [
        inputs @ weights[f"encoder.layers.{layer}.attention.{part}.weight"].T
        + weights[f"encoder.layers.{layer}.attention.{part}.bias"]
        for part in ("query", "key", "value")
    ]


def divergence(own: np.ndarray, its: np.ndarray, heads: int = 4) -> float:
    """Return KL of the relations of one text, mean over heads, summed over tokens."""
    total = 0.0
    for head in range(heads):
        part = slice(head * 8, head * 8 + 8)
        own_log, its_log = (
            log_softmax(side[:, part] @ side[:, part].T / np.sqrt(8)) for side in (own, its)
        )
        total += (np.exp(its_log) * (its_log - own_log)).sum() / heads
    return total


def test_counts_are_rows_labelled_rows_and_tokens() -> None:
    chosen = objective()
    batch = chosen.prepare(ROWS, np.random.default_rng(0))
    tokens = float(TEXTS.lengths[ROWS].sum())
    assert chosen.counts(batch) == {
        SOFT: 5.0,
        HARD: 3.0,
        COSINE: tokens,
        SQUARED: tokens,
        RELATIONS: tokens,
    }
    assert set(sums_of(chosen)) == set(chosen.counts(batch)) == set(chosen.weights)


@pytest.mark.parametrize("architecture", ["teacher", "distilbert"])
def test_how_texts_are_arranged_changes_nothing(architecture: str) -> None:
    model = student(architecture)
    padded, packed = (sums_of(objective(how=how), model=model) for how in ("padded", "packed"))
    assert packed == pytest.approx(padded, rel=1e-4)


def test_a_batch_is_the_sum_of_its_rows() -> None:
    chosen, model = objective(), student()
    whole = sums_of(chosen, model=model)
    alone = [sums_of(chosen, np.array([row]), model) for row in ROWS]
    for name, value in whole.items():
        assert value == pytest.approx(sum(each[name] for each in alone), rel=1e-4)


def test_the_teacher_kept_whole_has_nothing_to_learn_from_itself() -> None:
    whole = cut_student(
        TEACHER, student_config(TEACHER.config, 4, architecture="teacher"), range(4)
    )
    map_to_itself = tuple((index, index) for index in range(5))
    states = tuple(range(5))
    live = LiveTeacher(models=[TEACHER], texts=[TEXTS], temperature=2.0, state_indices=states)
    chosen = objective(layer_map=map_to_itself, relation_layers=(4, 4), teacher=live)
    found = sums_of(chosen, model=whole)
    tokens = TEXTS.lengths[ROWS].sum()
    assert found.pop(HARD) > 0.0
    assert max(abs(value) for value in found.values()) < 1e-6 * tokens


class OnlyLogits:
    """A teacher that has no hidden state to give."""

    def signals(self, rows: Int64) -> Signals:
        return Signals(torch.zeros(len(rows), 2), {})


def test_terms_of_weight_0_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object, **options: object) -> torch.Tensor:
        raise AssertionError("a term of weight 0 was computed")

    for name in ("cosine_loss", "squared_error_loss"):
        monkeypatch.setattr(objective_module, name, never)
    monkeypatch.setattr(relation_module, "relation_loss", never)
    monkeypatch.setattr(answer_losses, "hard_label_loss", never)
    weights = dict.fromkeys(TERMS, 0.0) | {SOFT: 1.0}
    chosen = objective(term_weights=weights, teacher=OnlyLogits())
    assert set(sums_of(chosen)) == {SOFT}
    assert chosen.weights == {SOFT: 1.0}


def test_where_positions_begin_is_not_seen_by_relations() -> None:
    teacher = teacher_model("roberta")  # which counts positions from 2
    model = cut_student(teacher, student_config(teacher.config, 2), (0, 2))
    live = LiveTeacher(models=[teacher], texts=[TEXTS], temperature=2.0, state_indices=(3,))
    chosen = objective(term_weights={RELATIONS: 1.0}, teacher=live, teacher_encoder=teacher.encoder)
    expected = 0.0
    for row in ROWS:
        own = vectors_of(model, 1, states_of(model, row, 1))
        its = vectors_of(teacher, 3, states_of(teacher, row, 3))
        expected += np.mean([divergence(*pair) for pair in zip(own, its, strict=True)])
    assert sums_of(chosen, model=model)[RELATIONS] == pytest.approx(expected, rel=1e-4)


def test_the_last_layer_is_computed_whole_only_for_terms_that_read_it() -> None:
    class Watched(TaskModel):
        keeps: list[bool]

        def forward(self, layout: Any, **options: Any) -> Any:
            self.keeps.append(options["keep_states"])
            return super().forward(layout, **options)

    model = student()
    model.__class__ = Watched
    model.keeps = []
    sums_of(objective(term_weights={SOFT: 1.0, HARD: 1.0}), model=model)
    sums_of(objective(term_weights={SOFT: 1.0, RELATIONS: 1.0}), model=model)
    assert model.keeps == [False, True]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({SOFT: 1.0, HARD: 1.0}, ()),
        ({COSINE: 1.0}, (2, 4)),
        ({SQUARED: 1.0, COSINE: 0.0}, (2, 4)),
        ({RELATIONS: 1.0}, (3,)),
        (TERMS, (2, 3, 4)),
    ],
)
def test_only_states_that_a_term_reads_are_asked_for(
    weights: dict[str, float], expected: tuple[int, ...]
) -> None:
    assert needed_states(weights, LAYERS, (2, 4)) == expected


def test_an_objective_without_a_term_is_refused() -> None:
    with pytest.raises(RecipeError, match="all losses have weight 0"):
        objective(term_weights=dict.fromkeys(TERMS, 0.0))
    with pytest.raises(RecipeError, match=r"--set soft_targets=0\.9"):
        require_terms({})
    require_terms({SOFT: 0.0, RELATIONS: 0.1})


def test_every_term_pulls_at_the_student() -> None:
    for name in TERMS:
        model, chosen = student(), objective(term_weights={name: 1.0})
        batch = chosen.prepare(ROWS, np.random.default_rng(0))
        chosen.loss_sums(model, batch, Noise(0))[name].backward()
        gradient = model.encoder.layers[0].feed_forward.up.weight.grad
        assert gradient is not None, name
        assert float(gradient.abs().max()) > 1e-6, name
    assert all(parameter.grad is None for parameter in TEACHER.parameters())
