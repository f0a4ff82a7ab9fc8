"""Into how many heads relations are cut, and whose they are, where nobody says."""

from __future__ import annotations

import math

import pytest

from potstill.architectures.presets import PRESETS, preset
from potstill.distillation.narrow import narrow_config
from potstill.distillation.relation_term import usual_heads, usual_layer


@pytest.mark.parametrize("name", ["bert-large", "roberta-large", "bert-base", "all-minilm-l6"])
def test_every_width_that_a_teacher_can_be_narrowed_to_has_relation_heads(name: str) -> None:
    teacher = preset(name)
    head = teacher.hidden_size // teacher.heads
    for width in range(head, teacher.hidden_size, head):
        student = narrow_config(teacher, width)
        found = usual_heads(student, teacher)
        assert width % found == teacher.hidden_size % found == 0
        assert found <= teacher.heads
        more = range(found + 1, teacher.heads + 1)
        assert not [heads for heads in more if math.gcd(width, teacher.hidden_size) % heads == 0]


@pytest.mark.parametrize(
    ("name", "width", "heads"),
    [
        *[("bert-large", 192, 16), ("bert-large", 384, 16), ("bert-large", 960, 16)],
        *[("bert-base", 320, 8), ("bert-base", 384, 12), ("bert-base", 704, 8)],
        *[("all-minilm-l6", 160, 8), ("all-minilm-l6", 192, 12), ("all-minilm-l6", 352, 8)],
    ],
)
def test_heads_of_some_widths_by_hand(name: str, width: int, heads: int) -> None:
    teacher = preset(name)
    assert usual_heads(narrow_config(teacher, width), teacher) == heads


@pytest.mark.parametrize("name", PRESETS)
def test_at_the_teachers_own_width_its_heads_are_taken(name: str) -> None:
    teacher = preset(name)
    assert usual_heads(teacher, teacher) == teacher.heads


def test_the_last_layer_speaks_but_of_24_layers_that_of_the_paper() -> None:
    layers = {name: usual_layer(preset(name)) for name in PRESETS}
    others = {"bert-large", "bert-large-uncased", "bert-large-cased", "roberta-large"}
    assert {layers[name] for name in others - {"roberta-large"}} == {21}
    assert layers["roberta-large"] == 19
    for name in layers.keys() - others:
        assert layers[name] == preset(name).layers
