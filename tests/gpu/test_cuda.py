"""What only a card can show: flat attention = padded rows, and training on CUDA."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from potstill.models import TaskModel
from potstill.models.attention import FlatTexts, has_flat_attention
from potstill.models.layout import arrange
from potstill.runtime.torch_engine import TorchEngine
from tests.tiny import random_batch, tiny_config, tiny_head
from tests.training import tiny_model, tiny_run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
LENGTHS = [7, 1, 12, 30, 2, 40]


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
@pytest.mark.parametrize("kind", ["classification", "token-classification"])
def test_cuda_in_fp32_equals_the_cpu(family: str, kind: str) -> None:
    expected, got = (
        TorchEngine(_model(family, kind).to(device)).run(random_batch(LENGTHS))["logits"]
        for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["classification", "token-classification"])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_flat_attention_equals_padded_rows(kind: str, precision: str) -> None:
    if not has_flat_attention(torch.device("cuda")):
        pytest.skip("this torch offers no variable-length attention")
    model = _model("bert", kind).cuda()
    batch = random_batch(LENGTHS)
    flat, padded = (
        TorchEngine(model, precision=precision, how=how).run(batch)["logits"]
        for how in ("flat", "padded")
    )
    np.testing.assert_allclose(flat, padded, atol=0.03)


def test_training_under_autocast_uses_flat_attention_and_learns(tmp_path: Path) -> None:
    model = tiny_model().cuda()
    with torch.autocast("cuda", torch.bfloat16):
        layout = arrange(random_batch(LENGTHS), model.config, device="cuda")
    if has_flat_attention(torch.device("cuda")):
        assert isinstance(layout.attention, FlatTexts)
    result = tiny_run(tmp_path, model, changes={"precision": "bf16", "epochs": 12.0})
    assert result.best_score is not None
    assert result.best_score > 0.8


def _model(family: str, kind: str) -> TaskModel:
    # Flash kernels want head widths that are a multiple of 8: 32 / 4 = 8.
    model = TaskModel(tiny_config(family), tiny_head(kind))
    model.initialize(seed=3)
    return model
