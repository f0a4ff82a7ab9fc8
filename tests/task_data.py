"""Tiny rows of every kind of task, in the words of `tests.tiny`: each is learned in seconds.

What is true of a row hangs on single words (great, awful, very good, ...) among plain ones, so that
a model of a few layers finds it, and one that was not trained does not.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from potstill.architectures.heads import HeadSpec
from potstill.bundle.manifest import Manifest
from potstill.bundle.sentence_transformers import VectorRecipe
from potstill.bundle.write import BundleContent, write_bundle
from potstill.cli.main import run
from potstill.measure import measuring
from potstill.measure.subject import Subject
from potstill.models import TaskModel
from potstill.models.loading import tensors_of
from potstill.text.tokenizer_files import load_tokenizer
from tests.command_line import Said, write_jsonl
from tests.tiny import WORDS, tiny_config, write_tiny_tokenizer

Row = dict[str, Any]
Rng = np.random.Generator

PLAIN_WORDS = [word for word in WORDS if word.startswith("word")]
_DECIDED = 0.1  # deviation of drawn weights: vectors differ, and a layer less does not undo them
_CANDIDATES = 4  # documents of a query


@dataclass(frozen=True, slots=True, kw_only=True)
class KindOfRows:
    """One kind of task: how its rows are made and what is told of it."""

    task: str
    make: Callable[[Rng, int], Row]  # from randomness and the row's number
    primary: str
    labels: tuple[str, ...]
    hf_class: str  # of a BERT teacher
    suffix: str = ".jsonl"
    asks: tuple[str, ...] = ()  # flags of its fine-tuning


def multi_label_row(rng: Rng, number: int) -> Row:
    """Return a text that may be praise, blame, both or neither."""
    words = _plain(rng, 3, 8)
    labels = []
    for label, word, is_there in (
        ("blame", "awful", number % 2 == 1),
        ("praise", "great", number % 4 in (1, 2)),
    ):
        if is_there:
            words.insert(int(rng.integers(len(words) + 1)), word)
            labels.append(label)
    return {"text": " ".join(words), "label": labels}


def number_row(rng: Rng, number: int) -> Row:
    """Return a text whose number is 10 times the count of one word."""
    count = number % 4
    words = [*_plain(rng, 3, 6), *["great"] * count]
    return {"text": " ".join(rng.permutation(words)), "label": 10.0 * count}


def entity_row(rng: Rng, number: int) -> Row:
    """Return words with a work (one word) and a person (two words); every fifth row has none."""
    parts = [[(word, "O")] for word in _plain(rng, 3, 7)]
    if number % 5:
        parts.insert(int(rng.integers(len(parts) + 1)), [("film", "B-WORK")])
        parts.insert(int(rng.integers(len(parts) + 1)), [("actor", "B-PER"), ("boring", "I-PER")])
    words = [word for part in parts for word in part]
    return {"tokens": [word for word, _ in words], "tags": [tag for _, tag in words]}


def question_row(rng: Rng, number: int) -> Row:
    """Return a question whose answer is "very good"; every fourth context has none."""
    words = _plain(rng, 4, 9)
    answers = []
    if number % 4:
        words.insert(int(rng.integers(len(words) + 1)), "very good")
        answers = [{"text": "very good", "answer_start": " ".join(words).index("very good")}]
    return {
        "id": f"q{number}",
        "question": "was the film",
        "context": " ".join(words),
        "answers": answers,
    }


def candidate_row(rng: Rng, number: int) -> Row:
    """Return a query and a document of which one in four is relevant."""
    query = f"word{number // _CANDIDATES % len(PLAIN_WORDS)} the"
    is_relevant = number % _CANDIDATES == 1
    words = [*_plain(rng, 3, 7), "great" if is_relevant else "awful"]
    return {"text": query, "text_pair": " ".join(words), "label": int(is_relevant)}


def pair_row(rng: Rng, number: int) -> Row:
    """Return two texts of which the second one tells the class."""
    word, label = ("great", "yes") if number % 2 else ("awful", "no")
    second = [*_plain(rng, 2, 5), word]
    return {"text": " ".join(_plain(rng, 2, 5)), "text_pair": " ".join(second), "label": label}


def likeness_row(rng: Rng, number: int) -> Row:
    """Return two texts and the share of their words that they have in common."""
    first, other = (rng.choice(PLAIN_WORDS, 6, replace=False).tolist() for _ in range(2))
    kept = number % 6
    second = [*first[:kept], *other[kept:]]
    shared = len(set(first) & set(second)) / len(set(first) | set(second))
    return {"text": " ".join(first), "text_pair": " ".join(second), "label": shared}


KINDS: Mapping[str, KindOfRows] = {
    "multi-label": KindOfRows(
        task="multi-label",
        make=multi_label_row,
        primary="micro_f1",
        labels=("blame", "praise"),
        hf_class="BertForSequenceClassification",
    ),
    "regression": KindOfRows(
        task="regression",
        make=number_row,
        primary="pearson",
        asks=("--primary", "pearson"),
        labels=("score",),
        hf_class="BertForSequenceClassification",
    ),
    "token-classification": KindOfRows(
        task="token-classification",
        make=entity_row,
        primary="entity_f1",
        labels=("O", "B-PER", "I-PER", "B-WORK", "I-WORK"),
        hf_class="BertForTokenClassification",
    ),
    "question-answering": KindOfRows(
        task="question-answering",
        make=question_row,
        primary="f1",
        labels=("start", "end"),
        hf_class="BertForQuestionAnswering",
        suffix=".json",
    ),
    "ranking": KindOfRows(
        task="ranking",
        make=candidate_row,
        primary="ndcg@10",
        labels=("relevance",),
        hf_class="BertForSequenceClassification",
    ),
    "pairs": KindOfRows(
        task="classification",
        make=pair_row,
        primary="accuracy",
        labels=("no", "yes"),
        hf_class="BertForSequenceClassification",
    ),
}


def rows_of(make: Callable[[Rng, int], Row], count: int, seed: int = 0) -> list[Row]:
    """Make rows."""
    rng = np.random.default_rng(seed)
    return [make(rng, number) for number in range(count)]


def write_task_rows(file: Path, kind: KindOfRows, count: int, *, seed: int = 0) -> Path:
    """Write rows in the usual form of their kind: one JSON object a line, or SQuAD's one object."""
    rows = rows_of(kind.make, count, seed)
    return write_squad(file, rows) if file.suffix == ".json" else write_jsonl(file, *rows)


