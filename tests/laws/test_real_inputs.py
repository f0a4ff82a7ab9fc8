"""Real texts and hostile ones through every kind's predict: nothing breaks, places are exact.

The tokenizer is the real one; the networks are tiny and drawn, since any answer must be told right.
"""

from __future__ import annotations

import itertools
import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from potstill.architectures.heads import HeadSpec
from potstill.data.columns import Columns
from potstill.data.rows import Rows
from potstill.models import TaskModel
from potstill.runtime.answering import answer_rows
from potstill.runtime.torch_engine import TorchEngine
from potstill.tasks.classification import Classification
from potstill.tasks.embedding import Embedding
from potstill.tasks.multi_label import MultiLabel
from potstill.tasks.question_answering import QuestionAnswering
from potstill.tasks.ranking import Ranking
from potstill.tasks.reading import for_training, labelled, unlabelled
from potstill.tasks.regression import Regression
from potstill.tasks.task import Lengths, Task
from potstill.tasks.token_classification import TokenClassification
from potstill.text.tokenizer import Tokenizer
from potstill.text.tokenizer_files import load_tokenizer
from potstill.text.windows import Windows
from tests.tiny import tiny_config

COLUMNS = Columns()
WINDOWED = Lengths(max_length=64, long_texts="windows", overlap=16)
CUT = Lengths(max_length=64, long_texts="cut")
LENGTHS = [WINDOWED, CUT]
HOSTILE = [
    *("", " ", "\t\n\r", "\u3000\u00a0", "\x00", "\x01\x02", "\u200b", "\ufeff", "\ufffd"),
    *("\U0001f600", "\U0001f469\u200d\U0001f469\u200d\U0001f467 at home", "\U0001f1e9\U0001f1ea!"),
    *("e" + "\u0301" * 60, "\u0301", "Mu\u0308nchen \u0130stanbul", "\ufb01ne \u2167 \u00bd"),
    *("\u6771\u4eac" * 100, "\u043f\u0440\u0438\u0432\u0435\u0442", "\u202eabc\u202c", "a\u00adb"),
    *("[CLS] [SEP] [PAD] [MASK] [UNK]", "##ing", "<s></s>", "U.N. (Reuters), 3.5", "..."),
    *("x" * 5_000, "Ab1" * 1_700, "!" * 3_000, "a\tb\nc\u2003d", "\\u0000 %s {} \"'"),
    *("\U0001d573\U0001d58a", "\u0661\u0662", "\ufdfa", "\ud55c\uad6d", "\u0e01\u0e33", "-" * 200),
]
TAGS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
TASKS: dict[str, Task] = {
    "classification": Classification(("no", "yes")),
    "multi-label": MultiLabel(("a", "b", "c")),
    "regression": Regression(),
    "ranking": Ranking(),
    "token-classification": TokenClassification(TAGS),
    "question-answering": QuestionAnswering(),
    "embedding": Embedding(HeadSpec(kind="embedding", pooling="mean", normalize=True)),
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)


@pytest.fixture(scope="module")
def tokenizer(minilm: Path) -> Tokenizer:
    return load_tokenizer(minilm, family="bert")


@dataclass(frozen=True, slots=True)
class Inputs:
    """A thousand texts and more, and as many questions, hostile ones among them."""

    texts: list[str]
    questions: list[str]


@pytest.fixture(scope="module")
def inputs(shared_data: Path) -> Inputs:
    real = [
        *_column(shared_data / "unlabelled" / "tweets.jsonl", "text", 450),
        *_column(shared_data / "sms_spam" / "train.jsonl", "text", 350),
        *_column(shared_data / "unlabelled" / "news.jsonl", "text", 200),
    ]
    reviews = _column(shared_data / "imdb" / "train.jsonl", "text", 60)
    long = [" ".join(reviews)[:50_000], "\n".join(real)[:50_000]]
    assert all(len(text) == 50_000 for text in long)
    mixed = [
        f"{one} {other}" for one, other in zip(real, itertools.cycle(HOSTILE[:24]), strict=False)
    ]
    texts = [*HOSTILE, *real[:450], *mixed[450:], *reviews[:3], *long]
    assert len(texts) > 1_000
    questions = _column(shared_data / "unlabelled" / "questions.jsonl", "text", 300)
    asked = itertools.cycle([*HOSTILE[:30], *questions])
    return Inputs(texts, [next(asked) for _ in texts])


