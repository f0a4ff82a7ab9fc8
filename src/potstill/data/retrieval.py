"""Read a retrieval set as BEIR lays it out: corpus.jsonl, queries.jsonl and qrels.tsv in a folder.

A judgement (qrel) is a line of query-id, corpus-id and score with tabs between, under a header or
none; TREC's four columns, with one between the two ids, are read too, with tabs or blanks between.
Scores above 0 are grades of relevance, others mean "not relevant" (Cranfield's -1 is one). Of a
pair that is judged more than once the highest grade counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from potstill.data import fields
from potstill.data.columns import checked_column
from potstill.data.jsonl import read_jsonl
from potstill.data.opening import decoded, numbered_lines, opened
from potstill.data.rows import Rows
from potstill.errors import DataError

_CORPUS, _QUERIES = "corpus.jsonl", "queries.jsonl"
_QRELS = ("qrels.tsv", "qrels/test.tsv")  # the first that is there
_TREC_WIDTH = 4
_WIDTHS = (3, _TREC_WIDTH)  # BEIR's first


def files_of(folder: Path) -> list[Path]:
    """Return the files that a retrieval set is read from, as far as they are there."""
    judgements = [folder / name for name in _QRELS if (folder / name).is_file()]
    return [*filter(Path.is_file, (folder / _CORPUS, folder / _QUERIES)), *judgements[:1]]


@dataclass(frozen=True, slots=True, eq=False)
class Retrieval:
    """Documents, queries, and which documents answer which query."""

    source: str  # the folder as the user named it
    document_ids: list[str]
    documents: list[str]  # title and text, joined by a blank
    query_ids: list[str]
    queries: list[str]
    relevant: list[dict[int, float]]  # of each query: document number -> grade above 0

    def binary(self) -> Retrieval:
        """Return the set with grade 1 for every relevant document.

        For grades that are no gains: in Cranfield 1 is the best and 4 the least.
        """
        relevant = [dict.fromkeys(grades, 1.0) for grades in self.relevant]
        return replace(self, relevant=relevant)

    @property
    def unjudged(self) -> int:
        """Return the number of queries without a relevant document; metrics leave them out."""
        return sum(not grades for grades in self.relevant)


def read_retrieval(folder: Path) -> Retrieval:
    """Read a retrieval set; documents and queries keep their order.

    Raises:
        DataError: a file is missing or cannot be read, an id stands twice, a text or score is
            wrong, a judgement names a document or query that is not there, or no query has a
            relevant document; file and line are named.
    """
    _require_folder(folder)
    corpus, queries = _rows(folder / _CORPUS), _rows(folder / _QUERIES)
    document_ids, query_ids = _ids(corpus), _ids(queries)
    return Retrieval(
        source=str(folder),
        document_ids=document_ids,
        documents=_documents(corpus),
        query_ids=query_ids,
        queries=checked_column(queries, "text", fields.text),
        relevant=_relevant(_qrels_path(folder), _numbers(query_ids), _numbers(document_ids)),
    )


@dataclass(frozen=True, slots=True)
class _Judgement:
    line: int
    query: str
    document: str
    score: str


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise DataError(
            "this is a file, not a folder" if folder.exists() else "there is no such folder",
            where=str(folder),
            allowed=f"a folder with {_CORPUS}, {_QUERIES} and {' or '.join(_QRELS)}",
        )


def _rows(path: Path) -> Rows:
    rows = read_jsonl(path)
    if not len(rows):
        raise DataError("there are no rows", where=str(path))
    return rows


def _ids(rows: Rows) -> list[str]:
    name = "_id" if "_id" in rows else "id"
    ids = checked_column(rows, name, fields.identifier)
    first_of: dict[str, int] = {}
    for index, each in enumerate(ids):
        first = first_of.setdefault(each, index)
        if first != index:
            raise DataError(
                f"the id {each!r:.40} stands twice",
                where=rows.where(index, name),
                cure=f"give it an id of its own, or remove it: the first is {rows.where(first)}",
            )
    return ids


def _documents(corpus: Rows) -> list[str]:
    texts = checked_column(corpus, "text", fields.text)
    if "title" not in corpus:
        return texts
    titles = ["" if title is None else title for title in corpus.column("title")]
    titles = checked_column(corpus.with_columns({"title": titles}), "title", fields.text)
    return [" ".join(filter(None, pair)) for pair in zip(titles, texts, strict=True)]


def _qrels_path(folder: Path) -> Path:
    paths = [folder / name for name in _QRELS]
    found = next((path for path in paths if path.exists()), None)
    if found is None:
        raise DataError(f"there is neither {_QRELS[0]} nor {_QRELS[1]}", where=str(folder))
    return found


def _numbers(ids: list[str]) -> dict[str, int]:
    return {each: number for number, each in enumerate(ids)}


def _relevant(
    path: Path, queries: Mapping[str, int], documents: Mapping[str, int]
) -> list[dict[int, float]]:
    judgements = list(_judgements(path))
    if judgements and _is_header(judgements[0], queries, documents):
        del judgements[0]
    _require_known(judgements, queries, "query", path, [each.query for each in judgements])
    _require_known(judgements, documents, "document", path, [each.document for each in judgements])
    relevant: list[dict[int, float]] = [{} for _ in queries]
    for each in judgements:
        grades, document = relevant[queries[each.query]], documents[each.document]
        grade = _grade(each, path)
        if grade > 0:
            grades[document] = max(grade, grades.get(document, 0.0))
    if not any(relevant):
        raise DataError(
            "no query has a relevant document", where=str(path), allowed="some scores above 0"
        )
    return relevant


def _judgements(path: Path) -> Iterator[_Judgement]:
    with opened(path) as stream:
        for number, line in numbered_lines(stream, str(path)):
            where = f"{path}, line {number}"
            parts = _columns(decoded(line, where))
            if not any(parts):
                continue
            if len(parts) not in _WIDTHS or not all(parts):
                raise DataError(
                    "a column is empty"
                    if len(parts) in _WIDTHS
                    else f"the number of columns is {len(parts)}",
                    where=where,
                    allowed="query-id, corpus-id and score, with tabs between; or TREC's query-id, "
                    "0, corpus-id and score, with tabs or blanks between",
                )
            yield _Judgement(number, query=parts[0], document=parts[-2], score=parts[-1])


def _columns(line: str) -> list[str]:
    """Cut a line at its tabs; without any, at its blanks if that gives TREC's columns."""
    parts = [part.strip() for part in line.rstrip().split("\t")]
    words = line.split()
    return words if len(parts) == 1 and len(words) == _TREC_WIDTH else parts


def _is_header(first: _Judgement, queries: Mapping[str, int], documents: Mapping[str, int]) -> bool:
    names_nothing = first.query not in queries and first.document not in documents
    return names_nothing and not _is_number(first.score)


def _require_known(
    judgements: list[_Judgement], known: Mapping[str, int], kind: str, path: Path, ids: list[str]
) -> None:
    unknown = [index for index, each in enumerate(ids) if each not in known]
    if unknown:
        first = unknown[0]
        raise DataError(
            f"there is no {kind} {ids[first]!r:.40}; of {len(ids):,} judgements "
            f"{len(unknown):,} name a {kind} that is not there",
            where=f"{path}, line {judgements[first].line}",
            allowed=f"the ids of {_CORPUS if kind == 'document' else _QUERIES}",
            cure="take the three files from one release of the set",
        )


def _grade(judgement: _Judgement, path: Path) -> float:
    try:
        return fields.number(judgement.score)
    except DataError as fault:
        raise DataError(
            f"the score {fault.what}",
            where=f"{path}, line {judgement.line}",
            allowed="a finite number; above 0: relevant",
        ) from None


def _is_number(text: str) -> bool:
    try:
        fields.number(text)
    except DataError:
        return False
    return True