def write_squad(file: Path, rows: list[Row]) -> Path:
    """Write questions as SQuAD 2.0 does, each in a paragraph of its own."""
    paragraphs = [
        {
            "context": row["context"],
            "qas": [
                {
                    **{name: row[name] for name in ("id", "question", "answers")},
                    "is_impossible": not row["answers"],
                }
            ],
        }
        for row in rows
    ]
    content = {"version": "v2.0", "data": [{"title": "films", "paragraphs": paragraphs}]}
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def write_conll(file: Path, rows: list[Row]) -> Path:
    """Write words and tags in columns."""
    sentences = [
        "".join(f"{word}\t{tag}\n" for word, tag in zip(row["tokens"], row["tags"], strict=True))
        for row in rows
    ]
    file.write_text("\n".join(sentences), encoding="utf-8")
    return file


def write_vector_model(
    folder: Path,
    *,
    layers: int = 4,
    width: int | None = None,
    normalize: bool = True,
    family: str = "bert",
) -> Path:
    """Write an embedding model whose vectors differ, as a sentence-transformers folder of ours."""
    head = HeadSpec(kind="embedding", pooling="mean", normalize=normalize, width=width)
    model = TaskModel(tiny_config(family, layers=layers, initializer_range=_DECIDED), head)
    model.initialize(seed=7)
    words = folder.with_name(folder.name + "-words")
    write_tiny_tokenizer(words)
    content = BundleContent(
        config=model.config,
        head=head,
        tensors=tensors_of(model),
        tokenizer=load_tokenizer(words, family="bert"),
        vectors=VectorRecipe(pooling="mean", normalize=normalize, width=width),
        manifest=Manifest(task="embedding", pooling="mean"),
    )
    write_bundle(folder, content)
    return folder


def _plain(rng: Rng, low: int, high: int) -> list[str]:
    return [str(word) for word in rng.choice(PLAIN_WORDS, rng.integers(low, high + 1))]


def asked(*arguments: object) -> Said:
    """Run a command in this process where there is no test yet whose output is captured."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    threads = torch.get_num_threads()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = run([str(argument) for argument in arguments])
    finally:
        torch.set_num_threads(threads)
    told = (stream.buffer.getvalue().decode() for stream in (out, err))
    return Said(status, *told)


class MeasuredHere:
    """A child of a comparison without its process: commands go through JSON all the same."""

    def __init__(self, name: str, *, threads: int, complaints: Path) -> None:
        del threads, complaints
        self.name = name
        self._subject = Subject()

    def __enter__(self) -> MeasuredHere:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def ask(self, command: str, **details: Any) -> Any:
        answer = self._subject.obey(command, json.loads(json.dumps(details)))
        return json.loads(json.dumps(answer))


def measure_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let comparisons start no process: what is compared is the matter, not how fast it is."""
    monkeypatch.setattr(measuring, "Commanded", MeasuredHere)
    monkeypatch.setattr(measuring, "busy_cores", lambda: 0.0)
    for most in ("_MOST_ALONE", "_MOST_TOGETHER"):
        monkeypatch.setattr(measuring, most, measuring._FEWEST_TEXTS)
