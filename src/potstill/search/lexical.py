"""Search by words alone: BM25 of SQLite's full-text index, the baseline of every retrieval task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from potstill.errors import InputError, RecipeError

if TYPE_CHECKING:
    from sqlite3 import Connection

_LETTERS = "unicode61 remove_diacritics 2"
_TABLES = (
    f"CREATE VIRTUAL TABLE documents USING fts5(text, content='', tokenize='porter {_LETTERS}')",
    f"CREATE VIRTUAL TABLE query USING fts5(text, tokenize='{_LETTERS}')",
    "CREATE VIRTUAL TABLE words USING fts5vocab(query, 'instance')",
)
_RANKED = """
    SELECT rowid FROM documents WHERE documents MATCH ? ORDER BY bm25(documents), rowid LIMIT ?
"""


def bm25_ranking(documents: Sequence[str], queries: Sequence[str], *, top: int) -> list[list[int]]:
    """Rank the documents that share a word with each query, best first.

    BM25 with SQLite's k1 = 1.2 and b = 0.75 over Porter's stems; a word that a query repeats counts
    once. Of documents with equal scores the lower number comes first.

    Args:
        documents: texts; their places are the numbers in the answer.
        queries: plain texts: quotes, operators and other signs mean nothing.
        top: the most numbers of each query, 1 or more.

    Returns:
        For each query at most `top` numbers; none where no document has one of its words.

    Raises:
        RecipeError: `top` is below 1.
        InputError: this Python's SQLite is built without FTS5.
    """
    if top < 1:
        raise RecipeError(f"top is {top}", allowed="1 or more")
    tables = _opened()
    try:
        numbered = ((number, _encodable(text)) for number, text in enumerate(documents))
        tables.executemany("INSERT INTO documents(rowid, text) VALUES (?, ?)", numbered)
        return [_ranked(tables, query, top) for query in queries]
    finally:
        tables.close()


def _opened() -> Connection:
    try:
        import sqlite3
    except ImportError as error:
        raise _no_full_text("this Python has no sqlite3") from error
    tables = sqlite3.connect(":memory:")
    try:
        for table in _TABLES:
            tables.execute(table)
    except sqlite3.OperationalError as error:
        tables.close()
        version = sqlite3.sqlite_version
        raise _no_full_text(f"SQLite {version} of this Python lacks it ({error})") from error
    return tables


def _ranked(tables: Connection, query: str, top: int) -> list[int]:
    either = " OR ".join(f'"{word}"' for word in _words(tables, query))
    if not either:
        return []
    return [number for (number,) in tables.execute(_RANKED, (either, top))]


def _words(tables: Connection, query: str) -> list[str]:
    """Cut a query as the index cuts documents: its words hold no sign that the syntax knows."""
    tables.execute("DELETE FROM query")
    tables.execute("INSERT INTO query(text) VALUES (?)", (_encodable(query),))
    found = tables.execute("SELECT term FROM words ORDER BY offset").fetchall()
    return list(dict.fromkeys(word for (word,) in found))


def _encodable(text: str) -> str:
    """Replace halves of surrogate pairs, which UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _no_full_text(why: str) -> InputError:
    return InputError(
        f"the lexical baseline needs SQLite's full-text search FTS5: {why}",
        cure="use a Python whose SQLite has it, as those of python.org and of Linux systems do",
    )
