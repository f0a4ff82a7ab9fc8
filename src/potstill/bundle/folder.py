"""What a model folder holds, found out without loading a weight.

Every way of reading a model begins here: `info`, the engines, training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill.architectures.config import EncoderConfig, config_from_hf
from potstill.architectures.counting import weight_shapes
from potstill.architectures.heads import HeadSpec, head_from_hf, head_of_kind
from potstill.architectures.reading import ReadingPlan, guess_head, plan_reading
from potstill.bundle.json_files import read_json_object
from potstill.bundle.manifest import Manifest, read_manifest, verify_files
from potstill.bundle.runtime_files import graph_bytes, runtime_files
from potstill.bundle.sentence_transformers import VectorRecipe, read_vector_recipe
from potstill.bundle.weights import WeightFiles, find_weights, has_weights
from potstill.errors import ModelError
from potstill.text.tokenizer import Tokenizer
from potstill.text.tokenizer_files import load_tokenizer
from potstill.text.tokenizer_settings import limit_of_folder

FLOATS = ("F64", "F32", "F16", "BF16")  # the number formats of weights that are not quantized

_TASK_BY_PROBLEM = {
    "multi_label_classification": "multi-label",
    "regression": "regression",
    "single_label_classification": "classification",
}
_OF_WHOLE_TEXTS = (*_TASK_BY_PROBLEM.values(), "ranking")


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model folder, described."""

    path: Path
    hf_config: Mapping[str, Any]  # config.json as it stands
    config: EncoderConfig
    head: HeadSpec
    plan: ReadingPlan  # which stored tensor is which weight
    weights: WeightFiles
    vectors: VectorRecipe | None  # of a sentence-transformers folder
    vector_map: WeightFiles | None  # of its dense step
    manifest: Manifest | None  # of a bundle of ours

    @property
    def task(self) -> str | None:
        """Return the kind of task that the model answers, None for a bare encoder."""
        if self.manifest is not None and self.manifest.task is not None:
            return self.manifest.task
        if self.head.kind == "none":
            return "embedding" if self.vectors else None
        if self.head.kind == "classification":
            default = "regression" if len(self.head.labels) == 1 else "classification"
            return _TASK_BY_PROBLEM.get(self.head.problem or "", default)
        return self.head.kind

    @property
    def answering_head(self) -> HeadSpec:
        """Return the head that gives the outputs: of an embedding model the way to its vectors."""
        if self.task != "embedding" or self.head.kind != "none":
            return self.head
        recipe = self.vectors or VectorRecipe()
        return HeadSpec(
            kind="embedding",
            pooling=recipe.pooling,
            normalize=recipe.normalize,
            width=recipe.width,
        )

    @property
    def max_length(self) -> int:
        """Return the tokens at which texts are cut unless told otherwise, the same for every verb.

        Where a training noted its length, that goes before the limit of the tokenizer: the model
        has learned from texts of that length.

        Raises:
            ModelError: tokenizer_config.json is broken.
        """
        noted = self.manifest.max_length if self.manifest else None
        told = [
            noted or limit_of_folder(self.path),
            self.vectors.max_length if self.vectors else None,
        ]
        return min([self.config.max_length, *(value for value in told if value)])

    @property
    def has_weights(self) -> bool:
        """Tell whether there are weights, or only graphs for engines in their place."""
        return bool(self.weights.files)

    def size_bytes(self, engine: str, precision: str) -> int:
        """Return what an engine reads of it on disk: a stored graph, else the weights."""
        graph = graph_bytes(self.path, engine, precision)
        if graph is not None:
            return graph
        if self.has_weights:
            return self.weights.size_bytes
        return sum((self.path / name).stat().st_size for name in runtime_files(self.path))

    def warnings(self) -> list[str]:
        """Return what a user should know about the weights and vectors, a line each."""
        unheeded = self.vectors.unheeded if self.vectors else ()
        warnings = [f"sentence-transformers would heed {asked}" for asked in unheeded]
        unknown = self.plan.unknown
        if unknown:
            warnings.append(
                f"{len(unknown)} weights are not used and not known to be ignorable: "
                + _first_few(unknown)
            )
        return warnings

    def require_complete(self) -> None:
        """Check that every weight is there in the shape that config.json promises.

        Raises:
            ModelError: everything that is missing or misshapen, told together.
        """
        self.require_weights()
        self._require_fitting(self.plan, self.head)

    def require_weights(self) -> None:
        """Check that there are weights, sound or not.

        Raises:
            ModelError: there are graphs in their place.
        """
        if not self.has_weights:
            raise ModelError(
                f"this bundle holds no weights, only {', '.join(runtime_files(self.path))}",
                where=str(self.path),
                allowed="answering in the precision that it holds",
                cure="use the model that it was made of, or quantize with --keep-source",
            )

    def plan_with(self, head: HeadSpec) -> ReadingPlan:
        """Plan to read the encoder for a new head; the head that is stored may be broken.

        Raises:
            ModelError: everything of the encoder that is missing or misshapen, told together.
        """
        self.require_weights()
        bare = HeadSpec()
        self._require_fitting(plan_reading(self.weights.entries, self.config, bare), bare)
        return plan_reading(self.weights.entries, self.config, head)

    def _require_fitting(self, plan: ReadingPlan, head: HeadSpec) -> None:
        faults = [f"missing {name}" for name in plan.missing]
        for name, shape in weight_shapes(plan.config, head).items():
            source = plan.sources.get(name)
            if source is None:
                continue
            entry = self.weights.entries[source]
            if entry.shape != shape:
                faults.append(f"{source} has shape {entry.shape}, config.json asks for {shape}")
            elif entry.dtype not in FLOATS:
                faults.append(f"{source} holds {entry.dtype}, not one of {', '.join(FLOATS)}")
        if faults:
            count = "1 weight does" if len(faults) == 1 else f"{len(faults)} weights do"
            raise ModelError(
                f"{count} not fit the model: {_first_few(faults)}",
                where=str(self.path),
                cure="download or copy the folder again, or correct config.json",
            )

    def tokenizer(self) -> Tokenizer:
        """Load the folder's tokenizer.

        Raises:
            ModelError: none there, broken, or of more words than the word table has rows.
        """
        tokenizer = load_tokenizer(self.path, family=self.config.family)
        if tokenizer.vocabulary_size > self.config.vocabulary_size:
            raise ModelError(
                f"the tokenizer knows {tokenizer.vocabulary_size:,} tokens, but the word table "
                f"has {self.config.vocabulary_size:,} rows",
                where=str(self.path),
                cure="use the tokenizer that was saved with these weights",
            )
        return tokenizer


