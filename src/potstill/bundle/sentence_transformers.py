"""The files by which sentence-transformers tells how a text becomes a vector.

`modules.json` lists the steps; potstill knows encoder, pooling, a dense map and normalizing, in
this order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
_TRANSFORMER, _POOLING, _DENSE, _NORMALIZE = "Transformer", "Pooling", "Dense", "Normalize"
_KNOWN = {
    (_TRANSFORMER, _POOLING, *dense, *norm)
    for dense in ((), (_DENSE,))
    for norm in ((), (_NORMALIZE,))
}
_IDENTITY = "torch.nn.modules.linear.Identity"
DENSE_FOLDER = "2_Dense"


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorRecipe:
    """How hidden states become the vector of a text."""

    pooling: Pooling = "mean"
    normalize: bool = False
    width: int | None = None  # of the dense map after pooling; None: there is none
    dense_folder: str = DENSE_FOLDER  # where its weights stand
    prompts: Mapping[str, str] = field(default_factory=dict)  # what stands before a text, by name
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
    if tuple(kinds) not in _KNOWN:
        raise ModelError(
            f"the steps are {', '.join(kinds) or 'none'}",
            where=str(modules_file),
            allowed="Transformer, Pooling and then, where there are any, Dense and Normalize",
        )
    settings = _optional(folder / "sentence_bert_config.json")
    common = _optional(folder / "config_sentence_transformers.json")
    dense = _plain_name(steps[2], modules_file) if _DENSE in kinds else None
    return VectorRecipe(
        pooling=_read_pooling(folder / _plain_name(steps[1], modules_file) / "config.json"),
        normalize=_NORMALIZE in kinds,
        width=_dense_width(folder / dense / "config.json") if dense else None,
        dense_folder=dense or DENSE_FOLDER,
        prompts=_prompts(common),
        max_length=_length(settings),
        unheeded=_unheeded(settings, common),
    )


def write_vector_recipe(folder: Path, recipe: VectorRecipe, *, hidden_size: int) -> None:
    """Write the files that `SentenceTransformer(folder)` reads; the map's weights are not ours."""
    kinds = [_TRANSFORMER, _POOLING, *([_DENSE] if recipe.width else [])]
    kinds += [_NORMALIZE] if recipe.normalize else []
    steps = [
        {
            "idx": index,
            "name": str(index),
            "path": "" if index == 0 else f"{index}_{kind}",
            "type": f"sentence_transformers.models.{kind}",
        }
        for index, kind in enumerate(kinds)
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
    if recipe.width:
        (folder / DENSE_FOLDER).mkdir(exist_ok=True)
        write_json(folder / DENSE_FOLDER / "config.json", _dense_config(hidden_size, recipe.width))
    if recipe.normalize:
        (folder / f"{len(kinds) - 1}_{_NORMALIZE}").mkdir(exist_ok=True)
    settings = {"max_seq_length": recipe.max_length, "do_lower_case": False}
    write_json(folder / "sentence_bert_config.json", settings)
    common = {"similarity_fn_name": "cosine", "prompts": dict(recipe.prompts)}
    write_json(folder / "config_sentence_transformers.json", common)


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


def _dense_width(config_file: Path) -> int:
    config = read_json_object(config_file)
    activation = config.get("activation_function", _IDENTITY)
    width, has_bias = config.get("out_features"), config.get("bias", True)
    if activation != _IDENTITY or type(width) is not int or width < 1 or has_bias is not True:
        raise ModelError(
            f"the dense step has activation {activation}, {width} outputs and bias {has_bias}",
            where=str(config_file),
            allowed=f"{_IDENTITY} with a bias",
        )
    return width


def _dense_config(inputs: int, outputs: int) -> Mapping[str, Any]:
    return {
        "in_features": inputs,
        "out_features": outputs,
        "bias": True,
        "activation_function": _IDENTITY,
    }


def _prompts(common: Mapping[str, Any]) -> Mapping[str, str]:
    found = common.get("prompts")
    if not isinstance(found, dict):
        return {}
    return {str(name): text for name, text in found.items() if isinstance(text, str)}


def _plain_name(step: Mapping[str, Any], modules_file: Path) -> str:
    name = step.get("path")
    if not isinstance(name, str) or not name or Path(name).name != name:
        raise ModelError(
            f"the path of the step {str(step.get('type')).rpartition('.')[2]} is {name!r}",
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
