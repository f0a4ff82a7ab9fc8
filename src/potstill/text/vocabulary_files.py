"""Rust tokenizers from the files before tokenizer.json: vocab.txt, or vocab.json and merges.txt.

They come without special tokens around a text: tokenizer_files adds those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, WordPiece

from potstill.errors import ModelError
from potstill.text.tokenizer_settings import TokenizerSettings, read_json, read_text

_COPY_AGAIN = "copy the file again from the model's source"


def word_pieces(vocabulary: Path, settings: TokenizerSettings) -> tokenizers.Tokenizer:
    """Build BERT's tokenizer from vocab.txt, where a line's number is the token's id.

    Raises:
        ModelError: a line stands twice, or the file is not UTF-8.
    """
    ids = _ids_by_line(vocabulary)
    unknown = settings.named.get("unk_token", AddedToken("[UNK]")).content
    backend = tokenizers.Tokenizer(WordPiece(ids, unk_token=unknown))
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.flag("tokenize_chinese_chars", default=True),
        strip_accents=settings.flag_or_null("strip_accents"),
        lowercase=settings.flag("do_lower_case", default=True),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    return backend


def byte_pairs(vocabulary: Path, merges: Path, settings: TokenizerSettings) -> tokenizers.Tokenizer:
    """Build RoBERTa's byte-level tokenizer from vocab.json and merges.txt.

    Raises:
        ModelError: two tokens share an id, or a merge does not fit the vocabulary.
    """
    ids = _ids_by_token(vocabulary)
    pairs = list(_pairs(merges, ids))
    model = BPE(ids, pairs, continuing_subword_prefix="", end_of_word_suffix="")
    backend = tokenizers.Tokenizer(model)
    spaced = settings.flag("add_prefix_space", default=False)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=spaced)
    backend.decoder = decoders.ByteLevel()
    return backend


def _ids_by_line(path: Path) -> dict[str, int]:
    ids: dict[str, int] = {}
    for index, token in enumerate(_lines(path)):
        if ids.setdefault(token, index) != index:
            raise ModelError(
                f"{token!r} stands on line {ids[token] + 1} too",
                where=f"{path}, line {index + 1}",
                cure=_COPY_AGAIN,
            )
    return ids


def _ids_by_token(path: Path) -> dict[str, int]:
    ids = read_json(path)
    token_of: dict[int, str] = {}
    for token, index in ids.items():
        if type(index) is not int or not 0 <= index < 2**31:
            raise ModelError(
                f"the id of {token!r} is {index!r}", where=str(path), allowed="a count"
            )
        if token_of.setdefault(index, token) != token:
            raise ModelError(
                f"{token_of[index]!r} and {token!r} share the id {index}",
                where=str(path),
                cure=_COPY_AGAIN,
            )
    return ids


def _pairs(path: Path, ids: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(_lines(path), start=1):
        if line.startswith("#version") or not line:
            continue
        where = f"{path}, line {number}"
        left, blank, right = line.partition(" ")
        if not (left and blank and right) or " " in right:
            raise ModelError(
                f"{line!r:.60} is no merge", where=where, allowed="two tokens and one blank"
            )
        for token in (left, right, left + right):
            if token not in ids:
                raise ModelError(
                    f"{token!r} is not in vocab.json",
                    where=where,
                    cure="copy vocab.json and merges.txt from the same model",
                )
        yield left, right


def _lines(path: Path) -> list[str]:
    lines = read_text(path).split("\n")  # splitlines would also cut at characters that are tokens
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]
