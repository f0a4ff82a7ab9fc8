"""Options whose value may be left out."""

from __future__ import annotations

import pytest

from potstill.cli.bare_options import with_values


@pytest.mark.parametrize(
    ("words", "filled"),
    [
        ("distill --control --seed 1", "distill --control pretrained --seed 1"),
        ("distill --seed 1 --control", "distill --seed 1 --control pretrained"),
        ("distill --control tuned --seed 1", "distill --control tuned --seed 1"),
        ("distill --control sideways", "distill --control sideways"),
        ("shrink --control --seed 1", "shrink --control --seed 1"),
        ("", ""),
    ],
)
def test_a_value_is_filled_in_where_an_option_stands_alone(words: str, filled: str) -> None:
    assert with_values(words.split()) == filled.split()
