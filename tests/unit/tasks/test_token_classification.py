"""Token classification: tags of words, read at their first sub-words; entities at exact places."""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.data.rows import Rows
from potstill.errors import DataError, RecipeError
from potstill.metrics.metric import point
from potstill.tasks.task import Lengths
from potstill.tasks.token_classification import (
    TagAnswer,
    TokenClassification,
    found_entities,
    with_words,
)
from potstill.text.tokenizer import Tokenizer
from potstill.text.tokenizer_files import load_tokenizer
from potstill.text.windows import Windows

LAWS = settings(deadline=None, max_examples=60)
TAGS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
TASK = TokenClassification(TAGS)
CUT, WINDOWED = (
    Lengths(max_length=12, long_texts="cut"),
    Lengths(max_length=12, long_texts="windows", overlap=4),
)
WHOLE = Lengths(max_length=10_000, long_texts="cut")
CONTROL = "\x01"  # gives no token
WORDS = st.sampled_from(
    ["ab", "berlin", "x", "東京", "e\u0301te", "😀", CONTROL, "a" * 150, "U.N."]
)
TAGGED = st.lists(st.tuples(WORDS, st.sampled_from(TAGS)), max_size=20)
TEXTS = st.lists(
    st.sampled_from(["Ann", "(Bonn),", "U.N.", "\t", "  ", "東京", "👩‍👩‍👧", "e\u0301", "\u200b"])
    | st.text(max_size=4),
    max_size=12,
).map(" ".join)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Return a tokenizer that cuts every word into its letters."""
    folder: Path = tmp_path_factory.mktemp("letters")
    letters = [*string.ascii_lowercase, ".", "東"]
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


def rows_of(*rows: list[tuple[str, str]]) -> Rows:
    return with_words(
        Rows(
            {
                "tokens": [[word for word, _ in row] for row in rows],
                "tags": [[tag for _, tag in row] for row in rows],
            },
            "list",
        )
    )


def logits_of(windows: Windows, tags: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return logits that say these tags at the tokens that count, and noise at all others."""
    logits = np.random.default_rng(seed).normal(size=(len(tags), len(TAGS)))
    known = np.flatnonzero(tags >= 0)
    logits[known, tags[known]] += 30.0
    return logits


def word_of_tokens(tokenizer: Tokenizer, words: list[str]) -> list[int]:
    """Return the words that have a token at all, by the tokenizer's own telling."""
    found = tokenizer.encode_words([words]).word_index
    return sorted({int(word) for word in found if word >= 0})


@LAWS
@given(st.lists(TAGGED, min_size=1, max_size=3), st.sampled_from([WHOLE, WINDOWED, CUT]))
def test_the_truth_comes_back_at_every_word_that_the_model_saw(
    tokenizer: Tokenizer, rows: list[list[tuple[str, str]]], lengths: Lengths
) -> None:
    data = rows_of(*rows)
    windows = TASK.windows(tokenizer, data, lengths)
    targets = TASK.targets(data, windows)
    answers = TASK.answers(logits_of(windows, targets), windows, data)
    for row, (answer, tagged) in enumerate(zip(answers, rows, strict=True)):
        seen = {int(word) for word in windows.words[windows.token_rows == row] if word >= 0}
        assert answer.tags == tuple(
            tag if place in seen else "O" for place, (_, tag) in enumerate(tagged)
        )
        assert [score > 0 for score in answer.scores] == [
            place in seen for place in range(len(tagged))
        ]
        words = [word for word, _ in tagged]
        if lengths is not CUT:
            assert sorted(seen) == word_of_tokens(tokenizer, words)
            assert not any(word == CONTROL for word in (words[place] for place in seen))


