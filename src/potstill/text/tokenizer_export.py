"""The files that a tokenizer is saved as, such that transformers loads the same ids from them.

transformers 5 builds its own BERT and RoBERTa tokenizers from the vocabulary and
tokenizer_config.json, whatever tokenizer.json says of the other rules. So each rule is written to
both, and a tokenizer of any other make gets the one class that takes tokenizer.json whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import tokenizers

_WHOLE_FILE_CLASS = "PreTrainedTokenizerFast"


def exported_files(
    backend: tokenizers.Tokenizer,
    *,
    special_tokens: Mapping[str, str],
    config: Mapping[str, Any],
    uses_token_types: bool,
) -> dict[str, str]:
    """Return file names and contents.

    Keys of the original tokenizer_config.json (`config`) are kept, save `auto_map`, which names
    code to run.
    """
    state = json.loads(backend.to_str())
    saved_config = (
        _kept_settings(config, state)
        | dict(special_tokens)
        | {"model_input_names": _inputs(uses_token_types=uses_token_types)}
        | _class_settings(backend, state, special_tokens, uses_token_types=uses_token_types)
    )
    return {
        "tokenizer.json": backend.to_str(pretty=True),
        "tokenizer_config.json": _json(saved_config),
        "special_tokens_map.json": _json(_special_tokens_map(backend, special_tokens)),
        **_vocabulary_files(state["model"]),
    }


def _kept_settings(config: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in config.items() if key != "auto_map"}
    if "added_tokens_decoder" in kept:
        kept["added_tokens_decoder"] = {
            token["id"]: {rule: value for rule, value in token.items() if rule != "id"}
            for token in state["added_tokens"]
        }
    return kept


def _inputs(*, uses_token_types: bool) -> list[str]:
    segments = ["token_type_ids"] if uses_token_types else []
    return ["input_ids", *segments, "attention_mask"]


def _class_settings(
    backend: tokenizers.Tokenizer,
    state: Mapping[str, Any],
    special_tokens: Mapping[str, str],
    *,
    uses_token_types: bool,
) -> dict[str, Any]:
    """Return the class that transformers must take, and the settings that it reads."""
    cls = backend.token_to_id(special_tokens["cls_token"])
    sep = backend.token_to_id(special_tokens["sep_token"])
    frame = backend.encode("", "")
    if _is_bert(state) and frame.ids == [cls, sep, sep] and frame.type_ids == [0, 0, 1]:
        normalizer = state["normalizer"]
        return {
            "tokenizer_class": "BertTokenizer" if uses_token_types else "DistilBertTokenizer",
            "do_lower_case": normalizer["lowercase"],
            "strip_accents": normalizer["strip_accents"],
            "tokenize_chinese_chars": normalizer["handle_chinese_chars"],
        }
    if _is_roberta(state) and frame.ids == [cls, sep, sep, sep]:
        return {
            "tokenizer_class": "RobertaTokenizer",
            "add_prefix_space": state["pre_tokenizer"]["add_prefix_space"],
        }
    return {"tokenizer_class": _WHOLE_FILE_CLASS}


def _is_bert(state: Mapping[str, Any]) -> bool:
    normalizer, model = state["normalizer"] or {}, state["model"]
    return (
        normalizer.get("type") == "BertNormalizer"
        and normalizer["clean_text"]
        and state["pre_tokenizer"] == {"type": "BertPreTokenizer"}
        and model["type"] == "WordPiece"
        and model["continuing_subword_prefix"] == "##"
        and model["max_input_chars_per_word"] == 100
    )


def _is_roberta(state: Mapping[str, Any]) -> bool:
    splitter, model = state["pre_tokenizer"] or {}, state["model"]
    special_rules = ("dropout", "unk_token", "fuse_unk", "byte_fallback", "ignore_merges")
    return (
        state["normalizer"] is None
        and splitter.get("type") == "ByteLevel"
        and splitter["use_regex"]
        and model["type"] == "BPE"
        and not any(model[rule] for rule in special_rules)
        and not model["continuing_subword_prefix"]
        and not model["end_of_word_suffix"]
    )


def _special_tokens_map(
    backend: tokenizers.Tokenizer, special_tokens: Mapping[str, str]
) -> dict[str, Any]:
    added = {token.content: token for token in backend.get_added_tokens_decoder().values()}
    return {
        name: _described(added[content]) if content in added else content
        for name, content in special_tokens.items()
    }


def _described(token: tokenizers.AddedToken) -> dict[str, Any]:
    """Return a token with its rules; the bare string would mean other ones for another class."""
    rules = ("content", "lstrip", "normalized", "rstrip", "single_word")
    return {rule: getattr(token, rule) for rule in rules}


def _vocabulary_files(model: Mapping[str, Any]) -> dict[str, str]:
    """Return vocab.txt, or vocab.json and merges.txt; nothing for a Unigram vocabulary."""
    vocabulary = model["vocab"]
    if model["type"] == "WordPiece":
        tokens = sorted(vocabulary, key=vocabulary.__getitem__)
        # a line's number is the token's id: a vocabulary with gaps cannot be told this way
        gapless = all(vocabulary[token] == line for line, token in enumerate(tokens))
        return {"vocab.txt": "\n".join([*tokens, ""])} if gapless else {}
    if model["type"] == "BPE":
        merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
        return {
            "vocab.json": json.dumps(vocabulary, ensure_ascii=False),
            "merges.txt": "\n".join(["#version: 0.2", *merges, ""]),
        }
    return {}


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, sort_keys=True) + "\n"
