"""The other side of parity: tiny models of transformers, and the comparison with ours."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from potstill.architectures.config import EncoderConfig, config_to_hf
from potstill.architectures.heads import HeadSpec, head_to_hf, hf_class_name
from potstill.models import TaskModel, arrange
from potstill.models.heads import pooled
from potstill.runtime.torch_engine import TorchEngine
from potstill.text.ragged import RaggedBatch
from tests.tiny import random_batch, tiny_config, tiny_head

transformers = pytest.importorskip("transformers")

LENGTHS = [7, 1, 12, 30, 2]
TOLERANCE = 1e-5


def reference_of(family: str, kind: str, **changes: object) -> torch.nn.Module:
    """Return a tiny model of transformers; every weight is off its start value."""
    config = tiny_config(family, **changes)
    return build_reference(hf_class_name(config.family, tiny_head(kind)), config, tiny_head(kind))


def build_reference(name: str, config: EncoderConfig, head: HeadSpec) -> torch.nn.Module:
    """Return a model of the named class of transformers."""
    model_class = getattr(transformers, name)
    hf = config_to_hf(config) | head_to_hf(head, config.family)
    torch.manual_seed(0)
    model = model_class(model_class.config_class(**hf)).eval()
    disturb(model)
    return model


@torch.no_grad()
def disturb(model: torch.nn.Module) -> None:
    """Move norms and biases off their start values, so that no mix-up of them goes unseen."""
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def require_equal(model: TaskModel, reference: torch.nn.Module) -> None:
    """Compare every hidden state, and logits or the pooled vector, to `TOLERANCE`."""
    batch = random_batch(LENGTHS, token_types=model.config.token_types > 1)
    states = [f"state.{index}" for index in range(model.config.layers + 1)]
    wanted = states if model.head is None else ["logits", *states]
    ours = TorchEngine(model).run(batch, wanted)
    theirs, is_real = answers_of(reference, batch, model.config)
    for index, state in enumerate(states):
        _require_close(ours[state], theirs.hidden_states[index][is_real])
    if model.spec.kind == "question-answering":
        logits = torch.stack([theirs.start_logits, theirs.end_logits], dim=-1)
        _require_close(ours["logits"], logits[is_real])
    elif model.head is not None:
        is_per_text = model.spec.kind == "classification"
        _require_close(ours["logits"], theirs.logits if is_per_text else theirs.logits[is_real])
    elif model.encoder.pooler is not None:
        _require_close(pooled_vectors(model, batch), theirs.pooler_output)


@torch.no_grad()
def answers_of(reference: torch.nn.Module, batch: RaggedBatch, config: EncoderConfig):
    """Run a model of transformers on the padded batch; return its answers and what is real."""
    ids = torch.full((len(batch), batch.longest), config.pad_id)
    is_real = torch.zeros_like(ids)
    types = torch.zeros_like(ids)
    for row in range(len(batch)):
        size = int(batch.lengths[row])
        ids[row, :size] = torch.from_numpy(batch.text(row)).long()
        is_real[row, :size] = 1
        if batch.token_types is not None:
            span = slice(batch.offsets[row], batch.offsets[row + 1])
            types[row, :size] = torch.from_numpy(batch.token_types[span]).long()
    extra = {"token_type_ids": types} if config.token_types > 1 else {}
    answers = reference(input_ids=ids, attention_mask=is_real, output_hidden_states=True, **extra)
    return answers, is_real.bool()


@torch.no_grad()
def pooled_vectors(model: TaskModel, batch: RaggedBatch) -> torch.Tensor:
    """Return the vectors after BERT's pooler."""
    layout = arrange(batch, model.config)
    return pooled(model.encoder, model.encode(layout), layout, model.spec)


def _require_close(ours: np.ndarray | torch.Tensor, theirs: torch.Tensor) -> None:
    np.testing.assert_allclose(np.asarray(ours), theirs.numpy(), rtol=0, atol=TOLERANCE)