def _column(file: Path, name: str, limit: int) -> list[str]:
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line)[name] for line in itertools.islice(lines, limit)]


def rows_of(name: str, inputs: Inputs) -> Rows:
    """Return unlabelled rows as `predict` reads them."""
    pairs = zip(inputs.questions, inputs.texts, strict=True)
    if name == "question-answering":
        given = [{"question": one, "context": other} for one, other in pairs]
    elif name in ("ranking", "regression"):
        given = [{"text": one, "text_pair": other} for one, other in pairs]
    else:
        given = [{"text": text} for text in inputs.texts]
    return unlabelled(name, given, COLUMNS)


def engine_of(task: Task, tokenizer: Tokenizer) -> TorchEngine:
    config = tiny_config(
        vocabulary_size=tokenizer.vocabulary_size,
        layers=1,
        max_positions=WINDOWED.max_length,
        initializer_range=0.3,
    )
    model = TaskModel(config, task.head("first"))
    model.initialize(seed=3)
    return TorchEngine(model)


def require_windows(windows: Windows, rows: Rows, lengths: Lengths) -> None:
    assert windows.row_count == len(rows)
    assert set(windows.rows.tolist()) == set(range(len(rows)))
    assert windows.texts.longest <= lengths.max_length
    assert windows.texts.lengths.min() >= 2
    if lengths.long_texts == "cut" or "text_pair" in rows:
        assert windows.truncated.any()


CASES = [(name, lengths) for name in TASKS for lengths in LENGTHS]


def test_every_kind_is_among_the_cases() -> None:
    assert len(CASES) == 14


@pytest.mark.parametrize(("name", "lengths"), CASES)
def test_every_input_has_an_answer_that_can_be_written_down(
    inputs: Inputs, tokenizer: Tokenizer, name: str, lengths: Lengths
) -> None:
    task, rows = TASKS[name], rows_of(name, inputs)
    assert len(rows) == len(inputs.texts)
    told = answer_rows(task, rows, tokenizer, engine_of(task, tokenizer), lengths)
    if name != "embedding":
        require_windows(told.windows, rows, lengths)
    items = task.items(told.answers, rows, told.windows.truncated)
    assert len(items) == len(rows)
    for item, written in zip(items, map(json.dumps, items), strict=True):
        assert json.loads(written) == item
        assert "NaN" not in written
        assert "Infinity" not in written
    if name == "token-classification":
        _require_exact_entities(items, rows)
    if name == "question-answering":
        _require_exact_answers(items, rows)


def _require_exact_entities(items: list[dict[str, Any]], rows: Rows) -> None:
    found = 0
    for item, text, spans in zip(
        items, rows.column("text"), rows.column("word_spans"), strict=True
    ):
        starts, ends = ({span[side] for span in spans} for side in (0, 1))
        last = 0
        for entity in item["entities"]:
            assert text[entity["start"] : entity["end"]] == entity["word"]
            assert last <= entity["start"] < entity["end"]
            assert entity["start"] in starts
            assert entity["end"] in ends
            last = entity["end"]
        found += len(item["entities"])
    assert found > 1_000


def _require_exact_answers(items: list[dict[str, Any]], rows: Rows) -> None:
    answered = 0
    for item, context in zip(items, rows.column("context"), strict=True):
        assert context[item["start"] : item["end"]] == item["answer"]
        assert 0.0 <= item["score"] <= 1.0
        assert not item["answer"] or item["answer"].strip()
        answered += bool(item["answer"])
    assert answered > 100


@pytest.mark.parametrize("name", TASKS)
def test_an_answer_does_not_depend_on_what_else_is_asked(
    inputs: Inputs, tokenizer: Tokenizer, name: str
) -> None:
    task = TASKS[name]
    engine = engine_of(task, tokenizer)
    rows = rows_of(name, Inputs(inputs.texts[-8:-2], inputs.questions[-8:-2]))

    def items_of(given: Rows) -> list[dict[str, Any]]:
        told = answer_rows(task, given, tokenizer, engine, WINDOWED)
        return task.items(told.answers, given, told.windows.truncated)

    for place, item in enumerate(items_of(rows)):
        assert items_of(rows.take([place])) == [_rounded(item)]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return pytest.approx(value, abs=1e-4)
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value