@LAWS
@given(st.lists(TAGGED, min_size=1, max_size=3), st.sampled_from([WHOLE, WINDOWED, CUT]))
def test_targets_stand_at_first_sub_words_alone(
    tokenizer: Tokenizer, rows: list[list[tuple[str, str]]], lengths: Lengths
) -> None:
    data = rows_of(*rows)
    windows = TASK.windows(tokenizer, data, lengths)
    targets, readable = TASK.targets(data, windows), TASK.readable(windows)
    assert len(targets) == len(readable) == windows.texts.total_tokens
    assert (readable == (targets >= 0)).all()
    for place in np.flatnonzero(readable):
        word = rows[windows.token_rows[place]][windows.words[place]]
        assert TAGS[targets[place]] == word[1]
        assert windows.spans[place][0] == 0  # it begins where its word begins
    unknown = TASK.unknown_targets(windows)
    assert unknown.shape == targets.shape
    assert (unknown == -1).all()


def test_a_word_of_several_sub_words_is_read_at_its_first_one(tokenizer: Tokenizer) -> None:
    data = rows_of([("ab", "B-LOC"), ("c", "O")])
    windows = TASK.windows(tokenizer, data, WHOLE)
    assert TASK.targets(data, windows).tolist() == [-1, 1, -1, 0, -1]
    outputs = np.zeros((5, 5))
    outputs[[0, 1, 2, 3, 4], [3, 1, 3, 0, 3]] = 9.0  # all others say B-PER
    (answer,) = TASK.answers(outputs, windows, data)
    assert answer.tags == ("B-LOC", "O")


def test_words_without_tokens_and_words_cut_off_are_outside(tokenizer: Tokenizer) -> None:
    words = ["ab", CONTROL, "cd", *["ef"] * 9]
    data = rows_of([(word, "B-LOC") for word in words])
    windows = TASK.windows(tokenizer, data, CUT)
    assert windows.truncated.tolist() == [True]
    outputs = np.tile([0.0, 9.0, 0.0, 0.0, 0.0], (windows.texts.total_tokens, 1))
    (answer,) = TASK.answers(outputs, windows, data)
    assert answer.tags == ("B-LOC", "O", *["B-LOC"] * 4, *["O"] * 6)
    assert answer.scores[1] == 0.0
    assert not TASK.windows(tokenizer, data, WINDOWED).truncated.any()


@LAWS
@given(st.integers(0, 999), st.integers(9, 60))
def test_a_word_in_several_windows_is_read_where_most_text_is_around_it(
    tokenizer: Tokenizer, seed: int, count: int
) -> None:
    data = rows_of([("a", "O")] * count)
    windows = TASK.windows(tokenizer, data, WINDOWED)
    outputs = np.random.default_rng(seed).normal(size=(windows.texts.total_tokens, len(TAGS)))
    (answer,) = TASK.answers(outputs, windows, data)
    for word in range(count):
        places = np.flatnonzero(windows.words == word)
        best = places[np.argmax(windows.context[places])]  # of equal ones the first
        assert answer.tags[word] == TAGS[outputs[best].argmax()]


@LAWS
@given(st.integers(0, 999), st.integers(1, 60))
def test_windows_agree_with_the_whole_text_where_the_model_sees_enough_of_it(
    tokenizer: Tokenizer, seed: int, count: int
) -> None:
    """A model that looks two tokens to either side answers the same at every word."""
    letters = np.random.default_rng(seed).choice(list("abcde"), count)
    data = rows_of([(letter, "O") for letter in letters])
    answers = []
    for lengths in (WHOLE, WINDOWED):
        windows = TASK.windows(tokenizer, data, lengths)
        outputs = np.concatenate(
            [sees_two_sides(windows.texts.text(each)) for each in range(len(windows.texts))]
        )
        answers.append(TASK.answers(outputs, windows, data)[0])
    assert answers[0].tags == answers[1].tags
    np.testing.assert_array_equal(answers[0].scores, answers[1].scores)
    assert count < 11 or len(windows.texts) > 1


