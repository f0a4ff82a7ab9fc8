"""Which documents of a corpus hold a text of an evaluation file: a score on it proves nothing.

A document is contaminated if it shares a run of 13 tokens with any evaluation text, or holds a
whole evaluation text of 8 to 12 tokens. Found by a rolling hash over whole shards, and every hit is
compared token by token. Not found: paraphrases, and evaluation texts of fewer than 8 tokens.

Legend: E tokens of all evaluation texts, W windows, N tokens of a stretch of a shard.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.data.corpus import Corpus
from potstill.data.corpus_blocks import ids_of
from potstill.data.corpus_shards import Int64, Shard
from potstill.data.opening import opened
from potstill.data.readers import read_rows
from potstill.data.rows import Rows
from potstill.errors import DataError, OutputError, StorageError
from potstill.files import sha256_of_file, write_atomically
from potstill.hub_names import is_hub
from potstill.text.tokenizer import Tokenizer

Tell = Callable[[int, int], None]
UInt64 = NDArray[np.uint64]

RUN_TOKENS = 13  # in a row: as GPT-3's authors looked for overlap
SHORTEST_TOKENS = 8  # shorter evaluation texts stand everywhere by chance, and are not looked for
_STRETCH_TOKENS = 1 << 20
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no bit is lost by multiplying
_SCHEMA = 1
_NO_TEXTS = ("id", "_id", "tags", "answers", "answer_starts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contamination:
    """What was found, and what was looked for."""

    documents: tuple[int, ...]  # numbers in the corpus, rising
    evaluation_texts: int  # different ones
    short_texts: int  # of them, not looked for
    tokens: int  # of the contaminated documents


def find_contamination(
    corpus: Corpus,
    evaluation: Sequence[object],
    tokenizer: Tokenizer,
    *,
    tell: Tell | None = None,
) -> Contamination:
    """Find the documents that hold evaluation texts.

    What was found is kept in the corpus folder, for the next run; where that cannot be written, it
    is looked for again.

    Args:
        corpus: made by `tokenizer`.
        evaluation: sources as `read_rows` takes them; all their columns of texts count.
        tokenizer: of the corpus.
        tell: called with (tokens searched, tokens of the corpus).

    Raises:
        DataError: a source cannot be read or has no text, or the tokenizer is another one.
    """
    corpus.require_tokenizer(tokenizer)
    cache = corpus.folder / f"contamination-{_hash(corpus, evaluation)}.json"
    found = _kept(cache, documents=corpus.documents)
    if found is None:
        found = _found(corpus, evaluation, tokenizer, tell)
        with contextlib.suppress(OutputError, StorageError):
            write_atomically(cache, json.dumps({"schema": _SCHEMA} | asdict(found)).encode())
    return found


@dataclass(frozen=True, slots=True)
class Search:
    """All different windows of one length."""

    length: int  # tokens
    hashes: UInt64  # (W,) sorted
    starts: Int64  # (W,) place of each in the evaluation ids
    may_be: NDArray[np.bool_]  # (2^k,) by the upper k bits of a hash: is any window's hash so?
    shift: np.uint64  # 64 - k


def contaminated_documents(
    shard: Shard, searches: Sequence[Search], ids_E: Int64, hashes_V: UInt64
) -> Int64:
    """Return the documents of one shard that hold a window, numbered inside it, rising."""
    longest = max((search.length for search in searches), default=0)
    ends = np.asarray(shard.ends)
    found: list[Int64] = []
    for start in range(0, shard.ids.size, _STRETCH_TOKENS):
        ids_N = shard.ids[start : start + _STRETCH_TOKENS + longest - 1].astype(np.int64)
        for search, hash_W in _rolled(hashes_V[ids_N], searches):
            places = _hits(hash_W, ids_N, search, ids_E) + start
            documents = np.searchsorted(ends, places, side="right")
            is_inside = places + search.length <= ends[documents]
            found.append(np.unique(documents[is_inside]))
    return np.unique(np.concatenate([*found, np.zeros(0, dtype=np.int64)]))


def _found(
    corpus: Corpus, evaluation: Sequence[object], tokenizer: Tokenizer, tell: Tell | None
) -> Contamination:
    texts = sorted({text for source in evaluation for text in _texts_of(read_rows(source))})
    ids, lengths = ids_of(tokenizer, texts)
    ids_E = ids.astype(np.int64)
    searches = _searches(ids_E, lengths)
    hashes_V = _random_hashes(corpus.manifest.wording.vocabulary_size)
    found: list[int] = []
    tokens = done = 0
    for shard, first in zip(corpus.shards, corpus.first_documents, strict=False):
        local = contaminated_documents(shard, searches, ids_E, hashes_V)
        found += (local + first).tolist()
        tokens += int((shard.ends[local] - shard.starts[local]).sum())
        done += shard.ids.size
        if tell is not None:
            tell(done, corpus.total_tokens)
    return Contamination(
        documents=tuple(found),
        evaluation_texts=len(texts),
        short_texts=int((lengths < SHORTEST_TOKENS).sum()),
        tokens=tokens,
    )


def _texts_of(rows: Rows) -> Iterator[str]:
    """Yield the values of all columns of texts; words are joined by blanks.

    Raises:
        DataError: there is no such column.
    """
    columns = [
        name
        for name in rows.columns
        if name not in _NO_TEXTS and not name.startswith("label") and _holds_texts(rows, name)
    ]
    if not columns:
        raise DataError(
            f"there is no column of texts (the columns are: {rows.column_list()})",
            where=rows.source,
        )
    for name in columns:
        for value in rows.column(name):
            if value is not None:
                yield value if isinstance(value, str) else " ".join(value)


def _holds_texts(rows: Rows, name: str) -> bool:
    values = [value for value in rows.column(name) if value is not None]
    if name == "tokens":
        return all(_are_words(value) for value in values)
    return bool(values) and all(isinstance(value, str) for value in values)


def _are_words(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(word, str) for word in value)


def _searches(ids_E: Int64, lengths: Int64) -> list[Search]:
    """Return what to look for, the shortest windows first."""
    starts = np.cumsum(lengths) - lengths
    searches = []
    for length in range(SHORTEST_TOKENS, RUN_TOKENS + 1):
        chosen = lengths == length if length < RUN_TOKENS else lengths >= length
        counts = lengths[chosen] - length + 1
        if not counts.size:
            continue
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        searches.append(_search(length, np.repeat(starts[chosen], counts) + within, ids_E))
    return searches


def _search(length: int, starts: Int64, ids_E: Int64) -> Search:
    hashes = np.zeros(starts.size, dtype=np.uint64)
    random_V = _random_hashes(int(ids_E.max()) + 1)
    for place in range(length):
        hashes = hashes * _BASE + random_V[ids_E[starts + place]]
    hashes, firsts = np.unique(hashes, return_index=True)
    bits = min(max(hashes.size.bit_length() + 4, 10), 28)
    shift = np.uint64(64 - bits)
    may_be = np.zeros(1 << bits, dtype=np.bool_)
    may_be[hashes >> shift] = True
    return Search(length, hashes, starts[firsts], may_be, shift)


def _rolled(hash_N: UInt64, searches: Sequence[Search]) -> Iterator[tuple[Search, UInt64]]:
    """Yield each search with the hashes of all windows of its length, growing them as it goes."""
    grown = np.zeros(hash_N.size + 1, dtype=np.uint64)
    length = 0
    for search in searches:
        while length < search.length:
            if grown.size <= 1:
                return
            grown = grown[:-1] * _BASE + hash_N[length:]
            length += 1
        yield search, grown


def _hits(hash_W: UInt64, ids_N: Int64, search: Search, ids_E: Int64) -> Int64:
    """Return the places where a window stands, compared token by token."""
    places = np.flatnonzero(search.may_be[hash_W >> search.shift])
    nearest = np.searchsorted(search.hashes, hash_W[places])
    nearest = np.minimum(nearest, search.hashes.size - 1)
    is_equal = search.hashes[nearest] == hash_W[places]
    places, nearest = places[is_equal], nearest[is_equal]
    within = np.arange(search.length)
    here = ids_N[places[:, None] + within]
    there = ids_E[search.starts[nearest][:, None] + within]
    found: Int64 = places[(here == there).all(axis=1)]
    return found


def _random_hashes(count: int) -> UInt64:
    """Return 64 well mixed bits for each id, (V,); those of an id never depend on V."""
    mixed = (np.arange(count, dtype=np.uint64) + np.uint64(1)) * np.uint64(0xD1342543DE82EF95)
    mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xAEF17502108EF2D9)
    return mixed ^ (mixed >> np.uint64(29))


def _hash(corpus: Corpus, evaluation: Sequence[object]) -> str:
    """Return the hash under which a result is kept: of the corpus and of what is looked for."""
    parts = [f"{corpus.identity} {RUN_TOKENS} {SHORTEST_TOKENS}", *map(_source_hash, evaluation)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _source_hash(source: object) -> str:
    """Return the hash of a file, which need not be parsed for it, or of the texts of other rows."""
    if isinstance(source, str | PathLike) and not is_hub(source):
        path = Path(source)
        with opened(path):
            return f"{path.suffix.lower()} {sha256_of_file(path)}"
    digest = hashlib.sha256()
    for text in _texts_of(read_rows(source)):
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


def _kept(path: Path, *, documents: int) -> Contamination | None:
    """Return an earlier result of a corpus of so many documents; None if none can be read."""
    try:
        content = json.loads(path.read_bytes())
        if content.pop("schema") != _SCHEMA:
            return None
        found = Contamination(**content | {"documents": tuple(content["documents"])})
        counts = found.evaluation_texts, found.short_texts, found.tokens
        are_numbers = all(type(each) is int and each >= 0 for each in (*counts, *found.documents))
        return found if are_numbers and max(found.documents, default=-1) < documents else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
