"""Rows of a corpus for training: documents cut into pieces, framed by the special tokens.

Legend: R rows, B rows of a batch, N tokens of a batch, P tokens of a piece at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from potstill.data.corpus import Corpus
from potstill.data.corpus_blocks import FRAME
from potstill.data.corpus_shards import Int64
from potstill.errors import RecipeError
from potstill.text.ragged import Int32, RaggedBatch, offsets_of, stretches

SHORTEST = 12  # tokens: the original code dropped texts of 11 and fewer


@dataclass(frozen=True, slots=True, eq=False)
class CorpusRows:
    """Pieces of documents, as places in a corpus: 24 bytes a row, no token is held."""

    corpus: Corpus
    shard_R: Int32
    start_R: Int64  # place of the piece's first token in the shard
    length_R: Int32  # tokens of the piece, without the special ones
    document_R: Int64  # number of its document in the corpus
    short_pieces: int = 0  # left out: documents, and ends of documents, that are too short
    short_tokens: int = 0  # of those

    def __len__(self) -> int:
        """Return R."""
        return int(self.shard_R.size)

    @property
    def lengths(self) -> Int32:
        """Return the tokens of each row, special ones included, (R,)."""
        return self.length_R + np.int32(FRAME)

    @property
    def documents(self) -> int:
        """Return the number of documents of which there is a row."""
        return int(np.unique(self.document_R).size)

    def take(self, indices: Sequence[int] | NDArray[np.integer]) -> CorpusRows:
        """Return the chosen rows, in the order given; what was left out is not counted again."""
        chosen = np.asarray(indices, dtype=np.int64)
        return CorpusRows(
            self.corpus,
            self.shard_R[chosen],
            self.start_R[chosen],
            self.length_R[chosen],
            self.document_R[chosen],
        )

    def batch(self, indices: Sequence[int] | NDArray[np.integer]) -> RaggedBatch:
        """Return the chosen rows as tokens, special ones around each: B texts, N tokens."""
        chosen = np.asarray(indices, dtype=np.int64)
        lengths = self.length_R[chosen].astype(np.int64)
        offsets = offsets_of(lengths + FRAME)
        ids = np.empty(int(offsets[-1]), dtype=np.int32)
        wording = self.corpus.manifest.wording
        ids[offsets[:-1]] = wording.cls_id
        ids[offsets[1:] - 1] = wording.sep_id
        shard_B, start_B = self.shard_R[chosen], self.start_R[chosen]
        for shard in np.unique(shard_B):
            rows = np.flatnonzero(shard_B == shard)
            sources = stretches(start_B[rows], lengths[rows])
            targets = stretches(offsets[rows].astype(np.int64) + 1, lengths[rows])
            ids[targets] = self.corpus.shards[shard].ids[sources]
        return RaggedBatch(ids, offsets)

    def at_most(self, tokens: int, *, seed: int) -> CorpusRows:
        """Return rows of so many tokens at most, of all documents in turn; one row at least.

        So a long document loses rows first, and they are spread over it. As for `split`, what is
        taken follows from seed and texts alone.
        """
        first_R = np.searchsorted(self.document_R, self.document_R)  # rows lie document by document
        place_R = np.arange(len(self)) - first_R
        key_R = self.corpus.keys()[self.document_R] ^ _mixed(np.array([seed], dtype=np.uint64))
        mixed_R = _mixed(key_R ^ _mixed(place_R.astype(np.uint64)))
        turn_R = np.empty(len(self), dtype=np.int64)
        turn_R[np.lexsort((mixed_R, self.document_R))] = place_R
        order = np.lexsort((mixed_R, turn_R))
        fitting = int(np.searchsorted(np.cumsum(self.lengths[order]), tokens, side="right"))
        return self.take(np.sort(order[: max(fitting, 1)]))

    def split(
        self,
        *,
        held_out_share: float | None = None,
        held_out_documents: int | None = None,
        seed: int,
    ) -> tuple[CorpusRows, CorpusRows]:
        """Part the rows by document into rows to train on and rows to measure on.

        Which documents are held out follows from seed and texts alone: the order of the corpus and
        the cutting of its documents change nothing. Texts that are nearly the same count as two.

        Args:
            held_out_share: share of the documents, above 0 and below 1; at least one is taken.
            held_out_documents: or their number.
            seed: another one takes other documents.

        Raises:
            RecipeError: both or neither are given, or nothing would be left to train on.
        """
        assert seed >= 0, "a negative seed: this is a bug"
        documents = np.unique(self.document_R)
        count = _held_out(documents.size, held_out_share, held_out_documents)
        mixed = _mixed(self.corpus.keys()[documents] ^ _mixed(np.array([seed], dtype=np.uint64)))
        held_out = documents[np.argsort(mixed, kind="stable")[:count]]
        is_held_out_R = np.isin(self.document_R, held_out)
        return self.take(np.flatnonzero(~is_held_out_R)), self.take(np.flatnonzero(is_held_out_R))


def cut_rows(
    corpus: Corpus,
    *,
    max_length: int,
    shortest: int = SHORTEST,
    without: NDArray[np.integer] | None = None,
) -> CorpusRows:
    """Cut every document into rows of at most `max_length` tokens, special ones included.

    Args:
        corpus: its documents.
        max_length: of a row.
        shortest: tokens that a piece must have; shorter documents and ends are left out, counted.
        without: numbers of documents to leave out, such as the contaminated ones.

    Raises:
        RecipeError: no piece could be long enough, or none is.
    """
    piece = max_length - FRAME
    if shortest < 1 or piece < shortest:
        raise RecipeError(
            f"max_length is {max_length} and the shortest piece {shortest}",
            allowed=f"a shortest piece of 1 or more, and max_length at least {FRAME} above it",
        )
    is_wanted = np.ones(corpus.documents, dtype=np.bool_)
    if without is not None:
        is_wanted[without] = False
    parts = [
        _pieces(corpus, number, piece, is_wanted[first:last])
        for number, (first, last) in enumerate(_borders(corpus))
    ]
    shard, start, length, document = (np.concatenate(column) for column in zip(*parts, strict=True))
    is_long = length >= shortest
    if not is_long.any():
        raise RecipeError(
            f"no document has a piece of {shortest} tokens",
            where=str(corpus.folder),
            cure="build a corpus of longer texts: one document is a line of .txt, a row of others",
        )
    return CorpusRows(
        corpus,
        shard[is_long],
        start[is_long],
        length[is_long].astype(np.int32),
        document[is_long],
        short_pieces=int((~is_long).sum()),
        short_tokens=int(length[~is_long].sum()),
    )


def _borders(corpus: Corpus) -> list[tuple[int, int]]:
    firsts = corpus.first_documents.tolist()
    return list(pairwise(firsts))


def _pieces(
    corpus: Corpus, number: int, piece: int, is_wanted: NDArray[np.bool_]
) -> tuple[Int32, Int64, Int64, Int64]:
    """Return shard, start, length and document of every piece of one shard, in its order."""
    shard = corpus.shards[number]
    local = np.flatnonzero(is_wanted)
    starts = shard.starts[local]
    lengths = np.asarray(shard.ends)[local] - starts
    counts = -(-lengths // piece)
    of_document = np.repeat(np.arange(local.size), counts)
    place = np.arange(of_document.size) - np.repeat(np.cumsum(counts) - counts, counts)
    before = place * piece
    return (
        np.full(of_document.size, number, dtype=np.int32),
        starts[of_document] + before,
        np.minimum(lengths[of_document] - before, piece),
        local[of_document] + corpus.first_documents[number],
    )


def _held_out(documents: int, share: float | None, count: int | None) -> int:
    if (share is None) == (count is None):
        raise RecipeError("held_out_share or held_out_documents", allowed="one of the two")
    if share is not None and not 0.0 < share < 1.0:
        raise RecipeError(f"held_out_share is {share}", allowed="above 0 and below 1")
    wanted = max(round(share * documents), 1) if share is not None else count
    assert wanted is not None, "one of the two is there"
    if not 0 < wanted < documents:
        raise RecipeError(
            f"{wanted:,} of {documents:,} documents would be held out",
            allowed="at least one, and at least one to train on",
            cure="--set held_out_documents=N with fewer, or more texts",
        )
    return wanted


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return other 64 bits for each value: the finalizer of splitmix64, one to one."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