def sees_two_sides(ids: np.ndarray) -> np.ndarray:
    around = np.pad(ids, 2)
    drawn = np.stack([np.sin(around[shift : shift + len(ids)] * (shift + 1)) for shift in range(5)])
    return 4 * np.sin(np.outer(np.arange(1, 6), drawn.sum(axis=0)).T)


@LAWS
@given(TEXTS, st.integers(0, 999))
def test_an_entity_s_place_is_exactly_its_word(tokenizer: Tokenizer, text: str, seed: int) -> None:
    rows = with_words(Rows({"text": [text]}, "list"))
    windows = TASK.windows(tokenizer, rows, WINDOWED)
    outputs = 3 * np.random.default_rng(seed).normal(size=(windows.texts.total_tokens, 5))
    answers = TASK.answers(outputs, windows, rows)
    (item,) = TASK.items(answers, rows, windows.truncated)
    assert list(item) == ["entities", "truncated"]
    (spans,) = rows.column("word_spans")
    starts, ends = ({span[side] for span in spans} for side in (0, 1))
    last = 0
    for entity in item["entities"]:
        assert text[entity["start"] : entity["end"]] == entity["word"] != ""
        assert entity["start"] in starts
        assert entity["end"] in ends
        assert entity["start"] >= last
        assert entity["entity"] in TASK.types
        assert 0.0 < entity["score"] <= 1.0
        last = entity["end"]
    tags = answers[0].tags
    begun = sum(tag != "O" for tag in tags)
    assert bool(item["entities"]) is bool(begun)


def test_an_entity_is_told_with_all_its_words(tokenizer: Tokenizer) -> None:
    text = 'said Ann\u00a0Lee, of "New\tYork" 東京.'
    rows = with_words(Rows({"text": [text]}, "list"))
    (words,) = rows.column("tokens")
    assert words == ["said", "Ann", "Lee", ",", "of", '"', "New", "York", '"', "東", "京", "."]
    tags = ("O", "B-PER", "I-PER", "O", "O", "O", "B-LOC", "I-LOC", "O", "B-LOC", "I-LOC", "O")
    scores = np.linspace(0.1, 0.98, len(tags))
    (item,) = TASK.items([TagAnswer(tags, scores)], rows, np.array([True]))
    assert item["truncated"] is True
    assert [
        (each["entity"], each["word"], each["start"], each["end"]) for each in item["entities"]
    ] == [
        ("PER", "Ann\u00a0Lee", 5, 12),
        ("LOC", "New\tYork", 18, 26),
        ("LOC", "東京", 28, 30),
    ]
    assert item["entities"][0]["score"] == pytest.approx(scores[1:3].mean())


@LAWS
@given(st.lists(st.lists(st.sampled_from(["ab", "", "東京", "a b", " "]), max_size=5), max_size=4))
def test_words_that_are_given_stand_in_the_text_made_of_them(rows: list[list[str]]) -> None:
    found = with_words(Rows({"tokens": rows}, "list"))
    parts = zip(found.column("text"), found.column("word_spans"), rows, strict=True)
    for text, spans, words in parts:
        assert text == " ".join(words)
        assert [text[start:end] for start, end in spans] == words


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O B-PER I-PER O", [("PER", 1, 3)]),
        ("I-PER I-PER", [("PER", 0, 2)]),
        ("B-PER I-LOC I-LOC", [("PER", 0, 1), ("LOC", 1, 3)]),
        ("B-PER B-PER", [("PER", 0, 1), ("PER", 1, 2)]),
        ("O I-LOC B-LOC I-LOC", [("LOC", 1, 2), ("LOC", 2, 4)]),
        ("O O", []),
        ("", []),
    ],
)
def test_a_reader_loses_nothing_that_the_model_found(
    tags: str, expected: list[tuple[str, int, int]]
) -> None:
    assert found_entities(tags.split()) == expected


SENTENCES = st.lists(
    st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), min_size=1, max_size=8),
    min_size=1,
    max_size=6,
)


