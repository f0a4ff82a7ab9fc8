"""A comparison in words: the sentence that one remembers, and cells that say no more than known."""

from __future__ import annotations

import math

import pytest

from potstill.metrics.bootstrap import Interval
from potstill.workflows import comparison_words as words
from tests.unit.workflows.comparisons import a_comparison, unsolved, without_test


def test_the_headline_says_what_is_kept_and_what_is_saved():
    assert words.headlines(a_comparison()) == [
        "student keeps 98.7 % (97.4 to 99.9) of teacher's accuracy "
        "at 2.0 times the speed and 0.5 times the size"
    ]


@pytest.mark.parametrize("change", [without_test, unsolved])
def test_without_retention_the_headline_says_nothing_about_quality(change):
    assert words.headlines(change(a_comparison())) == [
        "student runs at 2.0 times the speed and 0.5 times the size of teacher"
    ]


def test_a_model_alone_has_a_headline_too():
    whole = without_test(a_comparison())
    alone = words.headlines(words.replace(whole, models=whole.models[:1]))
    assert alone == ["teacher answers a text in 10.0 ms (median)"]


def test_every_line_has_a_cell_for_each_model_and_one_of_them_says_something():
    for comparison in (a_comparison(), unsolved(a_comparison()), without_test(a_comparison())):
        found = words.lines(comparison)
        assert len(found) >= 9
        for line in found:
            assert len(line.cells) == len(comparison.models)
            assert any(cell != words.NOTHING for cell in line.cells)


def test_an_unsolved_task_has_no_line_of_retention():
    titles = [line.title for line in words.lines(unsolved(a_comparison()))]
    assert "retention of accuracy" not in titles
    assert "accuracy" in titles


@pytest.mark.parametrize(
    ("ratio", "told"), [(2.04, "2.0"), (0.64, "0.6"), (0.0712, "0.071"), (1234.5, "1,234")]
)
def test_a_ratio_has_the_places_it_needs(ratio: float, told: str):
    assert words.times(ratio) == told


@pytest.mark.parametrize(
    ("name", "told"), [("macro_f1", "macro F1"), ("f1:spam", "F1 of spam"), ("new", "new")]
)
def test_metrics_are_named_for_readers(name: str, told: str):
    assert words.metric_words(name) == told


def test_json_has_no_number_that_json_has_not():
    nan = Interval(0.5, math.nan, math.inf)
    comparison = a_comparison(agreement={"student": nan})
    assert comparison.to_json()["agreement"]["student"] == {
        "value": 0.5,
        "low": None,
        "high": None,
    }
    assert words.percent(nan) == "50.0 % (50.0 to 50.0)"
