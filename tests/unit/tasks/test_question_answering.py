"""Question answering: targets and answers at exact places, over windows, with "no answer"."""

from __future__ import annotations

import string
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from potstill.data.rows import Rows
from potstill.errors import DataError, RecipeError
from potstill.metrics.metric import point
from potstill.tasks.question_answering import NULL, FoundAnswer, QuestionAnswering
from potstill.tasks.task import Lengths
from potstill.text.tokenizer import Tokenizer
from potstill.text.tokenizer_files import load_tokenizer
from potstill.text.windows import Windows

LAWS = settings(deadline=None, max_examples=60)
TASK = QuestionAnswering()
OVERLAP = 5
WINDOWED = Lengths(max_length=18, long_texts="windows", overlap=OVERLAP)
CUT = Lengths(max_length=18, long_texts="cut")
WHOLE = Lengths(max_length=10_000, long_texts="cut")
PIECES = st.sampled_from(
    [
        "the",
        "Rhine",
        "ab",
        "東京",
        "e\u0301te\u0301",
        "é",
        "😀",
        "👩‍👩‍👧",
        "(U.N.),",
        "\u200b",
        "\x01",
        "İ",
        "x" * 130,
    ]
)
CONTEXTS = st.lists(
    st.tuples(PIECES, st.sampled_from([" ", "  ", "\t", "", "\n\n"])), max_size=25
).map(lambda parts: "".join(piece + blank for piece, blank in parts))
QUESTIONS = st.sampled_from(["", "  ", "who", "what is 東京?", "ab " * 9])


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Return a tokenizer that cuts the words it can write into their letters."""
    folder: Path = tmp_path_factory.mktemp("letters")
    letters = [*string.ascii_lowercase, *".,?()", "東"]
    tokens = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *letters,
        *[f"##{each}" for each in letters],
    ]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    return load_tokenizer(folder, family="bert")


def rows_of(question: str, context: str, answer: tuple[int, int] | None = None) -> Rows:
    texts = [] if answer is None else [context[slice(*answer)]]
    return Rows(
        {
            "id": ["1"],
            "question": [question],
            "context": [context],
            "answers": [texts],
            "answer_starts": [[] if answer is None else [answer[0]]],
        },
        "list",
    )


def tokens_of_context(tokenizer: Tokenizer, context: str) -> np.ndarray:
    """Return the places of the context's tokens that hold anything, (tokens, 2)."""
    return tokenizer.encode([context], with_offsets=True).offsets[1:-1]


def window_parts(windows: Windows) -> list[slice]:
    return [slice(int(start), int(end)) for start, end in pairwise(windows.texts.offsets)]


def answers(longest: int) -> st.SearchStrategy[tuple[int, int]]:
    """Draw the place of an answer's first token, to be taken modulo all, and how many it has."""
    return st.tuples(st.integers(0, 99), st.integers(1, longest))


def characters(tokens: np.ndarray, answer: tuple[int, int]) -> tuple[int, int]:
    """Return the characters from an answer's first token to its last one."""
    first = answer[0] % len(tokens)
    last = min(first + answer[1], len(tokens)) - 1
    return int(tokens[first, 0]), int(tokens[last, 1])


@LAWS
@given(QUESTIONS, CONTEXTS.map("ab".__add__), answers(longest=6))
def test_targets_are_the_tokens_that_hold_the_answer(
    tokenizer: Tokenizer, question: str, context: str, answer: tuple[int, int]
) -> None:
    tokens = tokens_of_context(tokenizer, context)
    start, end = characters(tokens, answer)
    held = {tuple(span) for span in tokens.tolist() if span[0] < end and span[1] > start}
    rows = rows_of(question, context, (start, end))
    windows = TASK.windows(tokenizer, rows, WINDOWED)
    targets = TASK.targets(rows, windows)
    for (one, other), part in zip(targets.tolist(), window_parts(windows), strict=True):
        spans, segments = windows.spans[part], windows.segments[part]
        there = {
            tuple(span) for span, side in zip(spans.tolist(), segments, strict=True) if side == 1
        }
        assert (held <= there) is ((one, other) != (0, 0))
        if (one, other) != (0, 0):
            assert segments[one] == segments[other] == 1
            assert context[spans[one, 0] : spans[other, 1]] == rows.column("answers")[0][0]
    if len(held) <= OVERLAP:
        assert targets.any()  # what is no longer than the overlap stands whole in some window


