"""Rounds are interleaved, all models see the same texts, the first round does not count."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.measure import measuring
from potstill.measure.measuring import MeasurePlan, measure_models, spread_by_length
from potstill.measure.sample_texts import SAMPLE_TEXTS

ROUNDS = 3
TEXTS = [f"text {'x' * length}" for length in range(40)]


class Recorder:
    """Stands for a child process: answers at once and writes down what it was asked."""

    asked: list[tuple[str, str, list[str]]]
    milliseconds: dict[str, float]

    def __init__(self, name: str, *, threads: int, complaints: Path) -> None:
        self.name = name

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ask(self, command: str, **details: Any) -> dict[str, Any]:
        texts = details.get("texts", [])
        self.asked.append((self.name, command, texts))
        if command == "load":
            return {"load_seconds": 0.5, "engine": "e", "device": "cpu", "precision": "fp32"}
        if command == "one_by_one":
            return {"milliseconds": [self.milliseconds[self.name]] * len(texts)}
        if command == "together":
            return {"seconds": 0.1, "tokens": 10 * len(texts)}
        if command == "memory":
            names = ("import_floor_bytes", "peak_memory_bytes", "peak_device_memory_bytes")
            return dict.fromkeys(names, 7)
        np.save(details["output"], np.ones((len(TEXTS), 2), dtype=np.float32))
        return {"truncated": 1}


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    Recorder.asked, Recorder.milliseconds = [], {"a": 1.0, "b": 2.0, "c": 4.0}
    monkeypatch.setattr(measuring, "Commanded", Recorder)
    monkeypatch.setattr(measuring, "busy_cores", lambda: 0.25)
    return Recorder


def measured(**changes: Any) -> measuring.SideBySide:
    plan = MeasurePlan(threads=1, rounds=ROUNDS, **changes)
    models = [(name, Path(name)) for name in "abc"]
    return measure_models(models, TEXTS, plan, rows={"text": list(TEXTS)}, tell=lambda line: None)


def test_the_models_take_turns(recorder: type[Recorder]):
    measured()
    for command in ("one_by_one", "together"):
        names = [name for name, asked, _ in recorder.asked if asked == command]
        turns = names[-3 * (ROUNDS + 1) :]
        assert "".join(turns) == "abc" * (ROUNDS + 1)


def test_all_models_see_the_same_texts_in_the_same_order(recorder: type[Recorder]):
    measured()
    for command in ("one_by_one", "together"):
        asked = [texts for _, told, texts in recorder.asked if told == command]
        assert len({tuple(texts) for texts in asked[-3 * (ROUNDS + 1) :]}) == 1


def test_the_round_that_warms_up_does_not_count(recorder: type[Recorder]):
    found = measured().models[0]
    assert found.latencies_ms.shape == (ROUNDS, len(TEXTS))
    assert found.seconds_together.shape == (ROUNDS,)


def test_memory_is_read_before_all_test_rows_are_answered(recorder: type[Recorder]):
    measured()
    commands = [command for _, command, _ in recorder.asked]
    assert commands.index("outputs") > max(
        place for place, command in enumerate(commands) if command == "memory"
    )


def test_what_was_told_is_put_together(recorder: type[Recorder]):
    found = measured()
    slow = found.models[2]
    assert found.other_load == 0.25
    assert slow.percentiles_ms == {"p50": 4.0, "p95": 4.0, "p99": 4.0}
    assert slow.texts_per_second == pytest.approx(10 * len(TEXTS))
    assert slow.tokens_per_second == pytest.approx(100 * len(TEXTS))
    assert slow.outputs.shape == (len(TEXTS), 2)
    assert (slow.peak_memory_bytes, slow.truncated, slow.drift) == (7, 1, 1.0)


def test_the_slowest_models_budget_bounds_the_texts_of_all(recorder: type[Recorder]):
    recorder.milliseconds["b"] = 100.0
    measured(alone_s=4.0, together_s=8.0)
    sizes = Counter(len(texts) for _, command, texts in recorder.asked if command != "load")
    assert sizes[10] == 3 * (ROUNDS + 1)  # 4 s over four rounds of 0.1 s a text
    assert sizes[20] == 3 * (ROUNDS + 1)


def test_a_round_that_was_disturbed_is_seen(recorder: type[Recorder], monkeypatch):
    steady = measured().models[0]
    assert not steady.is_disturbed
    latencies = np.ones((ROUNDS, 5))
    latencies[1] = 1.4
    disturbed = measuring.Measurement(
        **{name: getattr(steady, name) for name in steady.__dataclass_fields__}
        | {"latencies_ms": latencies}
    )
    assert disturbed.drift == pytest.approx(1.4)
    assert disturbed.is_disturbed


@given(st.lists(st.text(max_size=30), min_size=1, max_size=60), st.integers(1, 80))
def test_chosen_texts_keep_the_order_of_the_file(texts: list[str], count: int):
    numbered = [f"{text}{index:03d}" for index, text in enumerate(texts)]
    chosen = spread_by_length(numbered, count)
    assert len(chosen) == min(count, len(texts))
    places = [numbered.index(text) for text in chosen]
    assert places == sorted(set(places))


def test_chosen_texts_are_spread_over_all_lengths():
    lengths = [len(text) for text in spread_by_length(TEXTS[::-1], 4)]
    assert lengths == sorted(lengths, reverse=True)
    every = sorted(len(text) for text in TEXTS)
    assert lengths == [every[35], every[25], every[15], every[5]]


def test_the_packaged_sentences_are_natural_in_length():
    words = [len(text.split()) for text in SAMPLE_TEXTS]
    assert len(set(SAMPLE_TEXTS)) == len(SAMPLE_TEXTS) >= 24
    assert min(words) >= 5
    assert max(words) <= 70
    assert sum(words) / len(words) < 30
