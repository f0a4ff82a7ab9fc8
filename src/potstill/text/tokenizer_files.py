"""Tokenizer files of a model folder -> Tokenizer: tokenizer.json, else vocabulary files.

tokenizer_config.json is read as data: the `auto_map` that names code in it is never followed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, normalizers, processors
from tokenizers.models import WordPiece

from potstill.errors import ModelError
from potstill.text.tokenizer import Tokenizer, set_prefix_space
from potstill.text.tokenizer_settings import (
    TOKEN_NAMES,
    TokenizerSettings,
    read_settings,
    read_text,
)
from potstill.text.vocabulary_files import byte_pairs, word_pieces

_TOKENS_OF_BERT = {
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "mask_token": "[MASK]",
}
_TOKENS_OF_ROBERTA = {
    "cls_token": "<s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
    "bos_token": "<s>",
    "eos_token": "</s>",
}
_NEEDED = ("cls_token", "sep_token", "pad_token")

# Classes whose rules all stand in tokenizer.json, none in tokenizer_config.json.
_TAKEN_WHOLE = ("PreTrainedTokenizerFast", "TokenizersBackend")
# By family: the vocabulary files that are enough, and the classes whose rules we know.
_BERT = (("vocab.txt",), ("BertTokenizer", "DistilBertTokenizer"))
_BY_VOCABULARY: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "bert": _BERT,
    "distilbert": _BERT,
    "roberta": (("vocab.json", "merges.txt"), ("RobertaTokenizer",)),
    "xlm-roberta": ((), ()),
}
_RARE_SIGN = "\U00012000"  # a cuneiform A: shows whether an unknown word has a token
_REMAKE = "transformers.AutoTokenizer.from_pretrained({0!r}).save_pretrained({0!r})"


def load_tokenizer(folder: Path, *, family: str) -> Tokenizer:
    """Load the tokenizer of a model folder.

    Where tokenizer.json and tokenizer_config.json disagree on lower-casing, accents, Chinese
    characters or the leading blank, the config holds, as in transformers 4 and 5; where the config
    is silent, tokenizer.json holds. `never_split` and `do_basic_tokenize` do nothing, as in
    transformers' fast tokenizers.

    Args:
        folder: holds tokenizer.json; or vocab.txt (bert, distilbert); or vocab.json and
            merges.txt (roberta).
        family: "bert", "distilbert", "roberta" or "xlm-roberta".

    Raises:
        ModelError: a file is absent or broken, or a special token is not in the vocabulary.
    """
    assert family in _BY_VOCABULARY, f"unknown family {family!r}: this is a bug"
    settings = read_settings(folder, mask_takes_blank=family == "roberta")
    source = folder / "tokenizer.json"
    if source.exists():
        backend = _from_whole_file(source, settings)
        special_tokens = _special_tokens(backend, settings, source)
    else:
        source = _vocabulary_of(folder, family, settings)
        backend = _from_vocabulary(source, settings)
        special_tokens = _special_tokens(backend, settings, source)
        _frame(backend, special_tokens, settings)
    _require_frame(backend, special_tokens, source)
    inputs = settings.config.get("model_input_names")
    return Tokenizer(
        backend,
        special_tokens=special_tokens,
        uses_token_types=family == "bert" and (not inputs or "token_type_ids" in str(inputs)),
        config=settings.config,
    )


# --- tokenizer.json -------------------------------------------------------------------------------


def _from_whole_file(path: Path, settings: TokenizerSettings) -> tokenizers.Tokenizer:
    content = read_text(path)
    try:
        backend = tokenizers.Tokenizer.from_str(content)
    except Exception as error:  # the library raises nothing narrower
        raise ModelError(
            f"not a whole tokenizer file ({error})",
            where=str(path),
            cure="copy the file again from the model's source",
        ) from error
    backend.no_truncation()
    backend.no_padding()
    if settings.config.get("tokenizer_class") not in _TAKEN_WHOLE:
        _follow_config(backend, settings)
    return backend


def _follow_config(backend: tokenizers.Tokenizer, settings: TokenizerSettings) -> None:
    rules = backend.normalizer
    if isinstance(rules, normalizers.BertNormalizer):
        rules.lowercase = settings.flag("do_lower_case", default=rules.lowercase)
        rules.handle_chinese_chars = settings.flag(
            "tokenize_chinese_chars", default=rules.handle_chinese_chars
        )
        if "strip_accents" in settings.config:  # a null speaks too: "as lower-casing does"
            rules.strip_accents = settings.flag_or_null("strip_accents")
        backend.normalizer = rules
    spaced = settings.flag_or_null("add_prefix_space")
    if spaced is not None:
        set_prefix_space(backend, wanted=spaced)


# --- vocabulary files -----------------------------------------------------------------------------


def _vocabulary_of(folder: Path, family: str, settings: TokenizerSettings) -> Path:
    """Return the family's vocabulary file, after a check that it tells all rules."""
    files, classes = _BY_VOCABULARY[family]
    missing = [name for name in files if not (folder / name).exists()]
    remake = _REMAKE.format(str(folder))
    if not files or (missing and any(folder.glob("*.model"))):
        raise ModelError(
            "no tokenizer.json, and sentencepiece files are not read",
            where=str(folder),
            allowed="tokenizer.json",
            cure=f"make it with {remake}",
        )
    if missing:
        raise ModelError(
            f"no tokenizer.json, and no {' or '.join(missing)}",
            where=str(folder),
            allowed=f"tokenizer.json, or {' with '.join(files)}",
            cure="copy the tokenizer files of the model into the folder",
        )
    stated = settings.config.get("tokenizer_class")
    if stated is not None and str(stated).removesuffix("Fast") not in classes:
        raise ModelError(
            f"no tokenizer.json, and {files[0]} does not hold the rules of {stated}",
            where=str(folder),
            allowed=f"tokenizer.json, or tokenizer_class {' or '.join(classes)}",
            cure=f"make it with {remake}",
        )
    return folder / files[0]


