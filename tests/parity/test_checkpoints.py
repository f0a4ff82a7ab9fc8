"""Ours = transformers: hidden states and logits to 1e-5, for what it writes and what we write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from potstill.architectures.config import config_to_hf
from potstill.architectures.heads import head_to_hf, hf_class_name
from potstill.bundle.folder import open_folder
from potstill.bundle.write import BundleContent, write_bundle
from potstill.models import Encoder, TaskModel, arrange
from potstill.models.heads import pooled
from potstill.models.loading import load_task_model, tensors_of
from potstill.runtime.torch_engine import TorchEngine
from tests.tiny import random_batch, tiny_config, tiny_head

transformers = pytest.importorskip("transformers")

LENGTHS = [7, 1, 12, 30, 2]
TOLERANCE = 1e-5
CASES = [
    *[
        (family, kind)
        for family in ("bert", "distilbert")
        for kind in (
            "none",
            "masked-lm",
            "classification",
            "token-classification",
            "question-answering",
        )
    ],
    *[
        ("roberta", kind)
        for kind in ("none", "masked-lm", "classification", "token-classification")
    ],
    ("xlm-roberta", "none"),
    ("xlm-roberta", "classification"),
]


@pytest.fixture(autouse=True)
def _one_thread_and_no_noise() -> Iterator[None]:
    transformers.logging.set_verbosity_error()
    yield


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_we_read_what_transformers_writes(family: str, kind: str, tmp_path: Path) -> None:
    reference = _reference(family, kind)
    reference.save_pretrained(tmp_path / "theirs")
    folder = open_folder(tmp_path / "theirs")
    assert folder.plan.missing == []
    assert folder.plan.unknown == []
    assert folder.head.kind == kind
    _require_equal(load_task_model(folder), reference)


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_transformers_reads_what_we_write(family: str, kind: str, tmp_path: Path) -> None:
    model = TaskModel(tiny_config(family), tiny_head(kind))
    model.initialize(seed=1)
    _disturb(model)
    content = BundleContent(
        config=model.config, head=model.spec, tensors=tensors_of(model), tokenizer=None
    )
    write_bundle(tmp_path / "ours", content)
    name = hf_class_name(model.config.family, model.spec)
    reference, told = getattr(transformers, name).from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    assert not told["mismatched_keys"]
    _require_equal(model, reference.eval())


def test_every_case_is_tried() -> None:
    assert len(CASES) == 16


def _reference(family: str, kind: str) -> torch.nn.Module:
    head = tiny_head(kind)
    config = tiny_config(family)
    hf = config_to_hf(config) | head_to_hf(head, config.family)
    name = hf_class_name(config.family, head)
    model_class = getattr(transformers, name)
    torch.manual_seed(0)
    model = model_class(model_class.config_class(**hf)).eval()
    _disturb(model)
    return model


@torch.no_grad()
def _disturb(model: torch.nn.Module) -> None:
    """Move norms and biases off their start values, so that no mix-up of them goes unseen."""
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


@torch.no_grad()
def _require_equal(model: TaskModel, reference: torch.nn.Module) -> None:
    batch = random_batch(LENGTHS, token_types=model.config.token_types > 1)
    states = [f"state.{index}" for index in range(model.config.layers + 1)]
    wanted = states if model.head is None else ["logits", *states]
    ours = TorchEngine(model).run(batch, wanted)
    ids = torch.full((len(batch), batch.longest), model.config.pad_id)
    is_real = torch.zeros_like(ids)
    types = torch.zeros_like(ids)
    for row in range(len(batch)):
        size = int(batch.lengths[row])
        ids[row, :size] = torch.from_numpy(batch.text(row)).long()
        is_real[row, :size] = 1
        if batch.token_types is not None:
            span = slice(batch.offsets[row], batch.offsets[row + 1])
            types[row, :size] = torch.from_numpy(batch.token_types[span]).long()
    extra = {"token_type_ids": types} if model.config.token_types > 1 else {}
    theirs = reference(input_ids=ids, attention_mask=is_real, output_hidden_states=True, **extra)
    real = is_real.bool()
    for index, state in enumerate(states):
        expected = theirs.hidden_states[index][real].numpy()
        np.testing.assert_allclose(ours[state], expected, atol=TOLERANCE)
    if model.spec.kind == "question-answering":
        expected = torch.stack([theirs.start_logits, theirs.end_logits], dim=-1)[real]
        np.testing.assert_allclose(ours["logits"], expected.numpy(), atol=TOLERANCE)
    elif model.head is not None:
        logits = theirs.logits if model.spec.kind == "classification" else theirs.logits[real]
        np.testing.assert_allclose(ours["logits"], logits.numpy(), atol=TOLERANCE)
    elif model.encoder.pooler is not None:
        layout = arrange(batch, model.config)
        pooled_BD = pooled(model.encoder, model.encode(layout), layout, model.spec)
        np.testing.assert_allclose(pooled_BD, theirs.pooler_output, atol=TOLERANCE)


def test_a_bare_encoder_is_built_from_a_preset_config() -> None:
    encoder = Encoder(replace(tiny_config(), pooler=False))
    assert encoder.pooler is None
