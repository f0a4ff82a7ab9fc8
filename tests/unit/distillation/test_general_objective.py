"""Laws of general distillation's objective: head where asked = head everywhere; exact zeros."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from potstill.distillation.general_objective import (
    COSINE,
    MASKED_LM,
    RELATIONS,
    SOFT,
    TERMS,
    GeneralObjective,
)
from potstill.distillation.held_out_terms import HeldOutTerms
from potstill.distillation.narrow import narrow_beside_map
from potstill.distillation.student import cut_student, student_config
from potstill.errors import RecipeError
from potstill.losses.hidden_states import cosine_loss
from potstill.losses.relations import relation_loss
from potstill.losses.soft_targets import soft_target_loss
from potstill.losses.vocabulary import NO_TARGET
from potstill.models import TaskModel
from potstill.models.layout import arrange
from potstill.models.noise import Noise
from potstill.train.held_out import HeldOutLoss
from tests.unit.train.test_masked_lm_objective import objective as masked_lm
from tests.unit.train.test_masked_lm_objective import tiny_model

ALL = dict.fromkeys(TERMS, 1.0)


def asked(teacher: TaskModel, weights: dict[str, float] = ALL, **more: Any) -> GeneralObjective:
    plain = masked_lm(30)
    return GeneralObjective(
        passages=plain.passages,
        masking=plain.masking,
        teacher=teacher,
        term_weights=weights,
        relation_layers=(teacher.config.layers, teacher.config.layers),
        relation_heads=4,
        **more,
    )


def student_of(teacher: TaskModel, kept: tuple[int, ...] = (1,)) -> TaskModel:
    return cut_student(teacher, student_config(teacher.config, len(kept)), kept)


def batch_of(found: GeneralObjective, seed: int = 0) -> Any:
    return found.prepare(np.arange(12), np.random.default_rng(seed))


def test_each_term_is_what_full_outputs_give() -> None:
    teacher = tiny_model()
    teacher.requires_grad_(requires_grad=False)
    student = student_of(teacher)
    with torch.no_grad():  # so that it guesses otherwise, and the divergence is no rounding
        student.head.decoder.bias.uniform_(-1.0, 1.0, generator=torch.Generator().manual_seed(0))
    found = replace(asked(teacher, temperature=2.0), relation_layers=(1, 2))
    batch = batch_of(found)
    sums = found.loss_sums(student, batch, None)
    layout = arrange(batch.masked.texts, student.config)
    ours, our_states = student(layout, keep_states=True)
    theirs, its_states = teacher(arrange(batch.masked.texts, teacher.config), keep_states=True)
    assert sums[SOFT].item() == pytest.approx(
        soft_target_loss(ours, theirs, temperature=2.0).sum().item(), rel=1e-4
    )
    assert sums[COSINE].item() == pytest.approx(
        cosine_loss(our_states.last, its_states.last).sum().item(), rel=1e-4
    )
    own = student.encoder.queries_keys_values(0, our_states.state(0))
    its = teacher.encoder.queries_keys_values(1, its_states.state(1))
    relations = [
        relation_loss(one, other, layout.text_N, layout.positions_N, heads=4).sum()
        for one, other in zip(own, its, strict=True)
    ]
    assert sums[RELATIONS].item() == pytest.approx(torch.stack(relations).mean().item(), rel=1e-4)
    alone = masked_lm(30).loss_sums(student, batch.masked, None)[MASKED_LM]
    assert sums[MASKED_LM].item() == pytest.approx(alone.item(), rel=1e-5)


def test_a_student_that_is_its_teacher_loses_nothing_but_the_tokens() -> None:
    teacher = tiny_model()
    found = asked(teacher)
    sums = found.loss_sums(student_of(teacher, (0, 1)), batch_of(found), None)
    for name in (SOFT, COSINE, RELATIONS):
        assert sums[name].item() == pytest.approx(0.0, abs=2e-3)
    assert sums[MASKED_LM].item() > 1.0


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_teacher_is_heard_at_hidden_tokens_and_a_share_of_the_others(share: float) -> None:
    found = asked(tiny_model(), other_share=share)
    batch = batch_of(found)
    hidden = len(batch.masked.places)
    others = batch.masked.texts.total_tokens - hidden
    assert len(batch.places) == len(set(batch.places)) == hidden + round(share * others)
    assert np.array_equal(batch.places[:hidden], batch.masked.places)
    assert (batch.targets[hidden:] == NO_TARGET).all()
    counts = found.counts(batch)
    assert counts[SOFT] == counts[COSINE] == len(batch.places)
    assert counts[MASKED_LM] == hidden
    assert counts[RELATIONS] == batch.masked.texts.total_tokens


def test_without_soft_targets_no_other_position_is_asked() -> None:
    found = asked(tiny_model(), {MASKED_LM: 1.0})
    batch = batch_of(found)
    assert len(batch.places) == len(batch.masked.places)
    assert found.weights == {MASKED_LM: 1.0}


@pytest.mark.parametrize("kept", [(0, 1), (1,)])
def test_relations_alone_are_those_beside_other_terms(kept: tuple[int, ...]) -> None:
    teacher = tiny_model()
    found = []
    for others in (0.0, 1.0):  # beside another term the last layer is run too
        student = student_of(teacher, kept)
        weights = {RELATIONS: 1.0, MASKED_LM: others}
        objective = replace(asked(teacher, weights), relation_layers=(len(kept), 2))
        # Dropout as well: what is not run must not move the noise of what is.
        sums = objective.loss_sums(student, batch_of(objective), Noise(1))
        sums[RELATIONS].backward()
        encoder = student.encoder
        layers = [encoder.embeddings, *encoder.layers[:-1], encoder.layers[-1].attention.query]
        learned = [each for layer in layers for each in layer.parameters()]
        found.append((sums[RELATIONS].detach(), [each.grad for each in learned]))
    (alone, its), (beside, theirs) = found
    torch.testing.assert_close(alone, beside)
    torch.testing.assert_close(its, theirs)


def test_gradients_reach_the_student_alone() -> None:
    teacher = tiny_model()
    student = student_of(teacher)
    found = replace(asked(teacher), relation_layers=(1, 2))
    sums = found.loss_sums(student, batch_of(found), None)
    torch.stack(list(sums.values())).sum().backward()
    assert all(each.grad is None for each in teacher.parameters())
    assert all(each.grad is not None for each in student.parameters())


def test_held_out_terms_are_means_over_positions_and_the_same_every_time() -> None:
    teacher = tiny_model()
    student = student_of(teacher)
    found = replace(asked(teacher, other_share=0.2), relation_layers=(1, 2))
    held_out = HeldOutLoss(found.passages, found.masking, precision="fp32")
    terms = HeldOutTerms(found, held_out).of(student)
    assert terms == HeldOutTerms(found, held_out).of(student)
    assert terms[MASKED_LM] == pytest.approx(held_out.of(student), rel=1e-4)
    assert HeldOutTerms(found, held_out).total(terms) == pytest.approx(sum(terms.values()))


def test_an_objective_without_a_term_is_refused() -> None:
    with pytest.raises(RecipeError, match="all losses have weight 0"):
        asked(tiny_model(), dict.fromkeys(TERMS, 0.0))


def test_a_narrower_student_is_compared_through_its_map() -> None:
    teacher = tiny_model()
    teacher.requires_grad_(requires_grad=False)
    student = narrow_beside_map(student_of(teacher), 16)
    found = replace(asked(teacher), relation_layers=(1, 2), relation_heads=2)
    batch = batch_of(found)
    sums = found.loss_sums(student, batch, None)
    ours = student.encode(arrange(batch.masked.texts, student.config)).last
    theirs = teacher.encode(arrange(batch.masked.texts, teacher.config)).last
    expected = cosine_loss(student.to_teacher(ours), theirs).sum()
    assert sums[COSINE].item() == pytest.approx(expected.item(), rel=1e-5)
    sum(sums.values()).backward()
    assert float(student.to_teacher.weight.grad.abs().max()) > 0