def test_every_token_s_place_holds_what_the_token_says(
    inputs: Inputs, tokenizer: Tokenizer
) -> None:
    rows = rows_of("question-answering", inputs)
    windows = TASKS["question-answering"].windows(tokenizer, rows, WINDOWED)
    contexts, held = rows.column("context"), 0
    tokens = np.flatnonzero(windows.segments == 1)
    row_of = windows.token_rows
    for token in tokens[:: max(1, len(tokens) // 20_000)]:
        said = tokenizer.id_to_token(windows.texts.ids[token])
        start, end = windows.spans[token]
        source = contexts[row_of[token]][start:end]
        assert source
        if said != "[UNK]" and said not in ("[CLS]", "[SEP]", "[PAD]", "[MASK]"):
            folded, plain = _folded(source), said.removeprefix("##")
            # A Hangul syllable may give several tokens, and all of them stand at it.
            assert folded == plain or (len(source) == 1 and plain in folded)
            held += 1
    assert held > 10_000


def _folded(text: str) -> str:
    """Return a text as an uncased BERT reads it: no accents, no control signs, lower case."""
    plain = unicodedata.normalize("NFD", text)
    kept = [sign for sign in plain if unicodedata.category(sign) not in ("Mn", "Cc", "Cf")]
    return "".join(kept).lower()


@pytest.mark.parametrize("name", ["squad_v1", "squad_v2"])
def test_who_points_at_the_truth_gives_the_truth(
    shared_data: Path, tokenizer: Tokenizer, name: str
) -> None:
    """Real answers that begin and end with whole tokens come back letter by letter."""
    whole = labelled("question-answering", shared_data / name / "test.json", COLUMNS)
    rows, _ = for_training("question-answering", whole.take(range(0, len(whole), 8)))
    task = QuestionAnswering.from_rows(rows)
    windows = task.windows(tokenizer, rows, Lengths(max_length=128, long_texts="windows"))
    targets = task.targets(rows, windows)
    outputs = np.random.default_rng(0).normal(size=(windows.texts.total_tokens, 2))
    firsts = windows.texts.offsets[:-1, None] + targets
    outputs[firsts, [0, 1]] += 60.0
    items = task.items(task.answers(outputs, windows, rows), rows, windows.truncated)
    has_target = np.bincount(windows.rows, targets.any(axis=1)) > 0
    exact = []
    for item, texts, starts, is_there in zip(
        items, rows.column("answers"), rows.column("answer_starts"), has_target, strict=True
    ):
        assert is_there == bool(texts)
        if not texts:
            assert item["answer"] == ""
            continue
        end = starts[0] + len(texts[0].rstrip())
        assert item["start"] <= starts[0] <= end <= item["end"]  # a token may hold more
        exact.append(item["answer"] == texts[0])
    assert len(exact) > 100
    assert np.mean(exact) > 0.97


@pytest.mark.parametrize("name", ["conll2003", "ncbi_disease"])
def test_who_knows_all_tags_is_always_right(
    shared_data: Path, tokenizer: Tokenizer, name: str
) -> None:
    rows = labelled("token-classification", shared_data / name / "test.jsonl", COLUMNS)
    task = TokenClassification.from_rows(rows)
    some = rows.take(range(0, len(rows), 4))
    windows = task.windows(tokenizer, some, Lengths(max_length=24, long_texts="windows"))
    assert len(windows.texts) > len(some)
    targets = task.targets(some, windows)
    outputs = np.random.default_rng(0).normal(size=(len(targets), len(task.labels)))
    known = np.flatnonzero(targets >= 0)
    outputs[known, targets[known]] += 60.0
    assert task.right(task.answers(outputs, windows, some), task.gold(some)).all()
    assert sum(map(len, some.column("tags"))) <= len(known)
