"""The name table can be read both ways, and a checkpoint's legacy spellings find their weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.architectures.config import FAMILIES
from potstill.architectures.heads import HeadSpec
from potstill.architectures.names import PREFIXES, hf_names, needs_pooler
from potstill.architectures.reading import guess_head, plan_reading
from tests.tiny import tiny_config, tiny_head

HEADS = [
    *[(kind, "first") for kind in ("none", "masked-lm", "classification", "token-classification")],
    ("question-answering", "first"),
    ("classification", "mean"),
]
CASES = [(family, kind, pooling) for family in FAMILIES for kind, pooling in HEADS]


def test_every_family_and_head_is_tried() -> None:
    assert len(CASES) == 24


@pytest.mark.parametrize(("family", "kind", "pooling"), CASES)
def test_no_two_weights_share_a_name(family: str, kind: str, pooling: str) -> None:
    names = hf_names(tiny_config(family), tiny_head(kind, pooling=pooling))
    assert len(set(names.values())) == len(names)


@pytest.mark.parametrize(("family", "kind", "pooling"), CASES)
def test_names_that_were_written_are_found_again(family: str, kind: str, pooling: str) -> None:
    head = tiny_head(kind, pooling=pooling)
    has_pooler = kind == "none" and family != "distilbert"
    config = replace(tiny_config(family), pooler=has_pooler or needs_pooler(family, head))
    names = hf_names(config, head)
    plan = plan_reading(names.values(), config, head)
    assert plan.sources == names
    assert plan.config == config
    assert (plan.copies, plan.missing, plan.ignored, plan.unknown) == ({}, [], [], [])


@given(
    family=st.sampled_from(FAMILIES),
    layers=st.integers(1, 30),
    pooler=st.booleans(),
    head=st.sampled_from(HEADS),
)
def test_the_table_is_reversible_at_every_depth(
    family: str, layers: int, head: tuple[str, str], *, pooler: bool
) -> None:
    spec = tiny_head(head[0], pooling=head[1])
    wanted = pooler and family != "distilbert" and spec.kind == "none"
    config = tiny_config(family, layers=layers, pooler=wanted or needs_pooler(family, spec))
    names = hf_names(config, spec)
    assert plan_reading(reversed(names.values()), config, spec).sources == names


@pytest.mark.parametrize(("family", "kind", "pooling"), CASES)
def test_the_familys_prefix_may_be_absent_or_present(family: str, kind: str, pooling: str) -> None:
    config, head = tiny_config(family), tiny_head(kind, pooling=pooling)
    prefix = PREFIXES[config.family]
    names = hf_names(config, head)
    for stored in (
        {ours: name.removeprefix(prefix) for ours, name in names.items()},
        {
            ours: name if name.startswith(prefix) or ours.startswith("head.") else prefix + name
            for ours, name in names.items()
        },
    ):
        plan = plan_reading(stored.values(), config, head)
        assert plan.missing == []
        assert plan.unknown == []
        assert plan.sources.items() <= stored.items()


def test_tensorflows_names_of_norms_are_known() -> None:
    config, head = tiny_config(), tiny_head("masked-lm")
    names = hf_names(replace(config, pooler=False), head)
    legacy = {
        ours: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        )
        for ours, name in names.items()
    }
    assert sum(legacy[ours] != names[ours] for ours in names) == 2 * (1 + 2 * 2 + 1)
    assert plan_reading(legacy.values(), config, head).sources == legacy


def test_a_weight_that_is_missing_is_named_without_the_prefix() -> None:
    config, head = replace(tiny_config(), pooler=False), tiny_head("token-classification")
    names = hf_names(config, head)
    lost = ["layers.0.attention.key.bias", "head.output.weight"]
    plan = plan_reading([names[ours] for ours in names if ours not in lost], config, head)
    assert plan.missing == ["classifier.weight", "encoder.layer.0.attention.self.key.bias"]


def test_what_is_left_over_is_ignored_if_known_and_told_if_not() -> None:
    config, head = tiny_config(pooler=False), tiny_head("token-classification")
    known = [
        "bert.embeddings.position_ids",
        "bert.pooler.dense.bias",
        "bert.pooler.dense.weight",
        "cls.predictions.bias",
        "cls.predictions.decoder.bias",
        "cls.predictions.decoder.weight",
        "cls.predictions.transform.LayerNorm.gamma",
        "cls.seq_relationship.weight",
    ]
    unknown = ["adapter.up", "bert.encoder.layer.2.output.dense.bias"]
    plan = plan_reading([*hf_names(config, head).values(), *known, *unknown], config, head)
    assert plan.ignored == known
    assert plan.unknown == unknown
    assert plan.copies == {}


@pytest.mark.parametrize(
    ("family", "kind", "second", "ours"),
    [
        ("bert", "masked-lm", "cls.predictions.decoder.bias", "head.decoder.bias"),
        ("bert", "masked-lm", "cls.predictions.decoder.weight", "embeddings.words.weight"),
        ("roberta", "masked-lm", "lm_head.decoder.bias", "head.decoder.bias"),
        ("roberta", "masked-lm", "lm_head.decoder.weight", "embeddings.words.weight"),
        ("distilbert", "masked-lm", "vocab_projector.weight", "embeddings.words.weight"),
        ("bert", "none", "bert.embeddings.LayerNorm.gamma", "embeddings.norm.weight"),
    ],
)
def test_a_weight_stored_twice_is_a_copy_to_be_compared(
    family: str, kind: str, second: str, ours: str
) -> None:
    config, head = tiny_config(family, pooler=False), tiny_head(kind)
    plan = plan_reading([*hf_names(config, head).values(), second], config, head)
    ((copy, original),) = plan.copies.items()
    assert original == ours
    assert second in {copy, plan.sources[ours]}
    assert plan.ignored == plan.unknown == []


@pytest.mark.parametrize("family", FAMILIES)
def test_a_masked_lm_head_is_recognized_by_its_names(family: str) -> None:
    for kind in ("none", "masked-lm"):
        head = tiny_head(kind)
        names = hf_names(tiny_config(family, pooler=False), head).values()
        assert guess_head(names, tiny_config(family).family) == HeadSpec(kind=kind)
