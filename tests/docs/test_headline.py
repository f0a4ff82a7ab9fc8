"""The figures on top of the README are those that are stored."""

from __future__ import annotations

import json

from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def stored(name):
    return json.loads((REPOSITORY / "benchmarks" / "results" / f"{name}.json").read_text())


def classifiers(name):
    return {row["side"]: row for row in stored(name)["rows"] if row["head"] == "cls"}


def test_the_quality_is_the_mean_over_the_tasks() -> None:
    table = stored("classification")["table"]
    assert len(table["rows"]) == 5
    assert f"{100 * table['mean_retention']:.1f} % of the quality" in README


def test_the_speed_is_that_of_arrival_order_beside_transformers() -> None:
    for name, words in (("engine", " the tokens a second"), ("engine_half_rate", " in an earlier")):
        sides = classifiers(name)
        rate = {side: row.get("sst2_in_order_tokens_per_second") for side, row in sides.items()}
        times = rate["ours int8"] / rate["transformers fp32"]
        assert f"{times:.1f} times{words}" in README


def test_the_speed_beside_openvino_is_that_of_sorted_texts() -> None:
    sides = classifiers("engine")
    times = [
        sides["ours int8"][figure] / sides["openvino int8"][figure]
        for figure in (f"{texts}_tokens_per_second" for texts in ("sst2", "ag_news", "imdb"))
    ]
    assert f"{min(times):.2f} to {max(times):.2f} times OpenVINO" in README


def test_the_earlier_processor_multiplied_at_less_than_half_the_rate() -> None:
    rates = [stored(name)["ceiling"]["int8"] for name in ("engine_half_rate", "engine")]
    assert 2 * rates[0] < rates[1]


def test_size_and_start_are_those_of_the_cold_start() -> None:
    found = stored("cold_start")
    sizes = {name: round(size / 1e6) for name, size in found["bytes"].items()}
    assert f"{sizes['openvino-int8']} MB instead of {sizes['source']}" in README
    said_of = {"cold_start": "after the start", "cold_start_half_rate": "on that other"}
    for name, words in said_of.items():
        start = next(side for side in stored(name)["sides"] if side["side"] == "openvino int8")
        assert f"{start['p50_seconds']:.2f} s {words}" in README


def test_the_step_is_that_of_the_distillation() -> None:
    found = stored("distillation")
    times = found["times_faster"]
    assert f"{times['ours']:.1f} times the speed of DistilBERT" in README
    assert f"{times['ours_at_its_objective']:.1f} times at the original's objective" in README
    assert "in a fifth of its memory" in README
    assert round(1 / found["share_of_memory"]["ours"]) == 5
