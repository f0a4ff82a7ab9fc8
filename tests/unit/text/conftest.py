"""A small vocabulary of BERT's kind, and one of RoBERTa's, written by hand."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest
from tokenizers.pre_tokenizers import ByteLevel

from potstill.text.tokenizer import Tokenizer
from potstill.text.tokenizer_files import load_tokenizer

SPECIALS_OF_BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SPECIALS_OF_ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder whose vocab.txt knows letters, digits, some marks and a few words."""
    signs = [*string.ascii_lowercase, *string.digits, *".,!?'-#@", "\u6771", "\u4eac", "\u05e9"]
    pieces = [f"##{sign}" for sign in [*string.ascii_lowercase, *string.digits, "\u05dc"]]
    words = ["hello", "world", "##ing", "##ed"]
    folder = tmp_path_factory.mktemp("bert")
    tokens = [*SPECIALS_OF_BERT, *signs, *pieces, *words]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def roberta_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder whose vocab.json knows all bytes and two merges."""
    tokens = [*SPECIALS_OF_ROBERTA, *sorted(ByteLevel.alphabet()), "he", "\u0120w"]
    folder = tmp_path_factory.mktemp("roberta")
    vocabulary = {token: index for index, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    merges = "#version: 0.2\nh e\n\u0120 w\n"
    (folder / "merges.txt").write_text(merges, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def bert(bert_folder: Path) -> Tokenizer:
    """Return the small BERT tokenizer."""
    return load_tokenizer(bert_folder, family="bert")


@pytest.fixture(scope="session")
def roberta(roberta_folder: Path) -> Tokenizer:
    """Return the small RoBERTa tokenizer."""
    return load_tokenizer(roberta_folder, family="roberta")
