"""Search documents by meaning: the teacher indexes them once, the student answers each question.

    python examples/semantic_search.py --documents corpus.jsonl --model TEACHER \
        --query-model STUDENT --index index.safetensors "a question" "another question"

Documents and queries are rows with "text", and with "id" and "title" where there are any; a title
is put before its text. A student that was distilled from the teacher's vectors lies in the same
space: it reads the short queries, and the index need not be made again. --index is read where it
stands and written where it does not; .safetensors and .parquet know which model made them, .npy
does not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import potstill
from potstill.data import Columns, read_rows, select_columns
from potstill.errors import DataError, InputError
from potstill.search.exact import nearest
from potstill.search.stored_vectors import read_vectors, require_vector_file, write_vectors
from potstill.search.vector_forms import normed

Vectors = NDArray[np.float32]

WORDS_SHOWN = 12
COMPARED = 8  # documents that are embedded again to see whether a file of vectors is theirs
LEAST_COSINE = 0.98  # of one text's vectors in other batches and precisions


@dataclass(frozen=True)
class Texts:
    """Texts and their names."""

    ids: list[str]
    texts: list[str]


def main(arguments: Sequence[str] | None = None) -> int:
    asked = parse(arguments)
    try:
        answer(asked)
    except potstill.PotstillError as error:
        print(f"semantic_search: {error}", file=sys.stderr)
        return error.exit_status
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Search documents by meaning.")
    parser.add_argument("questions", nargs="*", help="questions to answer")
    parser.add_argument("--documents", required=True, help="rows: .jsonl .csv .tsv .parquet")
    parser.add_argument("--model", required=True, help="model of the documents: folder or hub:NAME")
    parser.add_argument("--query-model", help="model of the queries; default: --model")
    parser.add_argument("--queries", help="rows of queries: .jsonl .csv .tsv .parquet")
    parser.add_argument("--index", type=Path, help="vectors: .npy .safetensors .parquet")
    parser.add_argument("--top", type=int, default=5, help="answers to each query")
    return parser.parse_args(arguments)


def answer(asked: argparse.Namespace) -> None:
    queries = queries_of(asked)
    documents = read_texts(asked.documents)
    teacher = potstill.load(asked.model)
    document_vectors = indexed(teacher, documents, asked.index)
    student = potstill.load(asked.query_model) if asked.query_model else teacher
    query_vectors = normed(student.embed(queries.texts))
    numbers, scores = nearest(query_vectors, document_vectors, top=asked.top)
    for name, text, found, marks in zip(queries.ids, queries.texts, numbers, scores, strict=True):
        print(f"{name}\t{beginning(text)}")
        for rank, (number, score) in enumerate(zip(found, marks, strict=True), start=1):
            words = beginning(documents.texts[number])
            print(f"{rank}\t{score:.4f}\t{documents.ids[number]}\t{words}")


def queries_of(asked: argparse.Namespace) -> Texts:
    """Return the queries of the file and those on the command line."""
    if not asked.queries and not asked.questions:
        raise InputError("there is no query", cure='name --queries FILE, or put "a question" last')
    of_file = read_texts(asked.queries) if asked.queries else Texts([], [])
    names = [f"question {number}" for number, _ in enumerate(asked.questions, start=1)]
    return Texts(of_file.ids + names, of_file.texts + asked.questions)


def read_texts(source: str) -> Texts:
    """Read a file of rows; rows without an id are named by their number, from 1."""
    rows = read_rows(source)
    texts = select_columns(rows, Columns(), required=("text",), optional=()).column("text")
    titles = rows.column("title") if "title" in rows else [None] * len(rows)
    ids = rows.column("id") if "id" in rows else range(1, len(rows) + 1)
    joined = [
        f"{title} {text}" if title else text for title, text in zip(titles, texts, strict=True)
    ]
    return Texts([str(name) for name in ids], joined)


def indexed(teacher: potstill.Model, documents: Texts, file: Path | None) -> Vectors:
    """Return the vectors of all documents: from the file if it stands, else from the teacher."""
    if file is not None and file.exists():
        return read_index(teacher, documents, file)
    if file is not None:
        require_vector_file(file, "float32")
    vectors = normed(teacher.embed(documents.texts))
    if file is not None:
        write_vectors(file, vectors, ids=documents.ids, fingerprint=teacher.fingerprint)
    return vectors


def read_index(teacher: potstill.Model, documents: Texts, file: Path) -> Vectors:
    index = read_vectors(file)
    cure = "delete the file, and it is made again, or name another with --index"
    if index.fingerprint not in {None, teacher.fingerprint}:
        raise DataError("the index was made by another model", where=str(file), cure=cure)
    if len(index.vectors_KD) != len(documents.texts):
        raise DataError(
            f"{len(index.vectors_KD)} vectors for {len(documents.texts)} documents",
            where=str(file),
            cure=cure,
        )
    if index.ids is not None and list(index.ids) != documents.ids:
        raise DataError("the index is of other documents", where=str(file), cure=cure)
    vectors = normed(index.vectors_KD)
    if not are_of(vectors, teacher, documents):
        raise DataError(
            "the index is of other documents, or of another model's vectors",
            where=str(file),
            cure=cure,
        )
    return vectors


def are_of(vectors: Vectors, teacher: potstill.Model, documents: Texts) -> bool:
    """Embed a few documents again: not every file knows what its vectors are of."""
    chosen = np.linspace(0, len(vectors) - 1, COMPARED).astype(int)
    again = normed(teacher.embed([documents.texts[number] for number in chosen]))
    if again.shape[1] != vectors.shape[1]:
        return False
    return bool(((again * vectors[chosen]).sum(axis=1) >= LEAST_COSINE).all())


def beginning(text: str) -> str:
    words = text.split()
    return " ".join(words[:WORDS_SHOWN]) + (" …" if len(words) > WORDS_SHOWN else "")


if __name__ == "__main__":
    sys.exit(main())
