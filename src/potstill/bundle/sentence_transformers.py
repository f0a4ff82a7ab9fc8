"""The files by which sentence-transformers tells how a text becomes a vector.

`modules.json` lists the steps; potstill knows encoder, pooling and normalizing, in this order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill.architectures.heads import Pooling
from potstill.bundle.json_files import read_json_list, read_json_object, write_json
from potstill.errors import ModelError

_POOLING_KEYS: Mapping[str, Pooling] = {
    "pooling_mode_cls_token": "first",
    "pooling_mode_mean_tokens": "mean",
}
_MODES: Mapping[str, Pooling] = {"cls": "first", "mean": "mean"}
_STEPS = ("Transformer", "Pooling", "Normalize")


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorRecipe:
    """How hidden states become the vector of a text."""

    pooling: Pooling = "mean"
    normalize: bool = False
    max_length: int | None = None  # tokens; None: the encoder's
    unheeded: tuple[str, ...] = ()  # what the folder asks besides and potstill does not do


def read_vector_recipe(folder: Path) -> VectorRecipe | None:
    """Read a sentence-transformers folder's recipe; None if the folder is none.

    Raises:
        ModelError: steps or pooling modes that potstill does not know.
    """
    modules_file = folder / "modules.json"
    if not modules_file.is_file():
        return None
    steps = read_json_list(modules_file)
    kinds = [str(step.get("type", "without a type")).rpartition(".")[2] for step in steps]
    if tuple(kinds) not in {_STEPS[:2], _STEPS}:
        raise ModelError(
            f"the steps are {', '.join(kinds) or 'none'}",
            where=str(modules_file),
            allowed=", ".join(_STEPS[:2]) + " and, at the end, Normalize",
        )
    settings = _optional(folder / "sentence_bert_config.json")
    return VectorRecipe(
        pooling=_read_pooling(folder / _plain_name(steps[1], modules_file) / "config.json"),
        normalize="Normalize" in kinds,
        max_length=_length(settings),
        unheeded=_unheeded(settings, _optional(folder / "config_sentence_transformers.json")),
    )


def write_vector_recipe(folder: Path, recipe: VectorRecipe, *, hidden_size: int) -> None:
    """Write the files that `SentenceTransformer(folder)` reads."""
    steps = [
        {
            "idx": index,
            "name": str(index),
            "path": "" if index == 0 else f"{index}_{kind}",
            "type": f"sentence_transformers.models.{kind}",
        }
        for index, kind in enumerate(_STEPS if recipe.normalize else _STEPS[:2])
    ]
    write_json(folder / "modules.json", steps)
    (folder / "1_Pooling").mkdir(exist_ok=True)
    modes = {key: pooling == recipe.pooling for key, pooling in _POOLING_KEYS.items()}
    write_json(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": hidden_size}
        | modes
        | {"pooling_mode_max_tokens": False, "pooling_mode_mean_sqrt_len_tokens": False},
    )
    if recipe.normalize:
        (folder / "2_Normalize").mkdir(exist_ok=True)
    settings = {"max_seq_length": recipe.max_length, "do_lower_case": False}
    write_json(folder / "sentence_bert_config.json", settings)
    write_json(folder / "config_sentence_transformers.json", {"similarity_fn_name": "cosine"})


def _read_pooling(config_file: Path) -> Pooling:
    config = read_json_object(config_file)
    mode = config.get("pooling_mode")  # the form of sentence-transformers 5 and later
    if isinstance(mode, str) and mode in _MODES:
        return _MODES[mode]
    on = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    if len(on) != 1 or on[0] not in _POOLING_KEYS:
        raise ModelError(
            f"the pooling is {mode or ', '.join(on) or 'none'}",
            where=str(config_file),
            allowed=", ".join(_POOLING_KEYS),
        )
    return _POOLING_KEYS[on[0]]


def _plain_name(step: Mapping[str, Any], modules_file: Path) -> str:
    name = step.get("path")
    if not isinstance(name, str) or not name or Path(name).name != name:
        raise ModelError(
            f"the path of the step Pooling is {name!r}",
            where=str(modules_file),
            allowed="the name of a folder beside modules.json",
        )
    return name


def _optional(file: Path) -> Mapping[str, Any]:
    return read_json_object(file) if file.is_file() else {}


def _length(settings: Mapping[str, Any]) -> int | None:
    value = settings.get("max_seq_length")
    return value if type(value) is int and value > 0 else None


def _unheeded(settings: Mapping[str, Any], common: Mapping[str, Any]) -> tuple[str, ...]:
    asked = []
    if settings.get("do_lower_case"):
        asked.append("do_lower_case: texts keep their case unless the tokenizer itself lowers it")
    if common.get("default_prompt_name"):
        asked.append(f"default_prompt_name {common['default_prompt_name']!r}: no prompt is added")
    return tuple(asked)
