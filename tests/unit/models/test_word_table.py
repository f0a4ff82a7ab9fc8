"""A table that is looked up and multiplied with: one gradient for both uses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import embedding

from potstill.models.word_table import look_up

IDS = torch.tensor([3, 0, 3, 5, 3])


def table() -> Tensor:
    return torch.randn(7, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()


@pytest.mark.parametrize("uses", [(True, True), (True, False), (False, True)])
def test_gradients_are_torchs_own(uses: tuple[bool, bool]) -> None:
    is_looked_up, is_multiplied = uses
    features = torch.randn(2, 4, generator=torch.Generator().manual_seed(1))
    gradients = []
    for look in (look_up, lambda words, ids: (embedding(ids, words), words)):
        words = table()
        rows, onward = look(words, IDS)
        total = torch.zeros(())
        if is_looked_up:
            total = total + (rows**2).sum()
        if is_multiplied:
            total = total + ((features @ onward.T) ** 2).sum()
        total.backward()
        gradients.append(words.grad)
    assert torch.equal(rows, embedding(IDS, table()))
    torch.testing.assert_close(*gradients)


def test_a_second_backward_adds_to_what_the_first_left() -> None:
    once, twice = table(), table()
    for words, times in ((once, 1), (twice, 2)):
        for _ in range(times):
            rows, onward = look_up(words, IDS)
            (rows.sum() + (onward**2).sum()).backward()
    assert once.grad is not None
    assert twice.grad is not None
    torch.testing.assert_close(twice.grad, 2 * once.grad)


def test_rows_alone_are_added_to_the_gradient_that_stands() -> None:
    words = table()
    look_up(words, IDS)[0].sum().backward()
    first = words.grad
    assert first is not None
    once = first.clone()
    look_up(words, IDS)[0].sum().backward()
    assert words.grad is first
    torch.testing.assert_close(first, 2 * once)


def test_where_nothing_is_learned_the_table_itself_is_handed_on() -> None:
    words = table()
    with torch.no_grad():
        rows, onward = look_up(words, IDS)
    assert onward is words
    assert not rows.requires_grad