@settings(deadline=None, max_examples=30)
@given(SENTENCES)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_metrics_are_seqeval_s_strict_ones(sentences: list[list[tuple[str, str]]]) -> None:
    seqeval = pytest.importorskip("seqeval.metrics", reason="pip install seqeval")
    from seqeval.scheme import IOB2

    gold = [tuple(true for true, _ in each) for each in sentences]
    said = [tuple(found for _, found in each) for each in sentences]
    answers = [TagAnswer(tags, np.ones(len(tags))) for tags in said]
    both = [list(map(list, side)) for side in (gold, said)]
    for name, theirs in (
        ("entity_f1", seqeval.f1_score),
        ("entity_precision", seqeval.precision_score),
        ("entity_recall", seqeval.recall_score),
    ):
        metric = TASK.metric(name)
        expected = theirs(*both, mode="strict", scheme=IOB2, zero_division=0)
        found = point(metric, TASK.statistics(metric, answers, gold))
        assert found == pytest.approx(float(expected))


def test_types_are_found_in_the_rows() -> None:
    task = TokenClassification.from_rows(rows_of([("a", "B-PER"), ("b", "O")], [("c", "B-LOC")]))
    assert task.labels == TAGS
    assert task.types == ("LOC", "PER")
    assert task.head("mean").labels == TAGS


def test_rows_without_an_entity_are_refused() -> None:
    with pytest.raises(DataError, match="list, field 'tags': every tag is O: there is no entity"):
        TokenClassification.from_rows(rows_of([("a", "O")], []))


def test_a_tag_that_was_not_in_training_is_told_with_its_line() -> None:
    rows = Rows({"tags": [["O"], ["O", "B-ORG"]]}, "dev.jsonl", line_numbers=[1, 4])
    told = r"dev\.jsonl, line 4, field 'tags': tag 'B-ORG' is none of the model's; allowed: O, B-L"
    with pytest.raises(DataError, match=told):
        TASK.gold(rows)


@pytest.mark.parametrize("rows", [[], [[]], [[], []]])
def test_rows_without_words_are_no_fault(
    tokenizer: Tokenizer, rows: list[list[tuple[str, str]]]
) -> None:
    data = rows_of(*rows)
    windows = TASK.windows(tokenizer, data, WINDOWED)
    targets = TASK.targets(data, windows)
    assert (targets == -1).all()
    answers = TASK.answers(logits_of(windows, targets), windows, data)
    assert [answer.tags for answer in answers] == [()] * len(rows)
    assert TASK.sureness(answers).tolist() == [1.0] * len(rows)


def test_no_entity_is_the_answer_of_who_learned_nothing() -> None:
    gold = [("B-PER", "O"), ()]
    answers, name = TASK.trivial(gold)
    assert TASK.as_gold(answers) == [("O", "O"), ()]
    assert name == "no entity"
    assert TASK.right(answers, gold).tolist() == [False, True]
    assert TASK.same(answers, answers).all()


def test_answers_are_shown_by_the_places_of_their_words() -> None:
    answers = [TagAnswer(("O", "B-PER", "I-PER", "B-LOC"), np.ones(4)), TagAnswer((), np.ones(0))]
    assert TASK.shown(answers) == ["PER 2-3, LOC 4-4", "(none)"]


def test_one_type_has_an_f1_of_its_own() -> None:
    gold, said = [("B-PER", "B-LOC", "O")], [("B-PER", "O", "B-LOC")]
    answers = [TagAnswer(tags, np.ones(3)) for tags in said]
    for name, expected in (("f1:PER", 1.0), ("f1:LOC", 0.0), ("entity_f1", 0.5)):
        metric = TASK.metric(name)
        assert metric.name == name
        assert point(metric, TASK.statistics(metric, answers, gold)) == expected
    with pytest.raises(RecipeError, match=r"'f1:ORG'; allowed: entity_f1, .*f1:LOC, f1:PER"):
        TASK.metric("f1:ORG")
