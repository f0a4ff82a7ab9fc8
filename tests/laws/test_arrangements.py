"""Packed = padded = one by one, and a last layer cut to first positions changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.models import TaskModel, arrange
from potstill.models.attention import Rows, attend_in_rows
from potstill.models.noise import Noise
from potstill.runtime.torch_engine import TorchEngine
from potstill.text.ragged import RaggedBatch
from tests.tiny import random_batch, tiny_config, tiny_head

TOLERANCE = 1e-5
lengths_of_texts = st.lists(st.integers(1, 40), min_size=1, max_size=12)


def model_of(family: str, kind: str = "classification", **changes: object) -> TaskModel:
    model = TaskModel(tiny_config(family), tiny_head(kind, **changes))
    model.initialize(seed=3)
    return model


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
@settings(max_examples=15, deadline=None)
@given(lengths=lengths_of_texts, row_tokens=st.integers(1, 64))
def test_padded_packed_and_one_by_one_agree(
    family: str, lengths: list[int], row_tokens: int
) -> None:
    model = model_of(family, "token-classification")
    batch = random_batch(lengths, token_types=family == "bert")
    padded = _states(model, batch, how="padded")
    packed = _states(model, batch, how="packed", row_tokens=row_tokens)
    single = np.concatenate(
        [_states(model, batch.take([text]), how="padded") for text in range(len(batch))], axis=1
    )
    np.testing.assert_allclose(packed, padded, atol=TOLERANCE)
    np.testing.assert_allclose(single, padded, atol=TOLERANCE)


@pytest.mark.parametrize("how", ["padded", "packed"])
@settings(max_examples=15, deadline=None)
@given(lengths=lengths_of_texts)
def test_a_last_layer_cut_to_first_positions_is_exact(how: str, lengths: list[int]) -> None:
    model = model_of("bert")
    layout = arrange(random_batch(lengths), model.config, how=how, row_tokens=48)
    with torch.inference_mode():
        cut = model.encoder(layout, first_only=True).last
        whole = model.encoder(layout).last[layout.first_B]
    np.testing.assert_allclose(cut, whole, atol=TOLERANCE)


@settings(max_examples=15, deadline=None)
@given(lengths=lengths_of_texts, order_seed=st.integers(0, 99))
def test_the_order_and_size_of_batches_change_nothing(lengths: list[int], order_seed: int) -> None:
    model = model_of("distilbert", pooling="mean")
    batch = random_batch(lengths)
    order = np.random.default_rng(order_seed).permutation(len(batch))
    outputs = ["logits", "vectors", "state.1"]
    whole = TorchEngine(model).run(batch, outputs)
    pieces = TorchEngine(model, batch_tokens=50).run(batch.take(order), outputs)
    for name in ("logits", "vectors"):
        np.testing.assert_allclose(pieces[name], whole[name][order], atol=TOLERANCE)
    numbered = RaggedBatch(np.arange(batch.total_tokens, dtype=np.int32), batch.offsets)
    tokens = numbered.take(order).ids
    np.testing.assert_allclose(pieces["state.1"], whole["state.1"][tokens], atol=TOLERANCE)


def test_an_empty_batch_gives_arrays_without_rows() -> None:
    engine = TorchEngine(model_of("bert"))
    empty = RaggedBatch.from_lists([])
    outputs = engine.run(empty, ["logits", "vectors", "state.0"])
    assert [outputs[name].shape for name in outputs] == [(0, 3), (0, 32), (0, 32)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_in_rows_equals_ten_plain_lines(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(3, 4, 9, 8, generator=generator) for _ in range(3))
    attends = torch.rand(3, 1, 9, 9, generator=generator) < 0.6
    attends |= torch.eye(9, dtype=torch.bool)
    scores = torch.einsum("rhqk,rhtk->rhqt", query, key) / 8**0.5
    weights = scores.masked_fill(~attends, -1e30).softmax(-1)
    expected = torch.einsum("rhqt,rhtk->rhqk", weights, value)
    got = attend_in_rows(query.to(dtype), key.to(dtype), value.to(dtype), attends)
    assert got.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 0.03
    torch.testing.assert_close(got.float(), expected, atol=tolerance, rtol=tolerance)


def test_written_out_products_equal_the_fused_kernel() -> None:
    """Dropout switches to written-out products; at a rate that drops nothing both must agree."""
    generator = torch.Generator().manual_seed(1)
    query, key, value = (torch.randn(2, 4, 6, 8, generator=generator) for _ in range(3))
    attends = torch.ones(2, 1, 1, 6, dtype=torch.bool)
    attends[1, ..., 4:] = False
    fused = attend_in_rows(query, key, value, attends)
    written = attend_in_rows(query, key, value, attends, noise=Noise(0), dropout=1e-9)
    torch.testing.assert_close(written, fused, atol=1e-6, rtol=1e-5)


def test_equal_lengths_need_no_slots() -> None:
    layout = arrange(random_batch([5, 5, 5]), tiny_config())
    assert isinstance(layout.attention, Rows)
    assert layout.attention.attends is None


def _states(model: TaskModel, batch: RaggedBatch, **how: object) -> np.ndarray:
    """Return all hidden states, (layers + 1, N, D)."""
    with torch.inference_mode():
        output = model.encoder(arrange(batch, model.config, **how), keep_states=True)
    return torch.stack([output.state(index) for index in range(3)]).numpy()


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_a_model_cast_to_bf16_answers_nearly_the_same(family: str, pooling: str) -> None:
    batch = random_batch([3, 17, 8])
    expected = TorchEngine(model_of(family, pooling=pooling)).run(batch)["logits"]
    cast = model_of(family, pooling=pooling).to(torch.bfloat16)
    got = TorchEngine(cast, precision="bf16").run(batch)["logits"]
    autocast = TorchEngine(model_of(family, pooling=pooling), precision="bf16").run(batch)["logits"]
    np.testing.assert_allclose(got, expected, atol=0.02)
    np.testing.assert_allclose(autocast, expected, atol=0.02)
