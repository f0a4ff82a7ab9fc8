"""A word table of the used rows alone: the same answers inside, the rest untouched after."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.models import TaskModel, arrange
from potstill.text.ragged import RaggedBatch
from potstill.train.compact_words import only_words_of
from tests.tiny import WORDS, random_batch, tiny_config, tiny_head

FEW_WORDS = 20  # of the 64 in the table

LENGTHS = st.lists(st.integers(1, 20), min_size=1, max_size=6)


def model_of(kind: str = "classification") -> TaskModel:
    model = TaskModel(tiny_config(), tiny_head(kind))
    model.initialize(seed=2)
    return model


def texts_of(lengths: list[int], seed: int = 0) -> RaggedBatch:
    return random_batch(lengths, vocabulary=FEW_WORDS, seed=seed, token_types=True)


@torch.no_grad()
def logits_of(model: TaskModel, texts: RaggedBatch) -> torch.Tensor:
    logits, _ = model(arrange(texts, model.config))
    return logits


def words_of(model: TaskModel) -> torch.Tensor:
    return model.encoder.embeddings.words.weight.detach().clone()


@settings(max_examples=20, deadline=None)
@given(LENGTHS, LENGTHS)
def test_inside_the_logits_are_the_same_bits(train: list[int], dev: list[int]) -> None:
    model = model_of()
    batches = [texts_of(train), texts_of(dev, seed=1)]
    before = [logits_of(model, batch) for batch in batches]
    with only_words_of(model, batches) as renumber:
        inside = [logits_of(model, renumber(batch)) for batch in batches]
    for one, other in zip(before, inside, strict=True):
        assert torch.equal(one, other)


def test_the_small_table_has_the_used_rows_alone() -> None:
    model = model_of()
    whole, words = model.encoder.embeddings.words, words_of(model)
    texts = texts_of([5, 9])
    used = np.unique(texts.ids)
    with only_words_of(model, [texts]) as renumber:
        assert 0 < len(used) < FEW_WORDS
        assert torch.equal(words_of(model), words[used])
        renumbered = renumber(texts)
        assert sorted(set(renumbered.ids.tolist())) == list(range(len(used)))
        np.testing.assert_array_equal(used[renumbered.ids], texts.ids)
        np.testing.assert_array_equal(renumbered.offsets, texts.offsets)
        assert renumbered.token_types is texts.token_types
    assert model.encoder.embeddings.words is whole
    assert torch.equal(words_of(model), words)


def test_trained_rows_are_written_back_and_no_other_changes() -> None:
    model = model_of()
    whole, before = model.encoder.embeddings.words, words_of(model)
    texts = texts_of([6, 11, 3])
    is_used = np.isin(np.arange(len(WORDS)), texts.ids)
    with only_words_of(model, [texts]) as renumber:
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
        logits, _ = model(arrange(renumber(texts), model.config))
        logits.logsumexp(-1).sum().backward()
        optimizer.step()
        trained = words_of(model)
    after = words_of(model)
    assert torch.equal(after[is_used], trained)
    assert torch.equal(after[~is_used], before[~is_used])
    assert bool((after[is_used] != before[is_used]).any(dim=1).all())
    assert model.encoder.embeddings.words is whole
    assert whole.weight.requires_grad


def test_what_was_trained_is_written_back_from_a_run_that_stops() -> None:
    model = model_of()
    before, texts = words_of(model), texts_of([4])

    def stop_inside() -> None:
        with only_words_of(model, [texts]), torch.no_grad():
            model.encoder.embeddings.words.weight.add_(1.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_inside()
    used = np.unique(texts.ids)
    torch.testing.assert_close(words_of(model)[used], before[used] + 1.0)


def test_a_word_that_was_not_announced_is_a_bug() -> None:
    texts = texts_of([4])
    other = replace(texts, ids=np.full_like(texts.ids, FEW_WORDS + 1))
    with (
        only_words_of(model_of(), [texts]) as renumber,
        pytest.raises(AssertionError, match="not announced"),
    ):
        renumber(other)


def test_a_head_that_reads_the_table_is_refused() -> None:
    context = only_words_of(model_of("masked-lm"), [texts_of([4])])
    with pytest.raises(AssertionError, match="every row"), context:
        pass