@LAWS
@given(QUESTIONS, CONTEXTS.map("ab".__add__), answers(longest=OVERLAP), st.integers(0, 999))
def test_a_model_that_knows_the_answer_gives_exactly_it(
    tokenizer: Tokenizer, question: str, context: str, answer: tuple[int, int], seed: int
) -> None:
    start, end = characters(tokens_of_context(tokenizer, context), answer)
    rows = rows_of(question, context, (start, end))
    for lengths in (WINDOWED, WHOLE):
        windows = TASK.windows(tokenizer, rows, lengths)
        outputs = np.random.default_rng(seed).normal(size=(windows.texts.total_tokens, 2))
        for target, part in zip(TASK.targets(rows, windows), window_parts(windows), strict=True):
            outputs[part][target, [0, 1]] += 60.0
        found = TASK.answers(outputs, windows, rows)
        (item,) = TASK.items(found, rows, windows.truncated)
        assert item["answer"] == context[start:end]
        assert (item["start"], item["end"]) == (start, end)
        assert item["score"] > 0.99
        assert found[0].null_margin < -50
        assert TASK.right(found, TASK.gold(rows)).tolist() == [True]


@pytest.mark.parametrize(
    ("context", "answer"),
    [
        ("the rhine flows", " rhine "),
        ("a\u200bb", "\u200bb"),
        ("ab \x01 cd", "\x01 cd"),
        ("\n rhine", " rhine"),
    ],
)
def test_an_answer_may_begin_with_what_no_token_holds(
    tokenizer: Tokenizer, context: str, answer: str
) -> None:
    start = context.index(answer)
    rows = rows_of("who", context, (start, start + len(answer)))
    windows = TASK.windows(tokenizer, rows, WHOLE)
    ((one, other),) = TASK.targets(rows, windows)
    assert one > 0
    spans = windows.spans
    assert context[spans[one, 0] : spans[other, 1]] == answer.strip(" \u200b\x01")


def test_of_several_true_answers_the_first_is_learned(tokenizer: Tokenizer) -> None:
    rows = rows_of("who", "ab cd", (3, 5)).with_columns(
        {"answers": [["cd", "ab"]], "answer_starts": [[3, 0]]}
    )
    windows = TASK.windows(tokenizer, rows, WHOLE)
    ((one, other),) = TASK.targets(rows, windows)
    assert windows.spans[[one, other]].tolist() == [[3, 4], [4, 5]]
    unknown = TASK.unknown_targets(windows)
    assert unknown.tolist() == [[-1, -1]]


def test_no_answer_has_the_first_token_for_a_target(tokenizer: Tokenizer) -> None:
    rows = rows_of("who", "ab " * 20)
    windows = TASK.windows(tokenizer, rows, WINDOWED)
    assert len(windows.texts) > 1
    assert not TASK.targets(rows, windows).any()
    outputs = np.zeros((windows.texts.total_tokens, 2))
    outputs[windows.texts.offsets[:-1]] = 9.0
    found = TASK.answers(outputs, windows, rows)
    (item,) = TASK.items(found, rows, windows.truncated)
    assert (item["answer"], item["start"], item["end"]) == ("", 0, 0)
    assert item["score"] > 0.5
    assert TASK.as_gold(found) == [[]]
    assert TASK.shown(found) == ["(no answer)"]


@LAWS
@given(QUESTIONS, CONTEXTS, st.sampled_from([WINDOWED, CUT]))
def test_only_the_context_and_the_first_token_count(
    tokenizer: Tokenizer, question: str, context: str, lengths: Lengths
) -> None:
    rows = rows_of(question, context)
    windows = TASK.windows(tokenizer, rows, lengths)
    readable = TASK.readable(windows)
    for part in window_parts(windows):
        segments = windows.segments[part]
        assert part.stop - part.start <= lengths.max_length
        assert readable[part].tolist() == [True, *(segments[1:] == 1).tolist()]


