"""Checkpoints as they lie on disks: old names, absent prefixes, second spellings, half precision.

Each form is made from a tiny model of transformers, its tensors renamed, dropped or doubled as in
real files; the hidden states and logits must stay those of the model it was made from.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import potstill
from potstill.architectures.config import FAMILIES
from potstill.architectures.heads import HeadSpec
from potstill.architectures.names import PREFIXES
from potstill.bundle.folder import ModelFolder, open_folder
from potstill.errors import ModelError
from potstill.models.loading import load_task_model, load_with_new_head, tensors_of
from tests.parity.reference import build_reference, reference_of, require_equal
from tests.tiny import tiny_config, tiny_head, write_tiny_tokenizer

Tensors = dict[str, torch.Tensor]
Step = Callable[[Tensors], Tensors]

OF_A_LAYER = """
attention.self.query.weight attention.self.query.bias
attention.self.key.weight attention.self.key.bias
attention.self.value.weight attention.self.value.bias
attention.output.dense.weight attention.output.dense.bias
attention.output.LayerNorm.gamma attention.output.LayerNorm.beta
intermediate.dense.weight intermediate.dense.bias
output.dense.weight output.dense.bias
output.LayerNorm.gamma output.LayerNorm.beta
"""
BESIDE_THE_LAYERS = """
bert.embeddings.word_embeddings.weight bert.embeddings.position_embeddings.weight
bert.embeddings.token_type_embeddings.weight
bert.embeddings.LayerNorm.gamma bert.embeddings.LayerNorm.beta
bert.pooler.dense.weight bert.pooler.dense.bias
cls.predictions.bias cls.predictions.decoder.weight
cls.predictions.transform.dense.weight cls.predictions.transform.dense.bias
cls.predictions.transform.LayerNorm.gamma cls.predictions.transform.LayerNorm.beta
cls.seq_relationship.weight cls.seq_relationship.bias
"""
NOT_USED_BY_MASKED_LM = [
    "bert.pooler.dense.bias",
    "bert.pooler.dense.weight",
    "cls.seq_relationship.bias",
    "cls.seq_relationship.weight",
]


def names_of_bert_base_uncased(layers: int) -> set[str]:
    """Return the names in the file of bert-base-uncased, at another depth."""
    of_layers = {
        f"bert.encoder.layer.{layer}.{name}"
        for layer in range(layers)
        for name in OF_A_LAYER.split()
    }
    return of_layers | set(BESIDE_THE_LAYERS.split())


# --- steps: how real files differ from what transformers writes today -----------------------------


def as_stored_today(tensors: Tensors) -> Tensors:
    return tensors


def with_gamma_and_beta(tensors: Tensors) -> Tensors:
    endings = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    return {_with_ending(name, endings): tensor for name, tensor in tensors.items()}


def without_prefix(tensors: Tensors) -> Tensors:
    prefixes = tuple(set(PREFIXES.values()))
    return {
        name.partition(".")[2] if name.startswith(prefixes) else name: tensor
        for name, tensor in tensors.items()
    }


def with_prefix(prefix: str) -> Step:
    return lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()}


def with_position_ids(tensors: Tensors) -> Tensors:
    (words,) = [name for name in tensors if name.endswith("word_embeddings.weight")]
    place = words.replace("word_embeddings.weight", "position_ids")
    return tensors | {place: torch.arange(40)[None]}


def without(*names: str) -> Step:
    return lambda tensors: {name: tensors[name] for name in tensors if name not in names}


def with_copy(original: str, copy: str) -> Step:
    return lambda tensors: tensors | {copy: tensors[original].clone()}


def with_random(name: str, *shape: int) -> Step:
    return lambda tensors: tensors | {name: torch.randn(shape)}


def _with_ending(name: str, endings: dict[str, str]) -> str:
    for old, new in endings.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


# --- forms ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Form:
    """One way in which a model lies on disk."""

    family: str
    kind: str
    steps: tuple[Step, ...]
    ignored: list[str] = field(default_factory=list)  # stored names that are not needed
    architectures: bool = True  # config.json names a class


BERT_BIAS, BERT_SECOND_BIAS = "cls.predictions.bias", "cls.predictions.decoder.bias"
BERT_DECODER = "cls.predictions.decoder.weight"
ROBERTA_BIAS, ROBERTA_SECOND_BIAS = "lm_head.bias", "lm_head.decoder.bias"
ROBERTA_DECODER = "lm_head.decoder.weight"
POOLER_OF_ROBERTA = ["roberta.pooler.dense.bias", "roberta.pooler.dense.weight"]
FORMS = {
    "bert, bare, with the prefix": Form("bert", "none", (with_prefix("bert."),)),
    "bert, bare, gamma": Form("bert", "none", (with_gamma_and_beta,)),
    "bert, bare, gamma, prefix, position ids": Form(
        "bert",
        "none",
        (with_gamma_and_beta, with_prefix("bert."), with_position_ids),
        ["bert.embeddings.position_ids"],
    ),
    "bert, bare, no pooler": Form(
        "bert", "none", (without("pooler.dense.weight", "pooler.dense.bias"),)
    ),
    "bert, bare, no class named": Form("bert", "none", (as_stored_today,), architectures=False),
    "bert, masked-lm, no prefix": Form("bert", "masked-lm", (without_prefix,)),
    "bert, masked-lm, no prefix, gamma, no class named": Form(
        "bert", "masked-lm", (without_prefix, with_gamma_and_beta), architectures=False
    ),
    "bert, masked-lm, decoder not stored": Form("bert", "masked-lm", (without(BERT_DECODER),)),
    "bert, masked-lm, first bias": Form("bert", "masked-lm", (without(BERT_SECOND_BIAS),)),
    "bert, masked-lm, second bias": Form("bert", "masked-lm", (without(BERT_BIAS),)),
    "bert, masked-lm, both biases": Form("bert", "masked-lm", (as_stored_today,)),
    "bert, classification, no prefix": Form("bert", "classification", (without_prefix,)),
    "bert, classification, gamma": Form("bert", "classification", (with_gamma_and_beta,)),
    "bert, token-classification, with a pooler": Form(
        "bert",
        "token-classification",
        (
            with_random("bert.pooler.dense.weight", 32, 32),
            with_random("bert.pooler.dense.bias", 32),
        ),
        ["bert.pooler.dense.bias", "bert.pooler.dense.weight"],
    ),
    "bert, question-answering, position ids": Form(
        "bert", "question-answering", (with_position_ids,), ["bert.embeddings.position_ids"]
    ),
    "roberta, masked-lm, first bias": Form("roberta", "masked-lm", (without(ROBERTA_SECOND_BIAS),)),
    "roberta, masked-lm, second bias": Form("roberta", "masked-lm", (without(ROBERTA_BIAS),)),
    "roberta, masked-lm, decoder not stored": Form(
        "roberta", "masked-lm", (without(ROBERTA_DECODER, ROBERTA_SECOND_BIAS),)
    ),
    "roberta, masked-lm, pooler and position ids, as roberta-base": Form(
        "roberta",
        "masked-lm",
        (
            with_random("roberta.pooler.dense.weight", 32, 32),
            with_random("roberta.pooler.dense.bias", 32),
            with_position_ids,
        ),
        ["roberta.embeddings.position_ids", *POOLER_OF_ROBERTA],
    ),
    "roberta, classification, no prefix": Form("roberta", "classification", (without_prefix,)),
    "roberta, bare, with the prefix": Form("roberta", "none", (with_prefix("roberta."),)),
    "xlm-roberta, bare, with the prefix": Form("xlm-roberta", "none", (with_prefix("roberta."),)),
    "xlm-roberta, masked-lm, no class named": Form(
        "xlm-roberta", "masked-lm", (as_stored_today,), architectures=False
    ),
    "distilbert, bare, with the prefix": Form("distilbert", "none", (with_prefix("distilbert."),)),
    "distilbert, masked-lm, no prefix": Form("distilbert", "masked-lm", (without_prefix,)),
    "distilbert, masked-lm, projector stored": Form(
        "distilbert",
        "masked-lm",
        (with_copy("distilbert.embeddings.word_embeddings.weight", "vocab_projector.weight"),),
    ),
    "distilbert, masked-lm, projector not stored": Form(
        "distilbert", "masked-lm", (without("vocab_projector.weight"),)
    ),
    "distilbert, masked-lm, no class named": Form(
        "distilbert", "masked-lm", (as_stored_today,), architectures=False
    ),
    "distilbert, classification, no prefix": Form(
        "distilbert", "classification", (without_prefix,)
    ),
}


def test_every_form_is_tried() -> None:
    assert len(FORMS) == 29
    assert {form.family for form in FORMS.values()} == set(FAMILIES)


@pytest.mark.parametrize("name", FORMS)
def test_a_legacy_form_gives_the_states_of_the_model(name: str, tmp_path: Path) -> None:
    form = FORMS[name]
    reference = reference_of(form.family, form.kind)
    if "no pooler" in name:
        reference.pooler = None
    folder = folder_of(reference, tmp_path, *form.steps, architectures=form.architectures)
    assert (folder.head.kind, folder.plan.missing, folder.plan.unknown) == (form.kind, [], [])
    assert folder.plan.ignored == form.ignored
    assert folder.warnings() == []
    require_equal(load_task_model(folder), reference)


@pytest.mark.parametrize("architectures", [["BertForMaskedLM"], ["BertForPreTraining"], None])
@pytest.mark.parametrize("decoder", ["stored", "not stored"])
@pytest.mark.parametrize("position_ids", ["stored", "not stored"])
def test_bert_base_uncased_opens_as_a_masked_language_model(
    architectures: list[str] | None, decoder: str, position_ids: str, tmp_path: Path
) -> None:
    steps = [with_position_ids] if position_ids == "stored" else []
    steps += [without(BERT_DECODER)] if decoder == "not stored" else []
    pretrained, folder = bert_base_uncased(tmp_path, *steps, architectures=architectures)
    assert folder.head == HeadSpec(kind="masked-lm")
    assert folder.plan.unknown == []
    surplus = ["bert.embeddings.position_ids"] if position_ids == "stored" else []
    assert folder.plan.ignored == [*surplus, *NOT_USED_BY_MASKED_LM]
    require_equal(load_task_model(folder), without_next_sentence_head(pretrained))


def test_bert_base_uncased_gives_its_encoder_to_a_new_head(tmp_path: Path) -> None:
    pretrained, folder = bert_base_uncased(tmp_path, architectures=["BertForPreTraining"])
    require_equal(load_with_new_head(folder, HeadSpec(), seed=0), pretrained.bert)
    head = tiny_head("classification")
    model, again, other = (load_with_new_head(folder, head, seed=seed) for seed in (1, 1, 2))
    stored = load_with_new_head(folder, HeadSpec(), seed=0)
    for name, weight in tensors_of(stored).items():
        assert (tensors_of(model)[name] == weight).all(), name
    drawn = [tensors_of(each)["head.output.weight"] for each in (model, again, other)]
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0] != drawn[2]).any()
    assert drawn[0].std() == pytest.approx(0.02, rel=0.5)


def test_a_pooler_that_was_never_stored_is_drawn_for_a_new_head(tmp_path: Path) -> None:
    steps = [without("bert.pooler.dense.weight", "bert.pooler.dense.bias")]
    _, folder = bert_base_uncased(tmp_path, *steps, architectures=["BertForMaskedLM"])
    tensors = tensors_of(load_with_new_head(folder, tiny_head("classification"), seed=3))
    assert tensors["pooler.weight"].std() == pytest.approx(0.02, rel=0.2)
    assert not tensors["pooler.bias"].any()


def test_a_broken_old_head_does_not_hinder_a_new_one(tmp_path: Path) -> None:
    steps = [without("cls.predictions.transform.dense.weight", BERT_BIAS)]
    pretrained, folder = bert_base_uncased(tmp_path, *steps, architectures=["BertForMaskedLM"])
    with pytest.raises(ModelError, match="2 weights do not fit"):
        load_task_model(folder)
    require_equal(load_with_new_head(folder, HeadSpec(), seed=0), pretrained.bert)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("family", FAMILIES)
def test_other_number_formats_are_read_exactly(
    dtype: torch.dtype, family: str, tmp_path: Path
) -> None:
    reference = reference_of(family, "masked-lm").to(dtype)
    folder = folder_of(reference, tmp_path)
    assert {entry.dtype for entry in folder.weights.entries.values()} <= {"F16", "BF16", "F64"}
    require_equal(load_task_model(folder), reference.float())


@pytest.mark.parametrize("family", FAMILIES)
def test_shards_are_read_as_one_model(family: str, tmp_path: Path) -> None:
    reference = reference_of(family, "classification")
    reference.save_pretrained(tmp_path, max_shard_size="20KB")
    folder = open_folder(tmp_path)
    assert len(folder.weights.files) > 2
    require_equal(load_task_model(folder), reference)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("normalize", ["normalize", "as they are"])
@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_a_folder_of_sentence_transformers_gives_its_vectors(
    family: str, pooling: str, normalize: str, tmp_path: Path
) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    reference_of(family, "none").save_pretrained(tmp_path / "encoder")
    write_tiny_tokenizer(tmp_path / "encoder")
    encoder = modules.Transformer(str(tmp_path / "encoder"), max_seq_length=7)
    steps = [encoder, modules.Pooling(32, pooling_mode=pooling)]
    steps += [modules.Normalize()] if normalize == "normalize" else []
    theirs = sentence_transformers.SentenceTransformer(modules=steps, device="cpu")
    theirs.save(str(tmp_path / "vectors"))
    model = potstill.load(tmp_path / "vectors", precision="fp32")
    assert model.task == "embedding"
    assert model.max_length == 7
    texts = ["a good film", "the plot was very very very very very boring", "", "fun"]
    np.testing.assert_allclose(model.embed(texts), theirs.encode(texts), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "second", "first"),
    [
        ("bert", BERT_DECODER, "bert.embeddings.word_embeddings.weight"),
        ("bert", BERT_SECOND_BIAS, BERT_BIAS),
        ("roberta", ROBERTA_DECODER, "roberta.embeddings.word_embeddings.weight"),
        ("roberta", ROBERTA_SECOND_BIAS, ROBERTA_BIAS),
        ("distilbert", "vocab_projector.weight", "distilbert.embeddings.word_embeddings.weight"),
    ],
)
def test_a_copy_that_differs_is_refused(
    family: str, second: str, first: str, tmp_path: Path
) -> None:
    def untied(tensors: Tensors) -> Tensors:
        return tensors | {second: tensors[first] + 1e-3}

    folder = folder_of(reference_of(family, "masked-lm"), tmp_path, untied)
    with pytest.raises(ModelError, match=f"{second} differs from {first}"):
        load_task_model(folder)
    load_with_new_head(folder, HeadSpec(), seed=0)


def test_unknown_weights_are_told_and_not_used(tmp_path: Path) -> None:
    reference = reference_of("bert", "classification")
    steps = [with_random(f"adapter.{number}.down", 3) for number in range(10)]
    folder = folder_of(reference, tmp_path, *steps)
    (warning,) = folder.warnings()
    assert warning.startswith("10 weights are not used and not known to be ignorable: adapter.0.d")
    assert warning.endswith("adapter.7.down and 2 more")
    require_equal(load_task_model(folder), reference)


def test_all_that_does_not_fit_is_told_at_once(tmp_path: Path) -> None:
    lost = ["bert.encoder.layer.1.output.dense.bias", "classifier.bias"]

    def broken(tensors: Tensors) -> Tensors:
        tensors["classifier.weight"] = torch.zeros(4, 32)
        tensors["bert.pooler.dense.weight"] = torch.zeros(32, 32, dtype=torch.int8)
        return without(*lost)(tensors)

    folder = folder_of(reference_of("bert", "classification"), tmp_path, broken)
    with pytest.raises(ModelError) as told:
        load_task_model(folder)
    message = str(told.value)
    assert "\n" not in message
    for part in (
        "4 weights do not fit the model: ",
        "missing classifier.bias",
        "missing encoder.layer.1.output.dense.bias",
        "classifier.weight has shape (4, 32), config.json asks for (3, 32)",
        "bert.pooler.dense.weight holds I8, not one of F64, F32, F16, BF16",
        "correct config.json",
    ):
        assert part in message


def test_a_whole_layer_that_is_missing_is_counted(tmp_path: Path) -> None:
    def cut(tensors: Tensors) -> Tensors:
        return {name: tensors[name] for name in tensors if ".layer.1." not in name}

    folder = folder_of(reference_of("distilbert", "none"), tmp_path, cut)
    with pytest.raises(ModelError, match=r"^.*: 16 weights do not fit.* and 8 more;"):
        load_task_model(folder)


def test_a_pooler_of_the_wrong_shape_is_refused_for_a_new_head(tmp_path: Path) -> None:
    def misshapen(tensors: Tensors) -> Tensors:
        return tensors | {"bert.pooler.dense.weight": torch.zeros(16, 32)}

    _, folder = bert_base_uncased(tmp_path, misshapen, architectures=["BertForMaskedLM"])
    with pytest.raises(ModelError, match=r"pooler\.dense\.weight has shape \(16, 32\)"):
        load_with_new_head(folder, tiny_head("classification"), seed=0)


# --- making folders -------------------------------------------------------------------------------


def folder_of(
    reference: torch.nn.Module, place: Path, *steps: Step, architectures: bool = True
) -> ModelFolder:
    """Write a model's tensors after the steps, with its config.json, and open the folder."""
    config = reference.config.to_dict() | {"architectures": [type(reference).__name__]}
    if not architectures:
        del config["architectures"]
    return write_and_open(place, config, dict(reference.state_dict()), steps)


