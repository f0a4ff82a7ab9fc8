"""The torch engine: CUDA with variable-length attention, mps, and CPU."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potstill.bundle.folder import ModelFolder
from potstill.freed_memory import FreedMemory
from potstill.hardware import chosen_threads
from potstill.models.attention import has_flat_attention
from potstill.models.heads import mean_of_texts
from potstill.models.layout import How, arrange
from potstill.models.loading import load_task_model
from potstill.models.memory import told_when_memory_ends
from potstill.models.precision import DTYPES, Precision, resolve_device, resolve_precision
from potstill.models.task_model import TaskModel
from potstill.runtime.engine import STATE_PREFIX, Outputs
from potstill.runtime.outputs import OutputShapes
from potstill.text.batching import batches_by_tokens
from potstill.text.ragged import RaggedBatch, tokens_of

Floats = NDArray[np.float32]
Order = NDArray[np.int64]

_DEFAULT_BATCH_TOKENS = {"cpu": 2_048, "mps": 8_192, "cuda": 65_536}


class TorchEngine:
    """Runs a `TaskModel`; the model may go on being trained between runs."""

    name = "torch"
    reason = ""

    def __init__(
        self,
        model: TaskModel,
        *,
        precision: Precision = "fp32",
        how: How = "auto",
        batch_tokens: int | None = None,
    ) -> None:
        """Wrap a model where it lies.

        Args:
            model: its parameters' device is where batches go.
            precision: format of the products; fp32 weights are cast as needed, not changed.
            how: arrangement for attention, see `arrange`.
            batch_tokens: largest texts times longest of one inner batch.
        """
        self.model = model
        self.precision = precision
        parameter = next(model.parameters())
        self._device = parameter.device
        self._weights_dtype = parameter.dtype
        is_half = precision != "fp32"
        self._how: How = (
            "flat" if how == "auto" and is_half and has_flat_attention(self._device) else how
        )
        self._freed = FreedMemory(is_kept=self._device.type == "cpu")  # as glibc does by itself
        self._batch_tokens = batch_tokens or _DEFAULT_BATCH_TOKENS[self._device.type]

    @property
    def device(self) -> str:
        """Return where the model lies."""
        return self._device.type

    @torch.inference_mode()
    def run(self, batch: RaggedBatch, outputs: Sequence[str] = ("logits",)) -> Outputs:
        """Return the outputs asked for: see `Engine.run`."""
        shapes = OutputShapes(self.model.config, self.model.spec)
        shapes.require_known(outputs)
        torch.set_flush_denormal(True)  # without it some kernels slow down many times
        chosen = batches_by_tokens(batch.lengths, max_tokens=self._batch_tokens)
        with self._autocast(), told_when_memory_ends(self.device):
            parts = [self._run_part(batch.take(texts), outputs) for texts in chosen]
        if not parts:
            return shapes.of_nothing(outputs)
        self._freed.after_batch()
        return {
            name: _in_callers_order(
                batch, chosen, [part[name] for part in parts], per_text=shapes.is_per_text(name)
            )
            for name in outputs
        }

    def _run_part(self, batch: RaggedBatch, outputs: Sequence[str]) -> Outputs:
        layout = arrange(batch, self.model.config, device=self._device, how=self._how)
        keeps_states = any(name.startswith(STATE_PREFIX) for name in outputs)
        if "vectors" in outputs and not self._has_vectors:
            encoded = self.model.encoder(layout, keep_states=keeps_states)
        else:
            encoded = self.model.encode(layout, keep_states=keeps_states)
        results: dict[str, Tensor] = {}
        for name in outputs:
            if name == "logits" or (name == "vectors" and self._has_vectors):
                results[name] = self.model.logits(encoded, layout)
            elif name == "vectors":  # a model that declares none
                results[name] = mean_of_texts(encoded.last, layout)
            else:
                results[name] = encoded.state(int(name.removeprefix(STATE_PREFIX)))
        return {name: tensor.float().cpu().numpy() for name, tensor in results.items()}

    @property
    def _has_vectors(self) -> bool:
        return self.model.spec.kind == "embedding"

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self._device.type,
            dtype=DTYPES[self.precision],
            enabled=self.precision != "fp32" and self._weights_dtype == torch.float32,
        )


def load_torch_engine(
    folder: ModelFolder,
    *,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> TorchEngine:
    """Load a folder's model for inference.

    Torch has one number of threads for the whole process: it is set here.

    Raises:
        ModelError: the weights do not fit.
        RecipeError: a device or precision that this machine does not have.
    """
    torch.set_num_threads(threads or chosen_threads())
    chosen_device = resolve_device(device)
    chosen_precision = resolve_precision(precision, chosen_device)
    model = load_task_model(folder)
    head: Any = model.head
    numbers = copy.deepcopy(head.output) if model.spec.answers_one_number else None
    model = model.to(chosen_device, DTYPES[chosen_precision])
    if numbers is not None:  # the layer that holds mean and spread stays as it was stored
        head.output = numbers.to(chosen_device)
    model.requires_grad_(False)  # noqa: FBT003 - torch's own signature
    return TorchEngine(model, precision=chosen_precision)


def _in_callers_order(
    batch: RaggedBatch, chosen: Sequence[Order], parts: Sequence[Floats], *, per_text: bool
) -> Floats:
    """Put the rows of inner batches back into the order of `batch`."""
    joined, texts = np.concatenate(parts), np.concatenate(chosen)
    rows = texts if per_text else tokens_of(texts, batch.offsets)
    restored = np.empty_like(joined)
    restored[rows] = joined
    return restored
