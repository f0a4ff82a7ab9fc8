"""Windows: every token is read, neighbours overlap, each is a text that a model could be given."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from potstill.data.rows import Rows
from potstill.errors import RecipeError
from potstill.tasks.task import Lengths, text_windows
from potstill.text.encoded import Encoded
from potstill.text.ragged import RaggedBatch
from potstill.text.tokenizer import Tokenizer
from potstill.text.windows import Windows, cut_into_windows, whole_rows

BODY = 1_000  # ids of the long text begin here, those of a pair's first text at 500
SPECIAL, FIRST = 2, 500
SIZES = st.tuples(st.integers(0, 12), st.integers(0, 70))  # tokens of the first and the long text
LAWS = settings(deadline=None, max_examples=80)
TOKENIZED = settings(
    deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
WORDS = st.sampled_from(
    ["hello", "world", "looking", "xyz", "!", "7", "東京", "é", "worlding", "abcdefgh"]
)


def encoded(rows: list[tuple[int, int]], *, pairs: bool) -> Encoded:
    """Return rows as BERT lays them out; each token's id tells which one it is."""
    ids, segments, lengths = [], [], []
    for first, long in rows:
        parts = (
            [FIRST + np.arange(first), BODY + np.arange(long)]
            if pairs
            else [range(BODY, BODY + long)]
        )
        row, marks = [SPECIAL], [-1]
        for number, part in enumerate(parts):
            row += [*part, SPECIAL]
            marks += [number] * len(part) + [-1]
        ids.append(row)
        segments += marks
        lengths.append(len(row))
    return Encoded(
        RaggedBatch.from_lists(ids),
        dropped_tokens=np.zeros(len(rows), dtype=np.int32),
        sequence_index=np.array(segments, dtype=np.int32),
    )


def windows_of(found: Windows, row: int) -> list[list[int]]:
    numbers = np.flatnonzero(found.rows == row)
    return [found.texts.text(number).tolist() for number in numbers]


def long_part(window: list[int]) -> list[int]:
    return [token for token in window if token >= BODY]


def first_part(window: list[int]) -> list[int]:
    return [token for token in window if FIRST <= token < BODY]


@LAWS
@given(
    rows=st.lists(SIZES, min_size=1, max_size=5),
    pairs=st.booleans(),
    room=st.integers(1, 30),
    overlap=st.integers(0, 29),
    max_first=st.none() | st.integers(0, 12),
)
def test_every_token_stands_in_a_window_and_neighbours_overlap(
    rows: list[tuple[int, int]], *, pairs: bool, room: int, overlap: int, max_first: int | None
) -> None:
    overlap = min(overlap, room - 1)
    longest_first = 12 if max_first is None else max_first
    max_length = room + (3 + longest_first if pairs else 2)
    found = cut_into_windows(
        encoded(rows, pairs=pairs),
        max_length=max_length,
        overlap=overlap,
        are_pairs=pairs,
        max_first=max_first,
    )
    assert found.row_count == len(rows)
    assert (np.diff(found.rows) >= 0).all()
    assert set(found.rows.tolist()) == set(range(len(rows)))
    for row, (first, long) in enumerate(rows):
        kept = min(first, longest_first) if pairs else 0
        windows = windows_of(found, row)
        own_room = max_length - (3 + kept if pairs else 2)
        for window in windows:
            body = long_part(window)
            head = [SPECIAL, *range(FIRST, FIRST + kept), SPECIAL] if pairs else [SPECIAL]
            assert window == [*head, *body, SPECIAL]
            assert body == list(range(body[0], body[0] + len(body))) if body else long == 0
            assert len(body) == min(long, own_room)
        bodies = [long_part(window) for window in windows]
        assert sorted({token for body in bodies for token in body}) == list(
            range(BODY, BODY + long)
        )
        shared = [len(set(one) & set(other)) for one, other in pairwise(bodies)]
        assert all(each == overlap for each in shared[:-1])
        assert all(each >= overlap for each in shared[-1:])  # the last one ends with the text
        lost = first - kept if pairs else 0
        assert bool(found.truncated[row]) is (lost > 0)


