"""Dense weights kept in the format of their products: the numbers stay what they are."""

from __future__ import annotations

import copy

import torch

from potstill.models.layout import arrange
from potstill.models.precision import keep_products_in
from tests.unit.distillation.test_general_objective import asked, batch_of, tiny_model


def test_autocast_gives_the_same_numbers_bit_for_bit() -> None:
    model = tiny_model()
    kept = copy.deepcopy(model)
    keep_products_in("bf16", kept)
    assert kept.encoder.layers[0].feed_forward.up.weight.dtype == torch.bfloat16
    assert kept.encoder.layers[0].feed_forward_norm.weight.dtype == torch.float32
    layout = arrange(batch_of(asked(model)).masked.texts, model.config)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits, output = model(layout)
        kept_logits, kept_output = kept(layout)
    assert torch.equal(output.last, kept_output.last)
    assert torch.equal(logits, kept_logits)


def test_in_fp32_nothing_changes() -> None:
    model = tiny_model()
    keep_products_in("fp32", model)
    assert {each.dtype for each in model.parameters()} == {torch.float32}
