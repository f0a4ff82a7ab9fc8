"""The well-known encoders have exactly the parameters that their papers and files have."""

from __future__ import annotations

import pytest
import torch

from potstill.architectures.config import FAMILIES, EncoderConfig, config_to_hf
from potstill.architectures.counting import count_parameters, weight_shapes
from potstill.architectures.heads import HeadSpec, head_to_hf, hf_class_name
from potstill.architectures.presets import PRESETS, preset
from potstill.errors import RecipeError
from potstill.models import TaskModel
from potstill.models.loading import our_name
from tests.tiny import tiny_config, tiny_head

PARAMETERS = {
    "bert-base": 109_482_240,
    "bert-base-uncased": 109_482_240,
    "bert-base-cased": 108_310_272,
    "bert-large": 335_141_888,
    "bert-large-uncased": 335_141_888,
    "bert-large-cased": 333_579_264,
    "distilbert-base": 66_362_880,
    "distilbert-base-uncased": 66_362_880,
    "distilbert-base-cased": 65_190_912,
    "all-minilm-l6": 22_713_216,
    "minilm-l12": 33_360_000,
    "roberta-base": 124_645_632,
    "roberta-large": 355_359_744,
    "distilroberta-base": 82_118_400,
    "xlm-roberta-base": 278_043_648,
}
KINDS = ("none", "masked-lm", "classification", "token-classification", "question-answering")
HEADED = ("bert-base", "distilbert-base", "roberta-base", "xlm-roberta-base")
CASES = [(name, kind) for name in HEADED for kind in KINDS]


def test_every_preset_is_counted() -> None:
    assert set(PARAMETERS) == set(PRESETS)
    assert len(PARAMETERS) == 15


def test_every_head_of_every_family_is_counted() -> None:
    assert {preset(name).family for name in HEADED} == set(FAMILIES)
    assert len(CASES) == 20


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_preset_has_the_published_number_of_parameters(name: str) -> None:
    config = preset(name)
    assert count_parameters(config) == PARAMETERS[name]
    assert parameters_of(TaskModel, config, HeadSpec()) == PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_transformers_builds_a_preset_with_as_many_parameters(name: str) -> None:
    assert parameters_in_transformers(preset(name), HeadSpec()) == PARAMETERS[name]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_head_has_as_many_parameters_as_in_transformers(name: str, kind: str) -> None:
    config, head = preset(name), tiny_head(kind)
    ours = parameters_of(TaskModel, config, head)
    assert ours == parameters_in_transformers(config, head)
    with torch.device("meta"):
        config = TaskModel(config, head).config  # with the pooler that this head needs
    assert count_parameters(config, head) == ours


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_the_shapes_told_without_torch_are_those_of_the_network(
    family: str, kind: str, pooling: str
) -> None:
    head = tiny_head(kind, pooling=pooling if kind == "classification" else "first")
    model = TaskModel(tiny_config(family), head)
    built = {our_name(name): tuple(value.shape) for name, value in model.named_parameters()}
    assert weight_shapes(model.config, head) == built


def test_an_unknown_preset_names_its_neighbour_and_all_others() -> None:
    with pytest.raises(RecipeError) as told:
        preset("bert-bas")
    assert "did you mean bert-base?" in str(told.value)
    assert all(name in str(told.value) for name in PRESETS)
    with pytest.raises(RecipeError, match="there is no preset 'xyz'; allowed: all-minilm-l6"):
        preset("xyz")


def parameters_of(build: type, *arguments: object) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(*arguments).parameters())


def parameters_in_transformers(config: EncoderConfig, head: HeadSpec) -> int:
    """Count each tensor once, so that a tied decoder counts once."""
    transformers = pytest.importorskip("transformers")
    model_class = getattr(transformers, hf_class_name(config.family, head))
    hf = config_to_hf(config) | head_to_hf(head, config.family)
    return parameters_of(model_class, model_class.config_class(**hf))