def bert_base_uncased(
    place: Path, *steps: Step, architectures: list[str] | None
) -> tuple[torch.nn.Module, ModelFolder]:
    """Return a tiny model for pre-training, and a folder with its weights under the old names."""
    config = tiny_config(layers=2)
    pretrained = build_reference("BertForPreTraining", config, tiny_head("masked-lm"))
    tensors = without(BERT_SECOND_BIAS)(with_gamma_and_beta(dict(pretrained.state_dict())))
    assert set(tensors) == names_of_bert_base_uncased(config.layers)
    hf = pretrained.config.to_dict() | {"architectures": architectures}
    return pretrained, write_and_open(place, hf, tensors, steps)


def test_the_list_of_names_is_as_long_as_that_of_the_real_file() -> None:
    assert len(names_of_bert_base_uncased(12)) == 207


def without_next_sentence_head(pretrained: torch.nn.Module) -> torch.nn.Module:
    """Return the same weights as a masked language model of transformers."""
    masked_lm = build_reference("BertForMaskedLM", tiny_config(), tiny_head("masked-lm"))
    told = masked_lm.load_state_dict(pretrained.state_dict(), strict=False)
    assert told.missing_keys == []
    return masked_lm


def write_and_open(
    place: Path, config: dict[str, Any], tensors: Tensors, steps: tuple[Step, ...]
) -> ModelFolder:
    for step in steps:
        tensors = step(tensors)
    (place / "config.json").write_text(json.dumps(config))
    # cloned, since tied tensors share their memory and safetensors refuses that
    apart = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    save_file(apart, place / "model.safetensors", metadata={"format": "pt"})
    return open_folder(place)