@LAWS
@given(question=QUESTIONS, context=CONTEXTS, seed=st.integers(0, 999), may_be_empty=st.booleans())
def test_the_best_span_of_all_windows_is_found(
    tokenizer: Tokenizer, question: str, context: str, seed: int, *, may_be_empty: bool
) -> None:
    task = QuestionAnswering(may_be_empty=may_be_empty)
    rows = rows_of(question, context)
    windows = task.windows(tokenizer, rows, WINDOWED)
    outputs = 3 * np.random.default_rng(seed).normal(size=(windows.texts.total_tokens, 2))
    best, nulls = -np.inf, []
    for part in window_parts(windows):
        logits, spans = outputs[part], windows.spans[part]
        nulls.append(logits[0].sum())
        places = np.flatnonzero(windows.segments[part] == 1)
        for one in places:
            for other in places[places >= one]:
                if context[spans[one, 0] : spans[other, 1]].strip():
                    best = max(best, logits[one, 0] + logits[other, 1])
    (found,) = task.answers(outputs, windows, rows)
    (item,) = task.items([found], rows, windows.truncated)
    assert context[item["start"] : item["end"]] == item["answer"]
    if best == -np.inf:
        assert (found.text, found.null_margin) == ("", np.inf)
        return
    assert found.null_margin == pytest.approx(min(nulls) - best)
    assert context[found.start : found.end] == found.text
    assert 0.0 < found.score <= 1.0
    assert found.score + found.null_score <= 1.0 + 1e-9
    gives_none = may_be_empty and found.null_margin > 0
    assert item["answer"] == ("" if gives_none else found.text)
    assert item["score"] == (found.null_score if gives_none else found.score)


@LAWS
@given(st.integers(0, 999))
def test_no_answer_is_longer_than_thirty_tokens(tokenizer: Tokenizer, seed: int) -> None:
    context = " ".join(np.random.default_rng(seed).choice(list("abcde"), 80))
    rows = rows_of("who", context)
    windows = TASK.windows(tokenizer, rows, WHOLE)
    outputs = np.zeros((windows.texts.total_tokens, 2))
    at_start = 4 + 3 + np.random.default_rng(seed).integers(0, 20)
    outputs[at_start, 0] = outputs[at_start + 30, 1] = 20.0  # a span of 31 tokens
    outputs[at_start + 29, 1] = 10.0
    (found,) = QuestionAnswering(may_be_empty=False).answers(outputs, windows, rows)
    assert len(found.text.split()) == 30
    outputs[:] = np.random.default_rng(seed).normal(size=outputs.shape)
    (found,) = QuestionAnswering(may_be_empty=False).answers(outputs, windows, rows)
    assert 1 <= len(found.text.split()) <= 30


@pytest.mark.parametrize("lengths", [WINDOWED, CUT])
@pytest.mark.parametrize("may_be_empty", [True, False])
def test_nothing_to_read_gives_no_answer(
    tokenizer: Tokenizer, lengths: Lengths, *, may_be_empty: bool
) -> None:
    task = QuestionAnswering(may_be_empty=may_be_empty)
    for question, context in (("", ""), ("who", ""), ("who", " \n\t"), ("", "\x01\u200b")):
        rows = rows_of(question, context)
        windows = task.windows(tokenizer, rows, lengths)
        outputs = np.ones((windows.texts.total_tokens, 2), dtype=np.float32)
        found = task.answers(outputs, windows, rows)
        (item,) = task.items(found, rows, windows.truncated)
        assert (item["answer"], item["start"], item["end"]) == ("", 0, 0)
        assert np.isfinite(item["score"])


def test_a_long_question_is_cut_and_told(tokenizer: Tokenizer) -> None:
    rows = rows_of("ab " * 9, "cd " * 9)
    windows = TASK.windows(tokenizer, rows, WINDOWED)
    assert windows.truncated.tolist() == [True]
    assert windows.dropped_tokens == 18 - 6  # a third of a window is the question's
    assert not TASK.windows(tokenizer, rows_of("ab", "cd " * 9), WINDOWED).truncated.any()