def _from_vocabulary(path: Path, settings: TokenizerSettings) -> tokenizers.Tokenizer:
    if path.name == "vocab.txt":
        backend = word_pieces(path, settings)
        usual = _usual_tokens(_TOKENS_OF_BERT, mask_takes_blank=False)
    else:
        backend = byte_pairs(path, path.with_name("merges.txt"), settings)
        usual = _usual_tokens(_TOKENS_OF_ROBERTA, mask_takes_blank=True)
    _add_numbered(backend, settings, path)
    named = (usual | dict(settings.named)).values()
    present = [token for token in named if backend.token_to_id(token.content) is not None]
    backend.add_special_tokens([*present, *settings.extra])
    return backend


def _usual_tokens(names: Mapping[str, str], *, mask_takes_blank: bool) -> dict[str, AddedToken]:
    return {
        name: AddedToken(
            token, special=True, normalized=False, lstrip=mask_takes_blank and name == "mask_token"
        )
        for name, token in names.items()
    }


def _add_numbered(
    backend: tokenizers.Tokenizer, settings: TokenizerSettings, vocabulary: Path
) -> None:
    for index, token in sorted(settings.numbered.items()):
        backend.add_tokens([token])
        given = backend.token_to_id(token.content)
        if given != index:
            raise ModelError(
                f"the added token {token.content!r} has the id {index}, but {given} is its place",
                where=str(vocabulary),
                cure="copy all tokenizer files from the same model",
            )


def _frame(
    backend: tokenizers.Tokenizer, special_tokens: Mapping[str, str], settings: TokenizerSettings
) -> None:
    """Put the special tokens around a text and a pair, as the family does."""
    names = (special_tokens["cls_token"], special_tokens["sep_token"])
    (cls, cls_id), (sep, sep_id) = [(name, backend.token_to_id(name)) for name in names]
    assert cls_id is not None, "special tokens are checked before"
    assert sep_id is not None, "special tokens are checked before"
    if isinstance(backend.model, WordPiece):
        backend.post_processor = processors.TemplateProcessing(
            single=f"{cls}:0 $A:0 {sep}:0",
            pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
            special_tokens=[(cls, cls_id), (sep, sep_id)],
        )
    else:
        backend.post_processor = processors.RobertaProcessing(
            (sep, sep_id),
            (cls, cls_id),
            trim_offsets=settings.flag("trim_offsets", default=True),
            add_prefix_space=settings.flag("add_prefix_space", default=False),
        )