def open_folder(path: Path, *, verify: bool = True) -> ModelFolder:
    """Describe a model folder.

    Args:
        path: a Hugging Face folder, a sentence-transformers folder or a bundle.
        verify: check a bundle's files against the hashes in its manifest.

    Raises:
        ModelError: no folder, no config, no weights, or anything in them that cannot be used.
    """
    if not path.is_dir():
        what = "this is a file, not a model folder" if path.exists() else "no such model folder"
        raise ModelError(what, where=str(path), cure="a model on the hub is written hub:NAME")
    hf_config = _read_config(path)
    config = config_from_hf(hf_config, where=str(path / "config.json"))
    manifest = read_manifest(path)
    weights = _weights_of(path, manifest)
    if manifest is not None and verify:
        verify_files(path, manifest)
    head = _head_of(path, hf_config, config, weights, manifest)
    plan = plan_reading(weights.entries, config, head)
    vectors = read_vector_recipe(path)
    return ModelFolder(
        path=path,
        hf_config=hf_config,
        config=plan.config,
        head=head,
        plan=plan,
        weights=weights,
        vectors=vectors,
        vector_map=find_weights(path / vectors.dense_folder)
        if vectors is not None and vectors.width and weights.files
        else None,
        manifest=manifest,
    )


def _weights_of(path: Path, manifest: Manifest | None) -> WeightFiles:
    """Return the weights; none of a bundle that holds graphs in their place."""
    is_for_engines = manifest is not None and bool(manifest.engine) and not has_weights(path)
    return WeightFiles((), {}, 0) if is_for_engines else find_weights(path)


def _read_config(path: Path) -> dict[str, Any]:
    config_file = path / "config.json"
    if not config_file.is_file():
        raise ModelError(
            "config.json is missing, so this is no model folder",
            where=str(path),
            cure="name the folder that holds config.json and model.safetensors",
        )
    return read_json_object(config_file)


def _head_of(
    path: Path,
    hf_config: Mapping[str, Any],
    config: EncoderConfig,
    weights: WeightFiles,
    manifest: Manifest | None,
) -> HeadSpec:
    where = str(path / "config.json")
    if manifest is not None and manifest.pooling == "mean" and manifest.task in _OF_WHOLE_TEXTS:
        # Ours alone: config.json names the bare encoder, so that transformers loads at least that.
        return head_of_kind("classification", hf_config, config.family, where=where, pooling="mean")
    told = head_from_hf(hf_config, config.family, where=where)
    return told or guess_head(weights.entries, config.family)


def _first_few(items: list[str], limit: int = 8) -> str:
    shown = ", ".join(items[:limit])
    return shown if len(items) <= limit else f"{shown} and {len(items) - limit} more"