MARGINS = st.integers(-4, 4).map(lambda number: number / 2) | st.just(np.inf)
JUDGED = st.lists(
    st.tuples(MARGINS, st.sampled_from(["a", "a b", "c"]), st.sampled_from(["", "b", "c"])),
    min_size=1,
    max_size=10,
)


def judged(questions: list[tuple[float, str, str]]) -> tuple[list[FoundAnswer], list[list[str]]]:
    answers = [
        FoundAnswer("" if margin == np.inf else text, 0, 1, 0.5, margin, 0.5)
        for margin, text, _ in questions
    ]
    return answers, [[true] if true else [] for _, _, true in questions]


def f1_at(threshold: float, answers: list[FoundAnswer], gold: list[list[str]]) -> float:
    task = QuestionAnswering(chosen_thresholds={NULL: threshold})
    metric = task.metric("f1")
    return point(metric, task.statistics(metric, answers, gold))


@settings(deadline=None, max_examples=200)
@given(JUDGED)
@example([(0.5, "b", "b"), (0.5, "c", ""), (0.5, "c", "")])  # three of one margin stand together
@example([(np.inf, "b", "b")])
def test_no_threshold_is_better_than_the_one_that_is_fitted(
    questions: list[tuple[float, str, str]],
) -> None:
    answers, gold = judged(questions)
    threshold = TASK.fitted(answers, gold).thresholds[NULL]
    assert np.isfinite(threshold)
    every = [-9.0, 9.0, *np.arange(-4.25, 4.5, 0.25)]
    best = max(f1_at(each, answers, gold) for each in every)
    assert f1_at(threshold, answers, gold) == pytest.approx(best)


def test_a_threshold_is_of_no_use_where_every_question_has_an_answer() -> None:
    answers, gold = judged([(3.0, "c", "c"), (-1.0, "c", "c")])
    task = QuestionAnswering(may_be_empty=False)
    assert task.fitted(answers, gold) is task
    assert task.as_gold(answers) == [["c"], ["c"]]


def test_a_margin_above_the_threshold_is_no_answer() -> None:
    answers, _ = judged([(-1.0, "c", ""), (0.0, "c", ""), (0.5, "c", ""), (2.0, "c", "")])
    assert TASK.as_gold(answers) == [["c"], ["c"], [], []]
    moved = QuestionAnswering(chosen_thresholds={NULL: 0.5})
    assert moved.as_gold(answers) == [["c"], ["c"], ["c"], []]


def test_rows_tell_whether_some_questions_have_no_answer() -> None:
    some, none = rows_of("who", "ab", (0, 2)), rows_of("who", "ab")
    assert not QuestionAnswering.from_rows(some).may_be_empty
    both = some.with_columns({name: some.column(name) + none.column(name) for name in some.columns})
    assert QuestionAnswering.from_rows(both).may_be_empty
    with pytest.raises(DataError, match="list: no question has an answer"):
        QuestionAnswering.from_rows(none)


def test_an_answer_is_the_same_whatever_its_case_and_articles() -> None:
    one, other = (FoundAnswer(text, 0, 1, 0.5, -1.0, 0.1) for text in ("The Rhine.", "rhine"))
    assert TASK.same([one], [other]).tolist() == [True]
    assert TASK.right([one], [["rhine", "Main"]]).tolist() == [True]
    assert TASK.right([one], [[]]).tolist() == [False]


def test_who_learned_nothing_gives_no_answer() -> None:
    gold = [["b"], []]
    answers, name = TASK.trivial(gold)
    assert name == "no answer"
    assert TASK.as_gold(answers) == [[], []]
    for name, expected in (("f1", 0.5), ("has_answer_f1", 0.0), ("no_answer_exact", 1.0)):
        metric = TASK.metric(name)
        assert point(metric, TASK.statistics(metric, answers, gold)) == expected


def test_an_unknown_metric_is_told_with_those_there_are() -> None:
    with pytest.raises(RecipeError, match="primary is 'accuracy'; allowed: f1, exact, has_answer"):
        TASK.metric("accuracy")