# --- checks ---------------------------------------------------------------------------------------


def _special_tokens(
    backend: tokenizers.Tokenizer, settings: TokenizerSettings, source: Path
) -> dict[str, str]:
    """Return the special tokens by name; those that are needed or stated are in the vocabulary."""
    is_bert = isinstance(backend.model, WordPiece) or backend.token_to_id("[CLS]") is not None
    tokens = dict(_TOKENS_OF_BERT if is_bert else _TOKENS_OF_ROBERTA)
    tokens |= {name: token.content for name, token in settings.named.items()}
    needed = {*_NEEDED, *settings.named} - {"bos_token", "eos_token"}
    if isinstance(backend.model, WordPiece):
        tokens["unk_token"] = backend.model.unk_token
        needed.add("unk_token")
    # an added token of the same name would hide that the word pieces themselves lack it
    known = {name: backend.token_to_id(token) for name, token in tokens.items()}
    if isinstance(backend.model, WordPiece):
        known["unk_token"] = backend.model.token_to_id(backend.model.unk_token)
    for name in TOKEN_NAMES:
        if name in needed and known[name] is None:
            raise ModelError(
                f"{name} {tokens[name]!r} is not in the vocabulary",
                where=str(source),
                cure=f"copy the file again, or name the {name} in special_tokens_map.json",
            )
    return {name: token for name, token in tokens.items() if known[name] is not None}


def _require_frame(
    backend: tokenizers.Tokenizer, special_tokens: Mapping[str, str], source: Path
) -> None:
    """Check that a text starts with cls and ends with sep, whose vectors the models are read at."""
    cls_id, sep_id = (backend.token_to_id(special_tokens[name]) for name in _NEEDED[:2])
    if backend.post_processor is not None:
        _require_whole_template(json.loads(backend.post_processor.__getstate__()), source)
    try:
        frame = backend.encode("").ids
        backend.encode(_RARE_SIGN, _RARE_SIGN)
    except Exception as error:  # the library raises nothing narrower
        raise ModelError(
            f"a text cannot be encoded ({error})",
            where=str(source),
            cure="copy the file again from the model's source",
        ) from error
    if len(frame) < 2 or (frame[0], frame[-1]) != (cls_id, sep_id):
        raise ModelError(
            f"the special tokens around a text have the ids {frame}, not {[cls_id, sep_id]}",
            where=str(source),
            allowed=f"{special_tokens['cls_token']} TEXT {special_tokens['sep_token']}",
            cure="copy the file again, or name cls_token and sep_token in special_tokens_map.json",
        )


def _require_whole_template(state: Mapping[str, Any], source: Path) -> None:
    """Check what the library trusts: where a template does not hold, it panics."""
    for part in state.get("processors", []):
        _require_whole_template(part, source)
    if state["type"] != "TemplateProcessing":
        return
    for name, texts in (("single", ["A"]), ("pair", ["A", "B"])):
        found, special = _pieces(state[name], "Sequence"), _pieces(state[name], "SpecialToken")
        if sorted(found) != texts or not {*special} <= state["special_tokens"].keys():
            raise ModelError(
                f"the template {name!r} holds the texts {found} and the tokens {special}",
                where=f"{source}, post_processor",
                allowed=f"the texts {texts} and the tokens of its special_tokens",
                cure="copy the file again from the model's source",
            )


def _pieces(template: Sequence[Mapping[str, Any]], kind: str) -> list[str]:
    return [piece[kind]["id"] for piece in template if kind in piece]
