"""Parts made ahead: in order, one at most, errors at their turn, nothing after the caller left."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import potstill
from potstill.data.ahead import made_ahead
from potstill.data.rows import Rows
from potstill.errors import DataError
from potstill.runtime.answering import answer_parts
from potstill.workflows import embed as embed_workflow
from potstill.workflows.embed import _Encoding
from tests.folders import write_tiny_model
from tests.tiny import WORDS

TEXTS = [" ".join(WORDS[5 + number % 20 : 8 + number % 31]) for number in range(50)]
PATIENCE_S = 10.0


@pytest.mark.parametrize("parts", [[], [0], [None, [], "", 7], list(range(100))])
def test_all_parts_come_in_order(parts: list[object]) -> None:
    assert list(made_ahead(parts)) == parts


def test_the_next_part_is_made_while_this_one_is_used() -> None:
    second_is_made = threading.Event()

    def parts() -> Iterator[int]:
        yield 1
        second_is_made.set()
        yield 2

    for part in made_ahead(parts()):
        assert part == 2 or second_is_made.wait(PATIENCE_S)


def test_one_part_waits_and_no_more() -> None:
    made: list[int] = []

    def parts() -> Iterator[int]:
        for number in range(20):
            made.append(number)
            yield number

    for part in made_ahead(parts()):
        time.sleep(0.002)
        assert len(made) <= part + 2


def test_an_error_is_raised_at_its_turn() -> None:
    def parts() -> Iterator[int]:
        yield 1
        raise DataError("no text", where="row 2")

    found = made_ahead(parts())
    assert next(found) == 1
    with pytest.raises(DataError, match="row 2: no text"):
        next(found)


def test_nothing_goes_on_when_the_caller_leaves() -> None:
    made: list[int] = []

    def parts() -> Iterator[int]:
        try:
            for number in range(1_000):
                made.append(number)
                yield number
        finally:
            closed_by.append(threading.current_thread().name)

    closed_by: list[str] = []
    found = made_ahead(parts())
    next(found)
    found.close()
    assert len(made) <= 2
    assert [name.partition("_")[0] for name in closed_by] == ["ahead"]  # who ran it
    assert not [each for each in threading.enumerate() if each.name.startswith("ahead")]


@pytest.mark.parametrize("kind", ["classification", "token-classification"])
def test_answers_in_parts_are_those_of_all_at_once(kind: str, tmp_path: Path) -> None:
    model = potstill.load(write_tiny_model(tmp_path / "m", kind, task=kind), threads=1)
    names = {"text": TEXTS}
    if kind == "token-classification":
        words = [text.split() for text in TEXTS]
        model_rows = potstill.runtime.answering.rows_of_inputs(kind, words)
        names = dict(model_rows.columns)
    rows = Rows(names, "list")
    whole = model.predict_rows(rows)
    parts = [rows.take(range(at, min(at + 7, len(rows)))) for at in range(0, len(rows), 7)]
    found = list(model.predict_parts(parts))
    assert [len(part) for part, _ in found] == [7] * 7 + [1]
    told = [answer for _, answers in found for answer in answers]
    assert [_rounded(answer) for answer in told] == [_rounded(answer) for answer in whole]


class WaitingModel:
    """A task whose engine computes a part only when the next one is tokenized."""

    def __init__(self, parts: int) -> None:
        self.tokenized = [threading.Event() for _ in range(parts)]
        self.computed = 0

    def windows(self, _tokenizer: object, rows: Rows, _lengths: object) -> SimpleNamespace:
        self.tokenized[rows.column("number")[0]].set()
        return SimpleNamespace(texts=None)

    def run(self, *_asked: object) -> dict[str, np.ndarray]:
        self.computed += 1
        following = self.tokenized[self.computed : self.computed + 1]
        assert all(event.wait(PATIENCE_S) for event in following), "nothing was made ahead"
        return {"logits": np.zeros(1), "vectors": np.zeros((1, 2))}

    def answers(self, *_given: object) -> list[int]:
        return [self.computed]


def test_the_next_rows_are_tokenized_while_these_are_computed() -> None:
    parts = [Rows({"number": [number]}, "list") for number in range(4)]
    model: Any = WaitingModel(len(parts))
    found = list(answer_parts(model, parts, None, model, None))  # type: ignore[arg-type]
    assert [answered.answers for _, answered in found] == [[1], [2], [3], [4]]


def test_the_next_texts_are_tokenized_while_these_get_vectors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embed_workflow, "_TEXTS_AT_ONCE", 1)
    model: Any = WaitingModel(4)
    encoded = SimpleNamespace(batch=None, truncated=[False])

    def encode(texts: list[str]) -> SimpleNamespace:
        model.tokenized[int(texts[0])].set()
        return encoded

    asked: Any = SimpleNamespace(encode=encode, engine=model)
    rows = Rows({"text": ["0", "1", "2", "3"]}, "list")
    assert len(list(_Encoding(asked, rows, None, None).parts())) == 4


def test_vectors_in_parts_are_those_of_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = potstill.load(write_tiny_model(tmp_path / "m"), precision="fp32", threads=1)
    monkeypatch.setattr(embed_workflow, "_TEXTS_AT_ONCE", 7)
    told: list[tuple[int, int]] = []
    encoding = _Encoding(
        model, Rows({"text": TEXTS}, "list"), None, lambda *done: told.append(done)
    )
    found = np.concatenate(list(encoding.parts()))
    np.testing.assert_allclose(found, model.embed(TEXTS), atol=1e-5)
    assert [done for done, _ in told] == [*range(7, 50, 7), 50]


def _rounded(answer: object) -> object:
    """Return an answer whose numbers are rounded: another call sums in another order."""
    if isinstance(answer, float):
        return round(answer, 3)
    if isinstance(answer, dict):
        return {name: _rounded(value) for name, value in answer.items()}
    return [_rounded(each) for each in answer] if isinstance(answer, list) else answer
