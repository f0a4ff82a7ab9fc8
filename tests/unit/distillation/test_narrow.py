"""A narrower student: its sizes, its map back to the teacher's dimensions, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from potstill.architectures.heads import HeadSpec
from potstill.distillation.narrow import narrow, narrow_beside_map, narrow_config
from potstill.errors import RecipeError
from potstill.models import TaskModel
from potstill.runtime.torch_engine import TorchEngine
from tests.tiny import random_batch, tiny_config

TEXTS = random_batch([3, 9, 5, 7], seed=1)


def vectors_model(family: str = "bert", **head: object) -> TaskModel:
    spec = HeadSpec(kind="embedding", pooling="mean", normalize=True, **head)
    model = TaskModel(tiny_config(family), spec)
    model.initialize(seed=3)
    return model


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_its_vectors_have_the_teachers_dimensions_and_length_1(family: str) -> None:
    student = narrow(vectors_model(family), 16)
    assert (student.config.hidden_size, student.config.heads) == (16, 2)
    assert student.config.feed_forward_size == 32
    vectors = TorchEngine(student).run(TEXTS, ["vectors"])["vectors"]
    assert vectors.shape == (4, 32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_the_map_begins_as_the_main_directions_of_the_word_table() -> None:
    model = vectors_model()
    student = narrow(model, 16)
    directions_DK = student.head.output.weight.detach()
    torch.testing.assert_close(directions_DK.T @ directions_DK, torch.eye(16), atol=1e-5, rtol=0)
    words = model.encoder.embeddings.words.weight.detach()
    torch.testing.assert_close(
        student.encoder.embeddings.words.weight.detach(), words @ directions_DK
    )
    centered = (words - words.mean(0)).double()
    kept = (centered @ directions_DK.double()).square().sum()
    best = torch.linalg.svdvals(centered)[:16].square().sum()
    assert float(kept) == pytest.approx(float(best), rel=1e-5)


def test_a_map_that_was_there_goes_on_to_its_dimensions() -> None:
    student = narrow(vectors_model(width=24), 16)
    assert TorchEngine(student).run(TEXTS, ["vectors"])["vectors"].shape == (4, 24)


@pytest.mark.parametrize("width", [32, 40, 12, -8])
def test_another_width_than_of_whole_heads_below_the_teachers_is_refused(width: int) -> None:
    with pytest.raises(RecipeError, match=r"^width is -?\d+; allowed: multiples of 8"):
        narrow_config(tiny_config(), width)


def test_a_teacher_of_one_head_is_told_to_have_no_narrower_student() -> None:
    single = replace(tiny_config(), heads=1)
    with pytest.raises(RecipeError, match="a model of one attention head cannot be made narrower"):
        narrow_config(single, 16)


def masked_lm_model(family: str = "bert") -> TaskModel:
    model = TaskModel(tiny_config(family), HeadSpec(kind="masked-lm"))
    model.initialize(seed=3)
    return model


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_a_masked_lm_student_is_the_same_with_and_without_its_map(family: str) -> None:
    teacher = masked_lm_model(family)
    student = narrow_beside_map(teacher, 16)
    alone = student.alone()
    assert "to_teacher.weight" not in dict(alone.named_parameters())
    assert alone.config.hidden_size == 16
    batch = random_batch([5, 9], seed=2)
    with_map, without = (
        TorchEngine(model).run(batch, ["logits"])["logits"] for model in (student, alone)
    )
    np.testing.assert_array_equal(with_map, without)
    assert with_map.shape == (14, teacher.config.vocabulary_size)


def test_the_map_of_a_masked_lm_student_leads_its_words_back_to_the_teachers() -> None:
    teacher = masked_lm_model()
    student = narrow_beside_map(teacher, 24)
    words_VD = teacher.encoder.embeddings.words.weight.detach()
    seen_VD = student.to_teacher(student.encoder.embeddings.words.weight).detach()
    lost = (words_VD - words_VD.mean(0)) - (seen_VD - seen_VD.mean(0))
    least = torch.linalg.svdvals((words_VD - words_VD.mean(0)).double())[24:].square().sum()
    assert float(lost.double().square().sum()) == pytest.approx(float(least), rel=1e-4)
