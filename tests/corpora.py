"""Small corpora: texts of the tiny words, and what a folder of shards holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from potstill.data.corpus import Corpus
from potstill.data.corpus_build import CorpusSettings, build_corpus
from potstill.text.tokenizer import Tokenizer
from potstill.text.tokenizer_files import load_tokenizer
from tests.tiny import WORDS, write_tiny_tokenizer

SPOKEN = WORDS[5:]  # those that are no special tokens


@cache
def tiny_tokenizer() -> Tokenizer:
    """Return the tokenizer of the tiny words."""
    with TemporaryDirectory() as folder:
        write_tiny_tokenizer(Path(folder))
        return load_tokenizer(Path(folder), family="bert")


def sentence(*numbers: int) -> str:
    """Return a text of the words of these numbers."""
    return " ".join(SPOKEN[number % len(SPOKEN)] for number in numbers)


def sentences(count: int, *, words: int = 20) -> list[str]:
    """Return different texts."""
    return [
        sentence(*[(number * 7 + place * (number + 1)) % 997 for place in range(words)])
        + f" {sentence(number, number // 57, number // 3249)}"
        for number in range(count)
    ]


def write_text(path: Path, texts: Sequence[str]) -> Path:
    """Write one text a line."""
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def write_jsonl(path: Path, texts: Sequence[str | None]) -> Path:
    """Write one row a text."""
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def built(folder: Path, *sources: Path, **settings: object) -> Corpus:
    """Build a corpus with the tiny tokenizer."""
    return build_corpus(sources, folder, tiny_tokenizer(), CorpusSettings(**settings))


def texts_of(corpus: Corpus) -> list[str]:
    """Return every document as the tiny tokenizer writes it."""
    return [
        " ".join(WORDS[token] for token in corpus.document(number))
        for number in range(corpus.documents)
    ]


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Return all files of a corpus folder, the manifest without the time that the work took."""
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    told = json.loads(files["manifest.json"])
    del told["seconds"]
    return files | {"manifest.json": json.dumps(told).encode()}


def write_patterns(path: Path) -> None:
    """Write texts of the tiny words in which each word tells the next: easy to guess."""
    lines = [
        sentence(*[first + step * apart for step in range(24)])
        for first in range(len(SPOKEN))
        for apart in (1, 2)
    ]
    path.write_text("\n".join(lines) + "\n")
