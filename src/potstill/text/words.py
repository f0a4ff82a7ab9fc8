"""Cut a text into words as entity data sets do, each with its exact place in the text.

Blanks separate words; punctuation is peeled off the ends of what stands between blanks, so that
"U.N.", "Asia-Pacific" and "3.5" stay whole, and "'s" is a word of its own ("Japan's" is two), as in
CoNLL-2003. Ideographs and kana are words of their own: there are no blanks between them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

Span = tuple[int, int]  # from, to: characters of the text

_CHUNK = re.compile(r"\S+")
# Han, Hiragana and Katakana; Hangul has blanks between its words.
_UNSPACED = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)

# What is written onto a name and is no part of it. "n't" is left: no entity stands before it.
_SUFFIX = r"['\u2019](?:s|d|m|re|ve|ll)"
_SUFFIX_ALONE = re.compile(rf"{_SUFFIX}(?!\w)", re.IGNORECASE)
_SUFFIX_AT_END = re.compile(rf"{_SUFFIX}\Z", re.IGNORECASE)


def word_spans(text: str) -> list[Span]:
    """Return the place of each word, in order; no two overlap and none holds a blank."""
    return [span for chunk in _CHUNK.finditer(text) for span in _words(text, *chunk.span())]


def _words(text: str, start: int, end: int) -> Iterator[Span]:
    last = start
    for unspaced in _UNSPACED.finditer(text, start, end):
        yield from _peeled(text, last, unspaced.start())
        yield unspaced.span()
        last = unspaced.end()
    yield from _peeled(text, last, end)


def _peeled(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield punctuation at both ends sign by sign, and what is between as one word."""
    first, last = start, end
    while (
        first < last and _is_punctuation(text[first]) and not _SUFFIX_ALONE.match(text, first, end)
    ):
        first += 1
    while (
        last > first and _is_punctuation(text[last - 1]) and not _is_abbreviation(text, first, last)
    ):
        last -= 1
    yield from ((place, place + 1) for place in range(start, first))
    if first < last:
        yield from _parted(text, first, last)
    yield from ((place, place + 1) for place in range(last, end))


def _parted(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield a word without punctuation around it, and the suffix that it ends with by itself."""
    suffix = _SUFFIX_AT_END.search(text, start, end)
    if suffix and suffix.start() > start:
        yield from _peeled(text, start, suffix.start())
        yield suffix.span()
    else:
        yield start, end


def _is_punctuation(sign: str) -> bool:
    return unicodedata.category(sign)[0] in "PS"


def _is_abbreviation(text: str, start: int, end: int) -> bool:
    """Tell whether a full stop at the end belongs to the word: "U.N.", "J."."""
    if text[end - 1] != ".":
        return False
    return all(len(part) == 1 and part.isalpha() for part in text[start : end - 1].split("."))
