"""Exact search by inner product: what any faster index is measured against.

Legend: Q queries, K documents, D width, C documents of one chunk, k answers to a query.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.errors import DataError, RecipeError
from potstill.shapes import expect

Vectors = NDArray[Any]
Numbers = NDArray[np.int64]
Scores = NDArray[np.float32]

_QUERIES_AT_ONCE = 256
_DOCUMENTS_AT_ONCE = 8_192
_ONE_SPACE = "queries and documents need the same number of dimensions, from one space of vectors"

# A key is 64 bits: the score above, and below it the number of the document, counted backwards.
_NUMBER_BITS = 32
_LAST_NUMBER = 2**_NUMBER_BITS - 1
_BELOW_ALL = np.iinfo(np.int64).min


def nearest(
    queries_QD: Vectors,
    documents_KD: Vectors,
    *,
    top: int,
    documents_at_once: int = _DOCUMENTS_AT_ONCE,
) -> tuple[Numbers, Scores]:
    """Find the documents of the greatest inner product with each query, best first.

    Of documents with equal scores the lower number comes first. Products are summed in float64 and
    rounded to float32: summed in float32, equal vectors at different places can differ in the last
    bit, and a tie would be broken by where the documents stand in memory.

    Args:
        queries_QD: one query a row.
        documents_KD: one document a row; may be memory-mapped, it is read chunk by chunk.
        top: answers wanted of each query, 1 or more.
        documents_at_once: documents of one chunk; bounds the memory, never changes the answer.

    Returns:
        Numbers (Q, k) and scores (Q, k) with k = min(top, K). A score is the cosine where both
        sides are normed.

    Raises:
        ShapeError: the widths differ, or there are not two axes.
        RecipeError: `top` is below 1.
        DataError: a score is not finite; query and document are named.
    """
    sizes = expect(queries_QD, "Q D", name="queries")
    sizes = expect(documents_KD, "K D", name="documents", hint=_ONE_SPACE, D=sizes["D"]) | sizes
    if top < 1:
        raise RecipeError(f"top is {top}", allowed="1 or more")
    assert sizes["K"] <= _LAST_NUMBER, "the key has no room for so many documents"
    best_Qk = np.full((sizes["Q"], min(top, sizes["K"])), _BELOW_ALL, dtype=np.int64)
    for first_document in range(0, sizes["K"], documents_at_once):
        chunk_CD = documents_KD[first_document : first_document + documents_at_once]
        chunk_CD = np.asarray(chunk_CD, dtype=np.float64)
        for first_query in range(0, sizes["Q"], _QUERIES_AT_ONCE):
            part = slice(first_query, first_query + _QUERIES_AT_ONCE)
            scores_QC = _scores(queries_QD[part], chunk_CD, first_query, first_document)
            best_Qk[part] = _greatest(best_Qk[part], _keys(scores_QC, first_document))
    best_Qk = np.sort(best_Qk, axis=1)[:, ::-1]
    return _numbers_of(best_Qk), _scores_of(best_Qk)


def _scores(
    queries_QD: Vectors, chunk_CD: Vectors, first_query: int, first_document: int
) -> Scores:
    with np.errstate(all="ignore"):  # what is not finite is told below, with its place
        products_QC = np.asarray(queries_QD, dtype=np.float64) @ chunk_CD.T
        scores_QC = products_QC.astype(np.float32)
    if not np.isfinite(scores_QC).all():
        query, document = np.argwhere(~np.isfinite(scores_QC))[0]
        raise DataError(
            f"the score of query {first_query + query} and document {first_document + document} "
            "is not finite",
            allowed="vectors of finite numbers",
            cure="embed the texts again; a vector of nan comes from a damaged or diverged model",
        )
    return scores_QC


def _keys(scores_QC: Scores, first_document: int) -> Numbers:
    """Return whole numbers in the order of (score, lower number first), no two alike in a row."""
    above_QC = _order_of(scores_QC).astype(np.int64) << _NUMBER_BITS
    numbers_C = np.arange(first_document, first_document + scores_QC.shape[1], dtype=np.int64)
    keys_QC: Numbers = above_QC | (_LAST_NUMBER - numbers_C)
    return keys_QC


def _greatest(best_Qk: Numbers, keys_QC: Numbers) -> Numbers:
    """Return as many of the greatest keys as `best_Qk` holds, in no order."""
    count = best_Qk.shape[1]
    both = np.concatenate([best_Qk, keys_QC], axis=1)
    return np.partition(both, -count, axis=1)[:, -count:]


def _numbers_of(keys_Qk: Numbers) -> Numbers:
    numbers_Qk: Numbers = _LAST_NUMBER - (keys_Qk & _LAST_NUMBER)
    return numbers_Qk


def _scores_of(keys_Qk: Numbers) -> Scores:
    return _flipped((keys_Qk >> _NUMBER_BITS).astype(np.int32)).view(np.float32)


def _order_of(scores: Scores) -> NDArray[np.int32]:
    """Return whole numbers in the order of the floats."""
    return _flipped((scores + np.float32(0)).view(np.int32))  # -0 + 0 is 0: they are one score


def _flipped(bits: NDArray[np.int32]) -> NDArray[np.int32]:
    """Turn round the bits of negative floats below the sign; done twice, nothing has changed.

    The bits of floats, read as whole numbers, rise with the float above 0 and fall with it below.
    """
    return bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
