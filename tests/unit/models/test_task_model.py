"""An encoder with its head: fresh weights from a seed, and what each head reads."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear, relu

from potstill.models import TaskModel, TextLayout, arrange
from potstill.models.noise import Noise
from tests.tiny import WORDS, random_batch, tiny_config, tiny_head

FAMILIES = ("bert", "distilbert", "roberta", "xlm-roberta")
KINDS = ("none", "classification", "token-classification", "question-answering", "masked-lm")
LENGTHS = [5, 1, 9]
SIGMAS = 4.0


def model_of(
    family: str = "bert", kind: str = "classification", *, seed: int = 3, **head: object
) -> TaskModel:
    model = TaskModel(tiny_config(family), tiny_head(kind, **head))
    model.initialize(seed)
    return model


def layout_of(model: TaskModel) -> TextLayout:
    return arrange(random_batch(LENGTHS), model.config)


def weights_of(model: TaskModel) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_seed_gives_the_same_weights_whatever_was_drawn_before(family: str, kind: str) -> None:
    torch.manual_seed(1)
    first = weights_of(model_of(family, kind))
    torch.manual_seed(2)
    second, other = weights_of(model_of(family, kind)), weights_of(model_of(family, kind, seed=4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    drawn = [name for name in first if is_drawn(name)]
    assert all(not torch.equal(first[name], other[name]) for name in drawn)


def test_drawing_leaves_torchs_own_generator_alone() -> None:
    model = TaskModel(tiny_config(), tiny_head("classification"))
    state = torch.get_rng_state()
    model.initialize(seed=3)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_fresh_weights_are_normal_norms_one_and_biases_zero(family: str, kind: str) -> None:
    model = model_of(family, kind)
    spread = model.config.initializer_range
    for name, weight in weights_of(model).items():
        if name.endswith("norm.weight"):
            assert bool((weight == 1).all()), name
        elif name.endswith("bias"):
            assert bool((weight == 0).all()), name
        else:
            count = weight.numel()
            assert abs(float(weight.mean())) < SIGMAS * spread / math.sqrt(count), name
            assert abs(float(weight.std()) - spread) < SIGMAS * spread / math.sqrt(2 * count), name
            assert float(weight.abs().max()) < 6 * spread, name


def test_the_spread_is_the_one_that_the_config_tells() -> None:
    model = TaskModel(tiny_config(initializer_range=0.5))
    model.initialize(seed=0)
    assert float(weights_of(model)["encoder.embeddings.words.weight"].std()) == pytest.approx(
        0.5, rel=0.1
    )


def test_only_what_is_named_is_drawn() -> None:
    model = model_of()
    before = weights_of(model)
    model.initialize(seed=9, only=frozenset({"head.output.weight"}))
    after = weights_of(model)
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed == ["head.output.weight"]


@pytest.mark.parametrize(
    ("family", "kind", "pooling", "has_pooler"),
    [
        ("bert", "classification", "first", True),
        ("bert", "classification", "mean", False),
        ("bert", "token-classification", "first", False),
        ("bert", "masked-lm", "first", False),
        ("distilbert", "classification", "first", False),
        ("roberta", "classification", "first", False),
    ],
)
def test_a_pooler_stands_where_the_head_reads_it(
    family: str, kind: str, pooling: str, *, has_pooler: bool
) -> None:
    model = model_of(family, kind, pooling=pooling)
    assert (model.encoder.pooler is not None) == has_pooler
    assert model.config.pooler == has_pooler


def test_a_bare_encoder_keeps_the_pooler_of_its_config() -> None:
    assert TaskModel(tiny_config(pooler=True)).encoder.pooler is not None
    assert TaskModel(tiny_config(pooler=False)).encoder.pooler is None


Reading = Callable[[TaskModel, Tensor, TextLayout], Tensor]


def first_with_pooler(model: TaskModel, last_ND: Tensor, layout: TextLayout) -> Tensor:
    return model.head.output(torch.tanh(model.encoder.pooler(last_ND[layout.first_B])))


def first_with_relu(model: TaskModel, last_ND: Tensor, layout: TextLayout) -> Tensor:
    return model.head.output(relu(model.head.dense(last_ND[layout.first_B])))


def first_with_tanh(model: TaskModel, last_ND: Tensor, layout: TextLayout) -> Tensor:
    return model.head.output(torch.tanh(model.head.dense(last_ND[layout.first_B])))


def mean_with_relu(model: TaskModel, last_ND: Tensor, layout: TextLayout) -> Tensor:
    del layout
    means = torch.stack([text.mean(0) for text in last_ND.split(LENGTHS)])
    return model.head.output(relu(model.head.dense(means)))


def each_token(model: TaskModel, last_ND: Tensor, layout: TextLayout) -> Tensor:
    del layout
    return model.head.output(last_ND)


def words_again(model: TaskModel, last_ND: Tensor, layout: TextLayout) -> Tensor:
    del layout
    head = model.head
    transformed = gelu(head.transform(last_ND))
    normed = layer_norm(transformed, (32,), head.norm.weight, head.norm.bias, head.norm.eps)
    return linear(normed, model.encoder.embeddings.words.weight, head.decoder.bias)


READINGS: list[tuple[str, str, str, Reading, int]] = [
    ("bert", "classification", "first", first_with_pooler, 3),
    ("bert", "classification", "mean", mean_with_relu, 3),
    ("distilbert", "classification", "first", first_with_relu, 3),
    ("distilbert", "classification", "mean", mean_with_relu, 3),
    ("roberta", "classification", "first", first_with_tanh, 3),
    ("xlm-roberta", "classification", "first", first_with_tanh, 3),
    ("roberta", "classification", "mean", mean_with_relu, 3),
    *[(family, "token-classification", "first", each_token, 3) for family in FAMILIES],
    *[(family, "question-answering", "first", each_token, 2) for family in FAMILIES],
    *[(family, "masked-lm", "first", words_again, len(WORDS)) for family in FAMILIES],
]


@pytest.mark.parametrize(("family", "kind", "pooling", "reading", "width"), READINGS)
@torch.no_grad()
def test_a_head_reads_what_its_paper_says(
    family: str, kind: str, pooling: str, reading: Reading, width: int
) -> None:
    model = model_of(family, kind, pooling=pooling)
    spread_out(model)
    layout = layout_of(model)
    logits, output = model(layout, keep_states=True)
    rows = len(LENGTHS) if kind == "classification" else sum(LENGTHS)
    assert logits.shape == (rows, width)
    torch.testing.assert_close(logits, reading(model, output.last, layout), atol=1e-5, rtol=1e-5)
    alone, _ = model(layout)
    torch.testing.assert_close(alone, logits, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_first_position_alone_counts_for_its_head_and_all_for_the_mean() -> None:
    for pooling, changes in (("first", False), ("mean", True)):
        model = model_of(pooling=pooling)
        layout = layout_of(model)
        _, output = model(layout, keep_states=True)
        before = model.logits(output, layout)
        others = torch.ones(sum(LENGTHS), dtype=torch.bool)
        others[layout.first_B] = False
        output.last[others] += 1.0
        after = model.logits(output, layout)
        assert torch.equal(after[1], before[1])  # the text of one token has no other
        assert torch.equal(after, before) != changes


@torch.no_grad()
def test_the_decoder_is_the_word_table_itself() -> None:
    model = model_of(kind="masked-lm")
    layout = layout_of(model)
    assert "head.decoder.weight" not in weights_of(model)
    before, _ = model(layout)
    unused = sorted(set(range(len(WORDS))) - set(layout.ids_N.tolist()))[0]
    model.encoder.embeddings.words.weight[unused] *= 2
    after, _ = model(layout)
    is_other = torch.arange(len(WORDS)) != unused
    torch.testing.assert_close(after[:, unused], 2 * before[:, unused])
    assert torch.equal(after[:, is_other], before[:, is_other])


@pytest.mark.parametrize("kind", ["classification", "token-classification"])
def test_values_are_dropped_if_and_only_if_there_is_noise(kind: str) -> None:
    model = TaskModel(tiny_config(dropout=0.3, attention_dropout=0.3), tiny_head(kind))
    model.initialize(seed=3)
    layout = layout_of(model)

    def logits(noise: Noise | None) -> Tensor:
        return model(layout, noise=noise)[0].detach()

    quiet = logits(None)
    model.train()
    assert torch.equal(logits(None), quiet)
    model.eval()
    assert not torch.equal(logits(Noise(1)), quiet)
    assert torch.equal(logits(Noise(1)), logits(Noise(1)))
    assert not torch.equal(logits(Noise(1)), logits(Noise(2)))


def test_a_bare_encoder_has_no_logits() -> None:
    model = model_of(kind="none")
    assert model.head is None
    with pytest.raises(AssertionError, match="no logits"):
        model(layout_of(model))


def spread_out(model: TaskModel) -> None:
    """Draw biases and norms too, so that none of them is left out unseen."""
    generator = torch.Generator().manual_seed(8)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)


def is_drawn(name: str) -> bool:
    return not name.endswith(("norm.weight", "bias"))