@LAWS
@given(st.lists(SIZES, min_size=1, max_size=4))
def test_what_was_dropped_is_counted_over_all_rows(rows: list[tuple[int, int]]) -> None:
    found = cut_into_windows(
        encoded(rows, pairs=True), max_length=20, overlap=4, are_pairs=True, max_first=5
    )
    assert found.dropped_tokens == sum(max(first - 5, 0) for first, _ in rows)
    assert found.truncated.tolist() == [first > 5 for first, _ in rows]


@pytest.mark.parametrize("pairs", [False, True])
def test_a_text_that_fits_is_one_window_as_it_stands(*, pairs: bool) -> None:
    rows = [(3, 0), (3, 1), (0, 9), (0, 0)]
    whole = encoded(rows, pairs=pairs)
    found = cut_into_windows(whole, max_length=15, overlap=5, are_pairs=pairs)
    assert found.rows.tolist() == [0, 1, 2, 3]
    assert found.texts.ids.tolist() == whole.batch.ids.tolist()
    assert found.texts.offsets.tolist() == whole.batch.offsets.tolist()
    assert not found.truncated.any()


def test_no_row_gives_no_window() -> None:
    found = cut_into_windows(encoded([], pairs=False), max_length=8, overlap=2)
    assert (len(found.texts), found.row_count, found.dropped_tokens) == (0, 0, 0)


def test_the_overlap_must_leave_room_to_go_on() -> None:
    told = "a window of 6 tokens has room for 4 of the long text, and two windows share 4"
    with pytest.raises(RecipeError, match=told):
        cut_into_windows(encoded([(0, 9)], pairs=False), max_length=6, overlap=4)
    cure = cut_into_windows(encoded([(0, 9)], pairs=False), max_length=7, overlap=4)
    assert len(cure.texts) == 5
    with pytest.raises(RecipeError, match="has room for 0 of"):
        cut_into_windows(encoded([(9, 1)], pairs=True), max_length=6, overlap=0, are_pairs=True)


# An overlap of 0 stands for a quarter of the window.
@pytest.mark.parametrize(
    ("max_length", "overlap"), [(5, 0), (8, 0), (10, 0), (8, 1), (8, 3), (10, 3), (12, 3)]
)
def test_the_cure_of_narrow_windows_does_mend_them(
    bert: Tokenizer, max_length: int, overlap: int
) -> None:
    rows = Rows({"text": ["a " * 40], "text_pair": ["b " * 40]}, "list")
    lengths = Lengths(max_length=max_length, long_texts="windows", overlap=overlap)
    with pytest.raises(RecipeError) as fault:
        text_windows(bert, rows, lengths)
    cure = re.search(r"--max-length (\d+)", str(fault.value))
    mended = text_windows(bert, rows, replace(lengths, max_length=int(cure[1])))
    assert len(mended.texts) > 1


def test_context_is_the_distance_to_the_nearer_end() -> None:
    found = whole_rows(encoded([(0, 3), (0, 0)], pairs=False))
    assert found.context.tolist() == [0, 1, 2, 1, 0, 0, 0]
    assert found.token_rows.tolist() == [0, 0, 0, 0, 0, 1, 1]


@TOKENIZED
@given(rows=st.lists(st.lists(WORDS, max_size=25), min_size=1, max_size=3))
def test_every_column_follows_its_token(bert: Tokenizer, rows: list[list[str]]) -> None:
    whole = bert.encode_words(rows, with_offsets=True)
    found = cut_into_windows(whole, max_length=9, overlap=3)
    assert found.words is not None
    assert found.begins_word is not None
    assert found.spans is not None
    facts: list[dict[Any, tuple[int, ...]]] = [{} for _ in rows]
    place_of = whole_rows(whole)
    assert place_of.begins_word is not None
    for place, row in enumerate(whole.batch.text_index()):
        if whole.word_index[place] >= 0:
            key = (int(whole.word_index[place]), *whole.offsets[place].tolist())
            facts[row][key] = (int(whole.batch.ids[place]), int(place_of.begins_word[place]))
    for place, row in enumerate(found.token_rows):
        if found.words[place] < 0:
            assert found.segments[place] == -1
            assert not found.begins_word[place]
            continue
        key = (int(found.words[place]), *found.spans[place].tolist())
        told = (int(found.texts.ids[place]), int(found.begins_word[place]))
        assert facts[row][key] == told


