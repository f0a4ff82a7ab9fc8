"""Write a bundle: Hugging Face's files at the root, potstill.json and a model card beside them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.architectures.config import CONFIG_KEYS, EncoderConfig, config_to_hf
from potstill.architectures.heads import HeadSpec, dropout_key, head_to_hf
from potstill.architectures.names import VECTOR_MAP, hf_names
from potstill.bundle.card import model_card
from potstill.bundle.folder import ModelFolder
from potstill.bundle.json_files import write_json
from potstill.bundle.manifest import Manifest, fingerprint, write_manifest
from potstill.bundle.runtime_files import without_graphs
from potstill.bundle.safetensors_header import BFLOAT16, BFLOAT16_BITS
from potstill.bundle.sentence_transformers import (
    DENSE_FOLDER,
    VectorRecipe,
    write_vector_recipe,
)
from potstill.bundle.weights import (
    WeightFiles,
    read_tensors,
    require_finite,
    rounded_to_bfloat16,
    write_weights,
)
from potstill.files import folder_whole_or_absent, write_atomically
from potstill.text.tokenizer import Tokenizer

TRAINING_LOG = "training-log.jsonl"  # no part of the fingerprint

# Fields of a foreign config.json that are not carried over: code, and what is written anew. An
# untied decoder is never written: the word table is the decoder.
_NOT_CARRIED = {
    "auto_map",
    "architectures",
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "dtype",
    "torch_dtype",
    "tie_word_embeddings",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleContent:
    """All that goes into a bundle."""

    config: EncoderConfig
    head: HeadSpec
    tensors: Mapping[str, NDArray[Any]]  # by our names; of `rounded_to_bfloat16` kept as such
    tokenizer: Tokenizer | None
    vectors: VectorRecipe | None = None
    manifest: Manifest = field(default_factory=Manifest)
    hf_extras: Mapping[str, Any] = field(default_factory=dict)  # config.json of the origin
    training_log: Path | None = None  # copied, where it is there


def write_bundle(target: Path, content: BundleContent) -> str:
    """Write the folder, whole or not at all, and return its fingerprint.

    Raises:
        OutputError: the target is not empty or cannot be written.
        StorageError: the disk is full; what stood there before is whole.
    """
    with folder_whole_or_absent(target) as staging:
        write_json(staging / "config.json", hf_config_of(content))
        names = hf_names(content.config, content.head)
        tensors = {ours: each for ours, each in content.tensors.items() if ours not in VECTOR_MAP}
        if content.head.kind != "embedding":
            tensors = dict(content.tensors)
        assert set(names) == set(tensors), (
            f"the tensors are not those of the name table: {sorted(set(names) ^ set(tensors))}"
        )
        write_weights(staging, {names[ours]: array for ours, array in tensors.items()})
        if content.tokenizer is not None:
            content.tokenizer.save(staging, longest=content.manifest.max_length)
        if content.vectors is not None:
            limit = content.manifest.max_length or content.vectors.max_length
            recipe = replace(content.vectors, max_length=limit)  # one cut for all who read it
            write_vector_recipe(staging, recipe, hidden_size=content.config.hidden_size)
            if recipe.width:
                _write_vector_map(staging / DENSE_FOLDER, content)
        card = model_card(content.config, content.head, content.manifest)
        write_atomically(staging / "README.md", card.encode())
        write_manifest(staging, content.manifest)
        if content.training_log is not None and content.training_log.is_file():
            shutil.copyfile(content.training_log, staging / TRAINING_LOG)
        return fingerprint(staging)


def _write_vector_map(folder: Path, content: BundleContent) -> None:
    write_weights(folder, {theirs: content.tensors[ours] for ours, theirs in VECTOR_MAP.items()})


def content_of(folder: ModelFolder, tokenizer: Tokenizer) -> BundleContent:
    """Read a folder whole, so that it can be written again in the present form.

    Raises:
        ModelError: missing or misshapen weights, or numbers that are not finite.
    """
    folder.require_complete()
    stored = {theirs: ours for ours, theirs in folder.plan.sources.items()}
    tensors = dict(_as_stored(folder.weights, stored))
    if folder.vector_map is not None:
        stored = {theirs: ours for ours, theirs in VECTOR_MAP.items()}
        tensors |= _as_stored(folder.vector_map, stored)
    told = folder.manifest or Manifest(task=folder.task, lineage={"from": _origin(folder)})
    return BundleContent(
        config=folder.plan.config,
        # A bare encoder may keep its pooler, which no embedding needs.
        head=folder.head if folder.vector_map is None else folder.answering_head,
        tensors=tensors,
        tokenizer=tokenizer,
        vectors=folder.vectors,
        manifest=without_graphs(told),
        hf_extras=folder.hf_config,
    )


def _as_stored(
    weights: WeightFiles, ours_of: Mapping[str, str]
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Give (our name, array); what is stored in bfloat16 will be written so again."""
    for stored, array in read_tensors(weights, list(ours_of)):
        require_finite(array, stored, weights)
        is_bfloat16 = weights.entries[stored].dtype == BFLOAT16
        yield ours_of[stored], rounded_to_bfloat16(array) if is_bfloat16 else array


def hf_config_of(content: BundleContent) -> dict[str, Any]:
    """Return config.json: our fields over the origin's, those of other families left out."""
    config, head = content.config, _with_dropout_told(content.head, content.config)
    anew = {key for keys in CONFIG_KEYS.values() for key in keys.values()} | _NOT_CARRIED
    if head.labels:
        anew.add(dropout_key(config.family, head.kind) or "")
    carried = {
        key: value
        for key, value in content.hf_extras.items()
        if key not in anew and not key.startswith("_")
    }
    dtypes = {_dtype_name(array) for array in content.tensors.values()}
    fields = (
        carried
        | config_to_hf(config)
        | head_to_hf(head, config.family)
        | {"dtype": dtypes.pop() if len(dtypes) == 1 else "float32"}
    )
    return dict(sorted(fields.items()))  # as transformers does: one content, one fingerprint


def _dtype_name(array: NDArray[Any]) -> str:
    """Return a number format as config.json names it."""
    return "bfloat16" if array.dtype == BFLOAT16_BITS else np.dtype(array.dtype).name


def _origin(folder: ModelFolder) -> str:
    """Return the model's name; of a place on somebody's disk only the last part."""
    name = str(folder.hf_config.get("_name_or_path") or folder.path.name)
    return Path(name).name if Path(name).is_absolute() else name


def _with_dropout_told(head: HeadSpec, config: EncoderConfig) -> HeadSpec:
    """Write out a DistilBERT head's dropout: transformers does not take the encoder's there."""
    is_open = head.labels and head.dropout is None and config.family == "distilbert"
    return replace(head, dropout=config.dropout) if is_open else head
