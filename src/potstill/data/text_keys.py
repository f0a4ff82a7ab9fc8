"""When are two texts the same? One answer for splits and for the search for overlap."""

from __future__ import annotations

import unicodedata

from potstill.data.rows import Rows


def text_keys(rows: Rows, *, with_pair: bool = True) -> list[str]:
    """Return for each row the normalized text that it holds, its pair included if asked.

    Rows of words (`tokens`) are taken as words with blanks between. Of a question the text is its
    context, and the question itself is the pair.

    Raises:
        DataError: there is neither a column `text` nor a column `tokens`.
    """
    if "context" in rows:
        return _question_keys(rows, with_question=with_pair)
    if "tokens" in rows and "text" not in rows:
        return [normalized(" ".join(words)) for words in rows.column("tokens")]
    keys = [normalized(text) for text in rows.column("text")]
    if not with_pair or "text_pair" not in rows:
        return keys
    # the separator counts as a blank, so it cannot stand inside a normalized text
    pairs = zip(keys, rows.column("text_pair"), strict=True)
    return [f"{key}\x1f{normalized(pair)}" for key, pair in pairs]


def _question_keys(rows: Rows, *, with_question: bool) -> list[str]:
    # Many questions share a long context.
    key_of = {context: normalized(context) for context in set(rows.column("context"))}
    contexts = [key_of[context] for context in rows.column("context")]
    if not with_question:
        return contexts
    pairs = zip(contexts, rows.column("question"), strict=True)
    return [f"{context}\x1f{normalized(question)}" for context, question in pairs]


def normalized(text: str) -> str:
    """Return the text without differences of case, of blanks and of Unicode's compatible forms."""
    if text.isascii():
        return " ".join(text.lower().split())
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())
