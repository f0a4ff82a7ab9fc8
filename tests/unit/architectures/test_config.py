"""Sizes go to config.json and back unchanged, and what cannot be built is refused in one line."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.architectures.config import (
    ACTIVATIONS,
    CONFIG_KEYS,
    FAMILIES,
    EncoderConfig,
    config_from_hf,
    config_to_hf,
)
from potstill.architectures.presets import PRESETS, preset
from potstill.errors import ModelError
from tests.tiny import tiny_config

SIZES = st.integers(1, 2**31 - 1)
# Without subnormal numbers: torch engines that ran before in this process flush them to zero.
NUMBERS = st.floats(allow_subnormal=False)
SHARES = st.floats(0, 0.99, allow_subnormal=False)


@st.composite
def configs(draw: st.DrawFn) -> EncoderConfig:
    family = draw(st.sampled_from(FAMILIES))
    heads = draw(st.integers(1, 64))
    pad_id = draw(st.integers(0, 1_000))
    free: dict[str, Any] = {}
    if family != "distilbert":
        free = {
            "token_types": draw(st.integers(0, 8)),
            "norm_epsilon": draw(st.floats(0, 1, allow_subnormal=False)),
        }
    return EncoderConfig(
        family=family,
        vocabulary_size=draw(SIZES),
        layers=draw(st.integers(1, 1_000)),
        hidden_size=heads * draw(st.integers(1, 256)),
        heads=heads,
        feed_forward_size=draw(SIZES),
        max_positions=draw(st.integers(pad_id + 2, 2**31 - 1)),
        activation=draw(st.sampled_from(ACTIVATIONS)),
        dropout=draw(SHARES),
        attention_dropout=draw(SHARES),
        initializer_range=draw(st.floats(0, 1, allow_subnormal=False)),
        pad_id=pad_id,
        **(free or {"token_types": 0}),
    )


@given(config=configs())
def test_reading_what_was_written_gives_the_same_sizes(config: EncoderConfig) -> None:
    assert config_from_hf(config_to_hf(config)) == config


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_comes_back_but_for_the_pooler(name: str) -> None:
    config = preset(name)
    assert config_from_hf(config_to_hf(config)) == replace(config, pooler=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_reads_every_field_that_is_written(family: str) -> None:
    transformers = pytest.importorskip("transformers")
    odd = tiny_config(
        family, activation="relu", dropout=0.3, attention_dropout=0.2, initializer_range=0.5
    )
    names = {"bert": "Bert", "distilbert": "DistilBert", "roberta": "Roberta"}
    theirs = getattr(transformers, names.get(family, "XLMRoberta") + "Config")(**config_to_hf(odd))
    for ours, name in CONFIG_KEYS[odd.family].items():
        assert getattr(theirs, name) == getattr(odd, ours), name
    assert config_from_hf(theirs.to_dict()) == replace(odd, pooler=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_silent_config_means_what_transformers_takes_it_for(family: str) -> None:
    transformers = pytest.importorskip("transformers")
    names = {"bert": "Bert", "distilbert": "DistilBert", "roberta": "Roberta"}
    theirs = getattr(transformers, names.get(family, "XLMRoberta") + "Config")()
    keys = CONFIG_KEYS[tiny_config(family).family]
    sizes = {keys[name] for name in ("vocabulary_size", "layers", "hidden_size", "heads")}
    sizes |= {keys["feed_forward_size"], keys["max_positions"], "model_type"}
    told = theirs.to_dict()
    assert config_from_hf({key: told[key] for key in sizes}) == config_from_hf(told)


@pytest.mark.parametrize("family", FAMILIES)
def test_all_missing_sizes_are_told_together(family: str) -> None:
    with pytest.raises(ModelError) as told:
        config_from_hf({"model_type": family}, where="m/config.json")
    keys = CONFIG_KEYS[tiny_config(family).family]
    wanted = [keys[name] for name in ("vocabulary_size", "layers", "hidden_size", "max_positions")]
    assert all(name in str(told.value) for name in wanted)
    assert str(told.value).startswith("m/config.json: ")


WRONG_VALUES = {
    "a text for a number": ({"hidden_size": "32"}, "hidden_size is '32', which is not of type int"),
    "true for a number": ({"num_hidden_layers": True}, "num_hidden_layers is True"),
    "a fraction for a number": ({"vocab_size": 64.0}, "vocab_size is 64.0"),
    "a list for a number": ({"intermediate_size": [64]}, r"intermediate_size is \[64\]"),
    "a text for a share": ({"hidden_dropout_prob": "0.1"}, "hidden_dropout_prob is '0.1'"),
    "true for a share": ({"layer_norm_eps": True}, "layer_norm_eps is True"),
    "a number for a name": ({"hidden_act": 3}, "hidden_act is 3, which is not of type str"),
    "zero layers": ({"num_hidden_layers": 0}, "layers is 0; allowed: 1 to 1000"),
    "more layers than names": ({"num_hidden_layers": 10**9}, "layers is 1000000000; allowed: 1 to"),
    "a huge table": ({"vocab_size": 2**31}, "vocabulary_size is 2147483648; allowed: 1 to"),
    "a huge width": ({"hidden_size": 10**18}, "hidden_size is 10{18}"),
    "a negative padding id": ({"pad_token_id": -1}, "pad_id is -1; allowed: 0 to"),
    "a share above one": ({"attention_probs_dropout_prob": 1.5}, "attention_dropout is 1.5"),
    "a share that drops all": ({"hidden_dropout_prob": 1.0}, "dropout is 1.0; allowed: 0 to 0.99"),
    "a negative epsilon": ({"layer_norm_eps": -1e-5}, "norm_epsilon is -1e-05"),
    "heads that do not divide": ({"num_attention_heads": 5}, "32 is not a multiple of heads 5"),
    "another activation": ({"hidden_act": "silu"}, "activation is 'silu'; allowed: gelu, gelu_new"),
    "relative positions": (
        {"position_embedding_type": "relative_key"},
        "position_embedding_type is 'relative_key'; allowed: absolute",
    ),
    "a decoder": ({"is_decoder": True}, "is_decoder is True; allowed: false"),
    "cross attention": ({"add_cross_attention": True}, "add_cross_attention is True"),
    "another model": ({"model_type": "electra"}, "model_type is 'electra'; allowed: bert, distilb"),
    "a list for a model": ({"model_type": ["bert"]}, r"model_type is \['bert'\]"),
    "no model": ({"model_type": None}, "model_type is missing; allowed: bert"),
    "remote code": (
        {"auto_map": {"AutoModel": "m.M"}},
        "auto_map asks to run code.*remove auto_map",
    ),
}


@pytest.mark.parametrize("case", WRONG_VALUES)
def test_a_wrong_value_is_refused_in_one_line_that_names_it(case: str) -> None:
    change, message = WRONG_VALUES[case]
    with pytest.raises(ModelError, match=message) as told:
        config_from_hf(config_to_hf(tiny_config()) | change, where="m/config.json")
    assert str(told.value).startswith("m/config.json: ")
    assert "\n" not in str(told.value)


def test_every_kind_of_wrong_value_is_tried() -> None:
    assert len(WRONG_VALUES) == 24


@given(value=st.one_of(st.none(), st.booleans(), st.integers(), NUMBERS, st.text(), st.just([])))
@pytest.mark.parametrize("family", FAMILIES)
def test_no_value_of_any_field_leaves_the_tree_of_errors(family: str, value: Any) -> None:
    hf = config_to_hf(tiny_config(family))
    for key in hf:
        try:
            config = config_from_hf(hf | {key: value})
        except ModelError:
            continue
        assert isinstance(config, EncoderConfig)


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta"])
def test_positions_begin_after_the_padding_id(family: str) -> None:
    config = tiny_config(family)
    assert (config.position_offset, config.max_length) == (2, config.max_positions - 2)
    with pytest.raises(ModelError, match="max_positions 2 leaves no position"):
        replace(config, max_positions=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"token_types": 2}, "token_types is 2; allowed: 0 in distilbert"),
        ({"pooler": True}, "pooler is True; allowed: False in distilbert"),
        ({"norm_epsilon": 1e-5}, "norm_epsilon is 1e-05; allowed: 1e-12 in distilbert"),
    ],
)
def test_a_distilbert_cannot_have_what_its_files_cannot_tell(change: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        replace(tiny_config("distilbert"), **change)
