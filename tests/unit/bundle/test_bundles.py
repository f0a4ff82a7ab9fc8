"""A bundle comes back as it was written, tells when it was changed, and names what only we run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import potstill
from potstill.architectures.config import FAMILIES, EncoderConfig
from potstill.architectures.heads import HeadSpec, head_from_hf
from potstill.bundle.folder import open_folder
from potstill.bundle.manifest import (
    SCHEMA_VERSION,
    Manifest,
    fingerprint,
    read_manifest,
    write_manifest,
)
from potstill.bundle.sentence_transformers import VectorRecipe, read_vector_recipe
from potstill.bundle.write import BundleContent, content_of, hf_config_of, write_bundle
from potstill.errors import ModelError, OutputError, RecipeError
from potstill.models import TaskModel
from potstill.models.loading import load_task_model, tensors_of
from potstill.runtime.torch_engine import TorchEngine
from potstill.text.tokenizer_files import load_tokenizer
from tests.folders import write_tiny_model
from tests.tiny import random_batch, tiny_config, tiny_head

KINDS = ("none", "masked-lm", "classification", "token-classification", "question-answering")
CASES = [(family, kind) for family in FAMILIES for kind in KINDS]
TEXTS = ["the film was great", "boring", "a not very good movie"]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny", "classification", task="classification")


# --- written and read -----------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_a_bundle_comes_back_as_it_was_written(family: str, kind: str, tmp_path: Path) -> None:
    content = content_for(family, tiny_head(kind))
    identity = write_bundle(tmp_path / "bundle", content)
    folder = open_folder(tmp_path / "bundle")
    assert folder.config == content.config
    assert folder.plan.unknown == folder.plan.ignored == []
    assert fingerprint(folder.path) == identity
    weights = tensors_of(load_task_model(folder))
    assert weights.keys() == content.tensors.keys()
    for name, weight in weights.items():
        assert weight.tobytes() == content.tensors[name].tobytes(), name


def test_every_family_and_head_is_tried() -> None:
    assert len(CASES) == 20


@pytest.mark.parametrize("dropout", [None, 0.0, 0.3])
@pytest.mark.parametrize("kind", KINDS[2:])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_head_drops_as_much_once_it_is_read_again(
    family: str, kind: str, dropout: float | None
) -> None:
    """Whatever the config that it came from said about another head."""
    if family == "distilbert" and kind == "token-classification":
        dropout = None  # its config.json has no place for another
    content = content_for(family, tiny_head(kind, dropout=dropout), dropout=0.25)
    origin = {"classifier_dropout": 0.9, "seq_classif_dropout": 0.9, "qa_dropout": 0.9}
    hf = hf_config_of(replace(content, hf_extras=origin))
    head = head_from_hf(hf, content.config.family, where="config.json")
    written, read = (network(content.config, each).head.dropout for each in (content.head, head))
    assert read == written


def test_a_written_bundle_written_again_is_the_same(bundle: Path, tmp_path: Path) -> None:
    folder = open_folder(bundle)
    again = write_bundle(tmp_path / "second", content_of(folder, folder.tokenizer()))
    assert again == fingerprint(bundle)
    for file in bundle.iterdir():
        assert (tmp_path / "second" / file.name).read_bytes() == file.read_bytes()


def test_half_precision_stays_half_and_the_config_says_so(bundle: Path, tmp_path: Path) -> None:
    folder = open_folder(bundle)
    content = content_of(folder, folder.tokenizer())
    halves = {name: array.astype(np.float16) for name, array in content.tensors.items()}
    write_bundle(tmp_path / "half", replace(content, tensors=halves))
    folder = open_folder(tmp_path / "half")
    assert folder.hf_config["dtype"] == "float16"
    again = content_of(folder, folder.tokenizer()).tensors
    assert {array.dtype for array in again.values()} == {np.dtype(np.float16)}


def test_the_origins_config_is_carried_over_but_not_what_is_no_longer_true() -> None:
    origin = {
        "auto_map": {"AutoModel": "evil.Model"},
        "architectures": ["BertForPreTraining"],
        "id2label": {"0": "old"},
        "num_labels": 1,
        "problem_type": "regression",
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "_name_or_path": "/elsewhere/model",
        "hidden_size": 1024,
        "dim": 1024,
        "gradient_checkpointing": False,
        "ours": [1, {"two": "é"}],
    }
    content = replace(content_for("bert", tiny_head("token-classification")), hf_extras=origin)
    hf = hf_config_of(content)
    assert hf["ours"] == origin["ours"]
    assert hf["gradient_checkpointing"] is False
    assert hf["hidden_size"] == 32
    assert hf["id2label"] == {"0": "a", "1": "b", "2": "c"}
    assert hf["architectures"] == ["BertForTokenClassification"]
    gone = {"auto_map", "num_labels", "problem_type", "tie_word_embeddings", "torch_dtype", "dim"}
    assert not (gone | {"_name_or_path"}) & hf.keys()


def test_the_origin_is_named_without_its_place_on_somebodys_disk(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "tiny")
    (folder / "potstill.json").unlink()
    for told, expected in (
        ("/elsewhere/private/model", "model"),
        ("nreimers/MiniLM-L6-H384-uncased", "nreimers/MiniLM-L6-H384-uncased"),
        (None, "tiny"),
    ):
        change(folder / "config.json", _name_or_path=told)
        opened = open_folder(folder)
        assert content_of(opened, opened.tokenizer()).manifest.lineage == {"from": expected}


def test_a_target_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        write_bundle(tmp_path / "bundle", content_for("bert", HeadSpec()))
    assert [file.name for file in tmp_path.rglob("*")] == ["bundle", "mine.txt"]


# --- the manifest ---------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["first bit of the weights", "last bit of the weights"])
def test_one_flipped_bit_in_the_weights_is_refused(bundle: Path, place: str) -> None:
    weights = bundle / "model.safetensors"
    content = bytearray(weights.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    content[start if place.startswith("first") else -1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match="changed after the bundle was written") as told:
        potstill.load(bundle)
    assert str(weights) in str(told.value)
    assert "\n" not in str(told.value)
    assert open_folder(bundle, verify=False).plan.missing == []


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_another_changed_or_missing_file_is_refused(bundle: Path, name: str) -> None:
    content = (bundle / name).read_bytes()
    (bundle / name).write_bytes(content + b"\n")
    with pytest.raises(ModelError, match=f"{name}: the file was changed"):
        open_folder(bundle)
    (bundle / name).write_bytes(content)
    open_folder(bundle)
    if name != "config.json":
        (bundle / name).unlink()
        with pytest.raises(ModelError, match=f"{name}: the file is missing"):
            open_folder(bundle)


def test_the_fingerprint_knows_content_alone(bundle: Path, tmp_path: Path) -> None:
    identity = fingerprint(bundle)
    assert identity.startswith("sha256:")
    assert len(identity) == len("sha256:") + 64
    copy = tmp_path / "elsewhere" / "under another name"
    shutil.copytree(bundle, copy)
    assert fingerprint(copy) == identity
    (copy / "README.md").write_text("other words")
    (copy / "potstill.json").unlink()
    (copy / "notes.txt").write_text("mine")
    (copy / "onnx").mkdir()
    (copy / "onnx" / "model.onnx").write_bytes(b"a runtime file has its own hash")
    assert fingerprint(copy) == identity
    assert open_folder(copy).plan.missing == []


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.json", "added_tokens.json"]
)
def test_the_fingerprint_sees_every_file_that_answers_hang_on(bundle: Path, name: str) -> None:
    identity = fingerprint(bundle)
    with (bundle / name).open("ab") as stream:
        stream.write(b" ")
    assert fingerprint(bundle) != identity


def test_what_a_manifest_says_comes_back(tmp_path: Path) -> None:
    written = Manifest(
        task="classification",
        pooling="mean",
        max_length=17,
        lineage={"verb": "finetune", "seed": 3},
        measurements={"dev_accuracy": 0.5},
    )
    (tmp_path / "config.json").write_text("{}")
    write_manifest(tmp_path, written)
    read = read_manifest(tmp_path)
    assert read is not None
    assert list(read.files) == ["config.json"]
    assert replace(read, files={}) == written


def test_a_folder_without_a_manifest_has_none(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 0, -1, "1", 1.0, True, None])
def test_a_manifest_of_another_schema_is_refused(bundle: Path, version: Any) -> None:
    change(bundle / "potstill.json", schema_version=version)
    with pytest.raises(ModelError, match=r"schema_version is .*allowed: 1 to 1.*pip install -"):
        open_folder(bundle)


@pytest.mark.parametrize("level", ["0.5", None, True, [0.5]])
def test_a_threshold_that_is_no_number_is_refused(bundle: Path, level: object) -> None:
    change(bundle / "potstill.json", thresholds={"a": level})
    with pytest.raises(ModelError, match=r"potstill\.json: the threshold of 'a' is of type"):
        read_manifest(bundle)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("files", ["config.json"]),
        ("files", None),
        ("lineage", "a text"),
        ("measurements", 3),
        ("max_length", "128"),
        ("max_length", True),
        ("task", 1),
        ("pooling", []),
    ],
)
def test_a_field_of_the_wrong_type_is_named(bundle: Path, field: str, value: Any) -> None:
    change(bundle / "potstill.json", **{field: value})
    with pytest.raises(
        ModelError, match=f"potstill.json: {field} is of type {type(value).__name__}"
    ):
        open_folder(bundle)


def test_a_field_that_is_not_known_yet_is_passed_over(bundle: Path) -> None:
    change(bundle / "potstill.json", engine={"name": "openvino"})
    assert open_folder(bundle).task == "classification"


# --- the mean-pooled classifier -------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mean_pooled_classifier_comes_back_with_its_labels(family: str, tmp_path: Path) -> None:
    content = content_for(family, tiny_head("classification", pooling="mean", dropout=0.1))
    write_bundle(tmp_path / "mean", content)
    folder = open_folder(tmp_path / "mean")
    assert folder.task == "classification"
    assert folder.head == content.head
    assert folder.plan.unknown == []
    model = load_task_model(folder)
    expected = logits_of(network(content.config, content.head))
    assert logits_of(model).tobytes() == expected.tobytes()
    told = potstill.info(tmp_path / "mean")
    assert told["labels"] == ["a", "b", "c"]
    assert told["pooling"] == {"pooling": "mean", "normalize": False}


def test_info_and_card_say_that_transformers_cannot_run_it(tmp_path: Path) -> None:
    mean = write_tiny_model(
        tmp_path / "mean", "classification", task="classification", pooling="mean"
    )
    assert potstill.info(mean)["warnings"] == []
    told = potstill.info(mean)["transformers"]
    assert (told["class"], told["complete"]) == ("BertModel", False)
    assert "transformers loads the encoder" in told["note"]
    assert "but not the classifier" in (mean / "README.md").read_text()
    first = write_tiny_model(tmp_path / "first", "classification", task="classification")
    told = potstill.info(first)["transformers"]
    assert told == {"class": "BertForSequenceClassification", "complete": True, "note": ""}
    assert "BertForSequenceClassification.from_pretrained" in (first / "README.md").read_text()


def test_transformers_loads_the_encoder_of_a_mean_pooled_classifier(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    transformers.logging.set_verbosity_error()
    mean = write_tiny_model(
        tmp_path / "mean", "classification", task="classification", pooling="mean"
    )
    model, told = transformers.AutoModel.from_pretrained(mean, output_loading_info=True)
    assert {name.partition(".")[0] for name in told["unexpected_keys"]} == {"potstill_classifier"}
    assert {name.partition(".")[0] for name in told["missing_keys"]} == {"pooler"}
    words = load_file(mean / "model.safetensors")["embeddings.word_embeddings.weight"]
    assert (model.embeddings.word_embeddings.weight.detach().numpy() == words).all()


def test_without_the_manifest_the_classifier_is_told_as_not_used(tmp_path: Path) -> None:
    mean = write_tiny_model(
        tmp_path / "mean", "classification", task="classification", pooling="mean"
    )
    (mean / "potstill.json").unlink()
    folder = open_folder(mean)
    assert (folder.head, folder.task) == (HeadSpec(), None)
    (warning,) = folder.warnings()
    assert warning.startswith("4 weights are not used")


# --- vectors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "recipe",
    [
        VectorRecipe(),
        VectorRecipe(pooling="first", normalize=True),
        VectorRecipe(pooling="mean", normalize=True, max_length=9),
        VectorRecipe(pooling="first", max_length=12),
    ],
)
def test_how_texts_become_vectors_comes_back(recipe: VectorRecipe, tmp_path: Path) -> None:
    folder = open_folder(write_tiny_model(tmp_path / "tiny"))
    content = replace(content_of(folder, folder.tokenizer()), vectors=recipe)
    write_bundle(tmp_path / "vectors", content)
    assert read_vector_recipe(tmp_path / "vectors") == recipe
    model = potstill.load(tmp_path / "vectors", precision="fp32")
    assert model.max_length == (recipe.max_length or 40)
    norms = np.linalg.norm(model.embed(TEXTS), axis=1)
    assert np.allclose(norms, 1) == recipe.normalize


STRANGE_STEPS: dict[str, tuple[Any, str]] = {
    "another step": ([{"type": "T.Transformer"}, {"type": "m.Dense"}], "steps are Transformer, D"),
    "no step": ([], "the steps are none"),
    "no type": ([{}, {}], "the steps are without a type, without a type;"),
    "an object": ({}, "does not hold a JSON list of objects"),
    "no path": ([{"type": "T.Transformer"}, {"type": "m.Pooling"}], "step Pooling is None"),
    "a path upwards": (
        [{"type": "T.Transformer"}, {"type": "m.Pooling", "path": "../1_Pooling"}],
        r"step Pooling is '\.\./1_Pooling'; allowed: the name of a folder",
    ),
    "a path to nothing": (
        [{"type": "T.Transformer"}, {"type": "m.Pooling", "path": "9_Pooling"}],
        "the file is missing",
    ),
}


@pytest.mark.parametrize("case", STRANGE_STEPS)
def test_steps_that_are_not_understood_are_refused(bundle: Path, case: str) -> None:
    steps, message = STRANGE_STEPS[case]
    (bundle / "modules.json").write_text(json.dumps(steps))
    with pytest.raises(ModelError, match=message):
        read_vector_recipe(bundle)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"pooling_mode_max_tokens": True}, "the pooling is pooling_mode_max_tokens; allowed"),
        ({"pooling_mode": "lasttoken"}, "the pooling is lasttoken"),
        ({}, "the pooling is none"),
        (
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
            "pooling_mode_cls_token, pooling_mode_mean_tokens",
        ),
    ],
)
def test_poolings_that_are_not_known_are_refused(
    config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write_bundle(tmp_path / "v", replace(content_for("bert", HeadSpec()), vectors=VectorRecipe()))
    (tmp_path / "v" / "1_Pooling" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=message):
        read_vector_recipe(tmp_path / "v")


def test_what_sentence_transformers_would_do_besides_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    write_bundle(folder, replace(content_for("bert", HeadSpec()), vectors=VectorRecipe()))
    (folder / "potstill.json").unlink()
    assert open_folder(folder).warnings() == []
    change(folder / "sentence_bert_config.json", do_lower_case=True)
    change(folder / "config_sentence_transformers.json", default_prompt_name="query")
    case, prompt = open_folder(folder).warnings()
    assert "do_lower_case" in case
    assert "default_prompt_name 'query'" in prompt


# --- the longest text -----------------------------------------------------------------------------


def test_texts_are_cut_at_the_least_length_that_the_folder_tells(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "tiny")
    (folder / "potstill.json").unlink()
    assert potstill.load(folder).max_length == 40
    change(folder / "tokenizer_config.json", model_max_length=11)
    assert potstill.load(folder).max_length == 11
    assert potstill.load(folder, max_length=40).max_length == 40


def test_the_length_that_a_training_noted_goes_before_the_tokenizers_limit(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "tiny")
    change(folder / "potstill.json", max_length=30, files={})
    change(folder / "tokenizer_config.json", model_max_length=11)
    assert open_folder(folder).max_length == potstill.load(folder).max_length == 30
    potstill.load(folder).save(tmp_path / "again")
    assert load_tokenizer(tmp_path / "again", family="bert").max_length == 30  # for transformers
    change(folder / "potstill.json", max_length=None)
    potstill.load(folder).save(tmp_path / "unknown")
    assert load_tokenizer(tmp_path / "unknown", family="bert").max_length == 11


@pytest.mark.parametrize("length", [0, -1, 41, 10**9])
def test_a_length_that_the_model_does_not_have_is_refused(tmp_path: Path, length: int) -> None:
    folder = write_tiny_model(tmp_path / "tiny")
    with pytest.raises(RecipeError, match=f"max_length is {length}; allowed: 1 to 40"):
        potstill.load(folder, max_length=length)


# --- making bundles -------------------------------------------------------------------------------


def content_for(family: str, head: HeadSpec, **changes: object) -> BundleContent:
    """Return a tiny model of a family with this head, without a tokenizer."""
    model = network(tiny_config(family, **changes), head)
    return BundleContent(
        config=model.config,
        head=head,
        tensors=tensors_of(model),
        tokenizer=None,
        manifest=Manifest(
            task=None if head.kind == "none" else head.kind,
            pooling=head.pooling if head.kind == "classification" else None,
        ),
    )


def network(config: EncoderConfig, head: HeadSpec) -> TaskModel:
    """Return a network that is the same at each call."""
    model = TaskModel(config, head)
    model.initialize(seed=3)
    return model


def logits_of(model: TaskModel) -> np.ndarray:
    return TorchEngine(model).run(random_batch([4, 9, 1]))["logits"]


def change(file: Path, **fields: Any) -> None:
    """Set fields of a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
