"""A student begins exactly as its teacher, with layers taken out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from potstill.architectures.config import EncoderConfig
from potstill.distillation.student import ARCHITECTURES, cut_student, student_config
from potstill.errors import RecipeError
from potstill.models import TaskModel
from potstill.models.loading import tensors_of
from potstill.runtime.torch_engine import TorchEngine
from potstill.text.ragged import RaggedBatch
from tests.distilling import teacher_model
from tests.tiny import random_batch, tiny_config

TEXTS = random_batch([1, 3, 17, 40, 8, 8, 2], seed=3)
ALL = (0, 1, 2, 3)


def cut(teacher: TaskModel, kept: tuple[int, ...], architecture: str = "auto") -> TaskModel:
    return cut_student(
        teacher, student_config(teacher.config, len(kept), architecture=architecture), kept
    )


def output(model: TaskModel, name: str, texts: RaggedBatch = TEXTS) -> np.ndarray:
    return TorchEngine(model).run(texts, [name])[name]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("family", ["bert", "distilbert"])
@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_the_embedding_output_is_the_teachers(family: str, architecture: str, pooling: str) -> None:
    teacher = teacher_model(family, pooling=pooling)
    student = cut(teacher, (1, 3), architecture)
    np.testing.assert_allclose(
        output(student, "state.0"), output(teacher, "state.0"), rtol=0, atol=1e-6
    )


def test_the_token_types_that_are_folded_in_are_not_zero() -> None:
    teacher = teacher_model()
    types = teacher.encoder.embeddings.token_types
    assert types is not None
    assert types.weight[0].abs().mean() > 0.1
    student = cut(teacher, (0, 2), "distilbert")
    assert student.encoder.embeddings.token_types is None
    torch.testing.assert_close(
        student.encoder.embeddings.positions.weight,
        teacher.encoder.embeddings.positions.weight + types.weight[0],
        rtol=0,
        atol=0,
    )
    # Without the fold the law above would not hold.
    with torch.no_grad():
        student.encoder.embeddings.positions.weight.sub_(types.weight[0])
    assert np.abs(output(student, "state.0") - output(teacher, "state.0")).max() > 0.1


@pytest.mark.parametrize("architecture", ["teacher", "distilbert"])
@pytest.mark.parametrize("kept", [(0,), (1, 3), (0, 1, 2), ALL])
def test_the_layers_kept_are_the_teachers(kept: tuple[int, ...], architecture: str) -> None:
    teacher = teacher_model()
    student = cut(teacher, kept, architecture)
    assert student.config.layers == len(student.encoder.layers) == len(kept)
    theirs = dict(teacher.encoder.layers.named_parameters())
    for name, parameter in student.encoder.layers.named_parameters():
        place, _, rest = name.partition(".")
        assert torch.equal(parameter, theirs[f"{kept[int(place)]}.{rest}"]), name


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "xlm-roberta"])
@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_a_teacher_kept_whole_answers_as_before(family: str, pooling: str) -> None:
    teacher = teacher_model(family, pooling=pooling)
    texts = random_batch([1, 3, 17, 39], seed=3)
    student = cut(teacher, ALL, "teacher")
    assert student.config == teacher.config
    logits = output(teacher, "logits", texts)
    assert np.abs(logits).max() > 0.1
    np.testing.assert_allclose(output(student, "logits", texts), logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_a_mean_pooled_head_survives_exactly(family: str) -> None:
    teacher = teacher_model(family, pooling="mean")
    student = cut(teacher, ALL, "distilbert")
    assert student.config.family == "distilbert"
    assert student.spec == teacher.spec
    ours, theirs = tensors_of(student), tensors_of(teacher)
    heads = [name for name in theirs if name.startswith("head.")]
    assert len(heads) == 4
    assert all(np.array_equal(ours[name], theirs[name]) for name in heads)
    # The fold rounds each position once, so the logits are not equal to the last bit.
    np.testing.assert_allclose(
        output(student, "logits"), output(teacher, "logits"), rtol=0, atol=1e-5
    )


def test_berts_head_turned_into_distilberts_answers_alike_near_zero() -> None:
    teacher = teacher_model()
    with torch.no_grad():  # so small that tanh(z) is z, and relu(z + 1) - 1 is too
        teacher.encoder.pooler.weight.mul_(1e-3)
        teacher.encoder.pooler.bias.mul_(1e-3)
        teacher.head.output.weight.mul_(100.0)
    student = cut(teacher, ALL, "distilbert")
    logits = output(teacher, "logits")
    assert np.ptp(logits, axis=0).min() > 1e-2
    np.testing.assert_allclose(output(student, "logits"), logits, rtol=0, atol=1e-4)


def test_a_student_is_a_copy_that_learns() -> None:
    teacher = teacher_model()
    before = {name: array.copy() for name, array in tensors_of(teacher).items()}
    student = cut(teacher, ALL, "teacher")
    assert all(parameter.requires_grad for parameter in student.parameters())
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    after = tensors_of(teacher)
    assert all(np.array_equal(after[name], before[name]) for name in before)


def test_labels_and_their_order_are_the_teachers() -> None:
    teacher = teacher_model(labels=("c", "a", "b"))
    assert cut(teacher, (0, 2)).spec.labels == ("c", "a", "b")


CHOSEN = [
    # teacher, architecture, has_pairs, family of the student
    ("bert", "auto", False, "distilbert"),
    ("bert", "auto", True, "bert"),
    ("bert", "teacher", False, "bert"),
    ("bert", "distilbert", False, "distilbert"),
    ("distilbert", "auto", False, "distilbert"),
    ("distilbert", "teacher", False, "distilbert"),
    ("roberta", "auto", False, "roberta"),
    ("roberta", "teacher", False, "roberta"),
    ("xlm-roberta", "auto", False, "xlm-roberta"),
]


@pytest.mark.parametrize(("family", "architecture", "has_pairs", "expected"), CHOSEN)
def test_which_architecture_a_student_has(
    family: str, architecture: str, *, has_pairs: bool, expected: str
) -> None:
    config = student_config(tiny_config(family), 1, architecture=architecture, has_pairs=has_pairs)
    assert config.family == expected
    assert config.layers == 1
    is_distilbert = expected == "distilbert"
    assert (config.token_types == 0) is is_distilbert
    assert config.hidden_size == tiny_config(family).hidden_size


def test_a_roberta_stays_one() -> None:
    teacher = teacher_model("roberta")
    student = cut(teacher, (0, 2))
    assert student.config.family == "roberta"
    texts = random_batch([5, 12], seed=1)
    assert np.array_equal(output(student, "state.0", texts), output(teacher, "state.0", texts))


REFUSED = [
    (tiny_config("roberta"), "roberta counts positions from another row"),
    (tiny_config("xlm-roberta"), "xlm-roberta counts positions"),
    (tiny_config(norm_epsilon=1e-5), "its norm_epsilon is 1e-05"),
]


@pytest.mark.parametrize(("config", "reason"), REFUSED)
def test_a_teacher_that_distilbert_cannot_hold_is_refused(
    config: EncoderConfig, reason: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        student_config(config, 1, architecture="distilbert")
    (line,) = str(caught.value).splitlines()
    assert line.startswith("--architecture: ")
    assert reason in line
    assert "--architecture teacher" in line
    assert student_config(config, 1).family == config.family


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(RecipeError, match="'gpt'; allowed: auto, teacher, distilbert"):
        student_config(tiny_config(), 1, architecture="gpt")
