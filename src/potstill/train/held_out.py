"""The masked-LM loss of held-out passages: the same tokens are hidden every time it is taken.

Legend: R passages, B of them computed together, P hidden tokens.
"""

from __future__ import annotations

import numpy as np
import torch

from potstill.losses.hard_labels import hard_label_loss
from potstill.metrics.bootstrap import interval
from potstill.metrics.mean_loss import Floats, MeanLoss
from potstill.metrics.metric import point
from potstill.models.layout import arrange
from potstill.models.precision import DTYPES, Precision
from potstill.models.task_model import TaskModel
from potstill.report import Measured
from potstill.text.batching import batches_by_tokens
from potstill.text.masking import Masked, Masking
from potstill.train.masked_lm_objective import Passages

_BATCH_TOKENS = 4_096
_SEED = 0  # of what is hidden: one question for every model and every run


class HeldOutLoss:
    """-log p(hidden token) in nats, averaged over the hidden tokens of all passages."""

    def __init__(self, passages: Passages, masking: Masking, *, precision: Precision) -> None:
        self.precision = precision
        self.batches = [
            masking.masked(passages.batch(rows), np.random.default_rng([_SEED, number]))
            for number, rows in enumerate(
                batches_by_tokens(passages.lengths, max_tokens=_BATCH_TOKENS)
            )
        ]

    def of(self, model: TaskModel) -> float:
        """Return the loss of the model as it is now."""
        return point(MeanLoss(), self.statistics(model))

    def measured(self, model: TaskModel) -> Measured:
        """Return the loss with its interval over passages."""
        return measured_loss(self.statistics(model))

    @torch.inference_mode()
    def statistics(self, model: TaskModel) -> Floats:
        """Return each passage's sum of losses and number of hidden tokens, (R, 2)."""
        return np.concatenate([self._of_batch(model, batch) for batch in self.batches])

    def _of_batch(self, model: TaskModel, batch: Masked) -> Floats:
        device = next(model.parameters()).device
        with torch.autocast(
            device.type, dtype=DTYPES[self.precision], enabled=self.precision != "fp32"
        ):
            layout = arrange(batch.texts, model.config, device=device)
            hidden_ND = model.encode(layout).last
            assert model.head is not None, "a masked-LM head was asked for"
            logits_PV = model.head(hidden_ND[torch.from_numpy(batch.places).to(device)], None)
        losses_P = hard_label_loss(logits_PV, torch.from_numpy(batch.targets).to(device))
        text_P = batch.texts.text_index()[batch.places]
        sums_B, counts_B = (
            np.bincount(text_P, weights_P, minlength=len(batch.texts)).astype(np.float64)
            for weights_P in (losses_P.cpu().numpy(), None)
        )
        return MeanLoss().statistics(sums_B, counts_B)


def measured_loss(statistics_R2: Floats) -> Measured:
    """Return the loss of passages with its interval, from their statistics."""
    found = interval(MeanLoss(), statistics_R2)
    return Measured(
        value=found.value, low=found.low, high=found.high, unit="nats", greater_is_better=False
    )
