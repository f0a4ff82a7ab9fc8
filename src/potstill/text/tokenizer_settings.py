"""What stands beside a vocabulary: tokenizer_config.json, special_tokens_map.json and the like."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from potstill.errors import ModelError

# The names under which both files state special tokens.
TOKEN_NAMES = (
    "cls_token",
    "sep_token",
    "pad_token",
    "unk_token",
    "mask_token",
    "bos_token",
    "eos_token",
)
# Above this, tokenizer_config.json means "no limit": transformers writes 1e30.
_NO_LIMIT = 1_000_000
_FLAGS_OF_A_TOKEN = ("lstrip", "rstrip", "single_word", "normalized")


@dataclass(frozen=True, slots=True)
class TokenizerSettings:
    """The settings of one model folder, each checked as it is read."""

    config_file: Path
    config: Mapping[str, Any]  # all of tokenizer_config.json
    named: Mapping[str, AddedToken]  # "cls_token" and its like, where stated
    numbered: Mapping[int, AddedToken]  # tokens added to the vocabulary, by their id
    extra: tuple[AddedToken, ...]  # further special tokens, whose ids follow the others

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a true-or-false setting; `default` where it is absent or null."""
        value = self.flag_or_null(name)
        return default if value is None else value

    def flag_or_null(self, name: str) -> bool | None:
        """Return a setting that is true, false or null; None where it is absent."""
        value = self.config.get(name)
        if value is None or isinstance(value, bool):
            return value
        raise ModelError(
            f"{name} is {value!r}", where=str(self.config_file), allowed="true, false or null"
        )


def limit_told(config: Mapping[str, Any]) -> int | None:
    """Return the tokens of a text that a tokenizer_config.json allows; None: it sets no limit."""
    limit = config.get("model_max_length", config.get("max_len"))
    if isinstance(limit, bool) or not isinstance(limit, int | float):
        return None
    return int(limit) if 0 < limit < _NO_LIMIT else None


def limit_of_folder(folder: Path) -> int | None:
    """Return the limit of a model folder's tokenizer_config.json, without loading the tokenizer.

    Raises:
        ModelError: the file is broken.
    """
    return limit_told(read_json(folder / "tokenizer_config.json"))


def read_settings(folder: Path, *, mask_takes_blank: bool) -> TokenizerSettings:
    """Read the settings of a model folder; absent files are empty ones.

    Args:
        folder: the model folder.
        mask_takes_blank: a mask token that is stated as a bare string takes in the blank before
            it (RoBERTa).

    Raises:
        ModelError: the folder is absent, or a file is broken, with its line or key.
    """
    if not folder.is_dir():
        raise ModelError("no such model folder", where=str(folder))
    config_file = folder / "tokenizer_config.json"
    map_file = folder / "special_tokens_map.json"
    config, special_map = read_json(config_file), read_json(map_file)
    _require_side(config, config_file)

    stated = _named_in(config, config_file, mask_takes_blank=mask_takes_blank)
    mapped = _named_in(special_map, map_file, mask_takes_blank=mask_takes_blank)
    # a config with added_tokens_decoder is of the younger kind, which needs no map
    named = mapped | stated if "added_tokens_decoder" in config else stated | mapped
    extra = [*_extra_in(config, config_file), *_extra_in(special_map, map_file)]
    return TokenizerSettings(
        config_file=config_file,
        config=config,
        named=named,
        numbered=_legacy_numbered(folder) | _numbered_in(config, config_file),
        extra=tuple(extra),
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object; absent: empty.

    Raises:
        ModelError: not JSON (with the line), or not an object.
    """
    if not path.exists():
        return {}
    try:
        # not orjson, which rounds the integer 1e30 that transformers writes for "no limit"
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ModelError(
            f"not JSON: {error.msg}",
            where=f"{path}, line {error.lineno}",
            cure="copy the file again from the model's source",
        ) from error
    except RecursionError as error:
        raise ModelError("nested too deeply", where=str(path)) from error
    if not isinstance(content, dict):
        raise ModelError(
            f"holds a JSON {type(content).__name__}", where=str(path), allowed="a JSON object"
        )
    return content


def read_text(path: Path) -> str:
    """Read a UTF-8 file.

    Raises:
        ModelError: it cannot be read, or is not UTF-8 (with the line).
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", where=str(path)) from error
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ModelError(
            f"not UTF-8: byte {content[error.start]:#04x}",
            where=f"{path}, line {line}",
            cure="copy the file again from the model's source, as binary",
        ) from error


def _require_side(config: Mapping[str, Any], path: Path) -> None:
    side = config.get("truncation_side", "right")
    if side not in ("left", "right"):
        raise ModelError(
            f"truncation_side is {side!r}", where=str(path), allowed='"left" or "right"'
        )


def _named_in(
    content: Mapping[str, Any], path: Path, *, mask_takes_blank: bool
) -> dict[str, AddedToken]:
    return {
        name: _token(
            content[name], path, key=name, lstrip=mask_takes_blank and name == "mask_token"
        )
        for name in TOKEN_NAMES
        if content.get(name) is not None
    }


def _extra_in(content: Mapping[str, Any], path: Path) -> Iterator[AddedToken]:
    for key in ("additional_special_tokens", "extra_special_tokens"):
        values = content.get(key) or []
        if isinstance(values, dict):
            values = list(values.values())
        if not isinstance(values, list):
            raise ModelError(
                f"{key} is {values!r:.60}", where=str(path), allowed="a list of tokens"
            )
        for value in values:
            yield _token(value, path, key=key)


def _numbered_in(config: Mapping[str, Any], path: Path) -> dict[int, AddedToken]:
    stated = config.get("added_tokens_decoder") or {}
    key = "added_tokens_decoder"
    if not isinstance(stated, dict) or not all(index.isdecimal() for index in stated):
        raise ModelError(f"{key} is not by ids", where=str(path), allowed='{"ID": {"content": …}}')
    return {int(index): _token(value, path, key=key) for index, value in stated.items()}


def _legacy_numbered(folder: Path) -> dict[int, AddedToken]:
    """Read added_tokens.json, which does not tell the special ones: their names stand elsewhere."""
    path = folder / "added_tokens.json"
    ids = read_json(path)
    for token, index in ids.items():
        if not isinstance(index, int) or index < 0:
            raise ModelError(f"the id of {token!r} is {index!r}", where=str(path))
    return {index: AddedToken(token, normalized=True) for token, index in ids.items()}


def _token(value: Any, path: Path, *, key: str, lstrip: bool = False) -> AddedToken:
    """Read a token in either form: "[CLS]", or {"content": "[CLS]", "lstrip": false, …}."""
    flags: dict[str, Any] = {"lstrip": lstrip, "normalized": False, "special": True}
    content = value
    if isinstance(value, dict):
        content = value.get("content")
        flags = {flag: value.get(flag, False) for flag in _FLAGS_OF_A_TOKEN}
        flags["special"] = value.get("special", key != "added_tokens_decoder")
    if not isinstance(content, str) or not all(isinstance(flag, bool) for flag in flags.values()):
        raise ModelError(
            f"{key} is {value!r:.60}",
            where=str(path),
            allowed='"TOKEN" or {"content": "TOKEN", "lstrip": false}',
        )
    return AddedToken(content, **flags)