@TOKENIZED
@given(rows=st.lists(st.lists(WORDS, max_size=25), min_size=1, max_size=4))
def test_each_word_that_has_tokens_begins_once(bert: Tokenizer, rows: list[list[str]]) -> None:
    found = whole_rows(bert.encode_words(rows))
    assert found.begins_word is not None
    assert found.words is not None
    begun = [
        found.words[(found.token_rows == row) & found.begins_word].tolist()
        for row in range(len(rows))
    ]
    assert begun == [list(range(len(words))) for words in rows]


@pytest.fixture(scope="module")
def reference(bert: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the same tokenizer as transformers opens it."""
    transformers = pytest.importorskip("transformers", reason="pip install 'transformers>=5'")
    folder: Path = tmp_path_factory.mktemp("reference")
    bert.save(folder)
    return transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))


TEXTS = st.lists(WORDS, max_size=30).map(" ".join)


@TOKENIZED
@given(text=TEXTS, max_length=st.integers(6, 20), overlap=st.integers(0, 3))
def test_windows_of_a_text_are_those_of_transformers(
    bert: Tokenizer, reference: Any, text: str, max_length: int, overlap: int
) -> None:
    ours = cut_into_windows(
        bert.encode([text], with_offsets=True), max_length=max_length, overlap=overlap
    )
    theirs = reference(
        text,
        truncation=True,
        max_length=max_length,
        stride=overlap,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    _require_alike(ours, theirs, max_length)


@TOKENIZED
@given(
    question=st.lists(WORDS, min_size=1, max_size=3).map(" ".join),
    context=st.lists(WORDS, min_size=1, max_size=30).map(" ".join),
    overlap=st.integers(0, 3),
)
def test_windows_of_a_pair_are_those_of_transformers(
    bert: Tokenizer, reference: Any, question: str, context: str, overlap: int
) -> None:
    max_length = 34  # the question takes 24 at most, and every window has room for more than 3
    ours = cut_into_windows(
        bert.encode([question], [context], with_offsets=True),
        max_length=max_length,
        overlap=overlap,
        are_pairs=True,
    )
    theirs = reference(
        question,
        context,
        truncation="only_second",
        max_length=max_length,
        stride=overlap,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_token_type_ids=True,
    )
    _require_alike(ours, theirs, max_length)
    assert ours.texts.token_types is not None
    assert (
        ours.texts.token_types[: len(theirs["input_ids"][0])].tolist()
        == (theirs["token_type_ids"][0])
    )


def _require_alike(ours: Windows, theirs: Any, max_length: int) -> None:
    """Hold all windows against theirs; their last one is short, ours ends with the text too."""
    assert len(ours.texts) == len(theirs["input_ids"])
    for number, expected in enumerate(theirs["input_ids"]):
        part = slice(ours.texts.offsets[number], ours.texts.offsets[number + 1])
        found, spans = ours.texts.ids[part].tolist(), ours.spans[part].tolist()
        their_spans = [list(span) for span in theirs["offset_mapping"][number]]
        is_short_last = number and len(expected) < max_length
        if not is_short_last:
            assert found == expected
            assert spans == their_spans
        else:
            sides = theirs.sequence_ids(number)
            long_one = max(side for side in sides if side is not None)
            body = [span for span, side in zip(their_spans, sides, strict=True) if side == long_one]
            assert len(found) == max_length
            assert spans[-1 - len(body) : -1] == body
