"""Which layers to keep, found with forward passes only: no student is trained.

Every candidate is a teacher with layers left out. How much of the teacher's answer is still in it
is measured by a linear fit: from the vector that the head reads, after the last layer kept, to the
teacher's logits, on half of the texts; the candidates are ranked by KL(teacher || fit) on the other
half. How well this predicts the trained student is measured: see docs/results.

Legend: B texts of a batch, N their tokens, R all texts, C classes, D hidden width.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potstill.distillation.layers import CHOICES, Kept
from potstill.distillation.signals import Tell
from potstill.errors import DataError
from potstill.models.heads import mean_of_texts
from potstill.models.layout import TextLayout, arrange
from potstill.models.precision import DTYPES, Precision
from potstill.models.task_model import TaskModel
from potstill.tasks.classification import probabilities
from potstill.text.batching import batches_by_tokens, restore_order
from potstill.text.ragged import RaggedBatch

Floats = NDArray[np.floating[Any]]

MOST_CANDIDATES = 20
FEWEST_TEXTS, MOST_TEXTS = 12, 2_000
_BATCH_TOKENS = 4_096
_RIDGE = 1e-2  # of the mean square of the features


@dataclass(frozen=True, slots=True)
class Candidate:
    """A set of layers and how far its linear fit is from the teacher."""

    kept: Kept
    divergence: float  # mean KL(teacher || fit) in nats on texts that the fit has not seen
    agreement: float  # share of these texts on which the fit answers as the teacher

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "layers": list(self.kept),
            "divergence": round(self.divergence, 5),
            "agreement": round(self.agreement, 4),
        }


def candidate_sets(
    teacher_layers: int, student_layers: int, *, at_most: int = MOST_CANDIDATES
) -> list[Kept]:
    """Return sets of layers worth a look: the named choices, then others spread over all.

    Where there are no more than `at_most` sets, all of them.
    """
    named = list(
        dict.fromkeys(choose(teacher_layers, student_layers) for choose in CHOICES.values())
    )
    chosen = dict.fromkeys(named[:at_most])
    for kept in _spread(teacher_layers, student_layers, at_most):
        if len(chosen) < at_most:
            chosen.setdefault(kept)
    return list(chosen)


def require_enough_texts(texts: RaggedBatch) -> None:
    """Check that there are texts to rank by.

    Raises:
        DataError: too few of them.
    """
    if len(texts) < FEWEST_TEXTS:
        raise DataError(
            f"{len(texts)} training texts are too few to search layers with",
            allowed=f"{FEWEST_TEXTS} or more",
            cure="name the layers with --keep, or a way to choose them with --choose even",
        )


def rank_candidates(
    teacher: TaskModel,
    texts: RaggedBatch,
    candidates: Sequence[Kept],
    *,
    precision: Precision = "fp32",
    tell: Tell,
) -> list[Candidate]:
    """Return the candidates, the best first.

    Args:
        teacher: with a classification head.
        texts: `FEWEST_TEXTS` at least; more than `MOST_TEXTS` are of no use.
        candidates: sets of layers.
        precision: of the forward passes.
        tell: called with the texts done and the texts of all.
    """
    features, logits_RC = _features(teacher, texts, candidates, precision, tell)
    ranked = [
        Candidate(kept, *_fit(features_RD, logits_RC))
        for kept, features_RD in zip(candidates, features, strict=True)
    ]
    return sorted(ranked, key=lambda candidate: (candidate.divergence, candidate.kept))


def _spread(teacher_layers: int, student_layers: int, wanted: int) -> Iterable[Kept]:
    """Yield sets at even distances in the lexical order of all sets, or all where they are few.

    Sets without layer 0 come last: the layers above have never seen the embedding output.
    """
    sets = list(itertools.combinations(range(teacher_layers), student_layers))
    with_first = [kept for kept in sets if kept[0] == 0]
    without = [kept for kept in sets if kept[0] != 0]
    for group in (with_first, without):
        step = max(1, len(group) // wanted)
        yield from group[::step]


@torch.inference_mode()
def _features(
    teacher: TaskModel,
    texts: RaggedBatch,
    candidates: Sequence[Kept],
    precision: Precision,
    tell: Tell,
) -> tuple[list[Floats], Floats]:
    """Return what the head would read, (R, D) for each candidate, and the teacher's logits."""
    device = next(teacher.parameters()).device
    batches = batches_by_tokens(texts.lengths, max_tokens=_BATCH_TOKENS)
    whole = tuple(range(teacher.config.layers))
    found: list[dict[Kept, Floats]] = []
    logits: list[Floats] = []
    done = 0
    for rows in batches:
        with torch.autocast(device.type, dtype=DTYPES[precision], enabled=precision != "fp32"):
            layout = arrange(texts.take(rows), teacher.config, device=device)
            outputs = _walk(teacher, layout, {*candidates, whole})
            logits_BC, _ = teacher(layout)
        found.append({kept: _numpy(outputs[kept]) for kept in candidates})
        logits.append(_numpy(logits_BC))
        done += len(rows)
        tell(done, len(texts))
    return (
        [restore_order(batches, [part[kept] for part in found]) for kept in candidates],
        restore_order(batches, logits),
    )


def _walk(teacher: TaskModel, layout: TextLayout, sets: set[Kept]) -> dict[Kept, Tensor]:
    """Run all sets at once: what two sets have in common at their beginning is computed once."""
    encoder = teacher.encoder
    outputs: dict[Kept, Tensor] = {}

    def follow(prefix: Kept, hidden_ND: Tensor) -> None:
        if prefix in sets:
            outputs[prefix] = _read(teacher, layout, hidden_ND)
        place = len(prefix)
        following = {kept[place] for kept in sets if len(kept) > place and kept[:place] == prefix}
        for layer in sorted(following):
            follow(
                (*prefix, layer),
                encoder.layers[layer](hidden_ND, layout, None, first_only=False),
            )

    follow((), encoder.embeddings(layout, None))
    return outputs


def _read(teacher: TaskModel, layout: TextLayout, hidden_ND: Tensor) -> Tensor:
    if teacher.spec.pooling == "mean":
        return mean_of_texts(hidden_ND, layout)
    return hidden_ND[layout.first_B]


def _numpy(values: Tensor) -> Floats:
    array: Floats = values.float().cpu().numpy()
    return array


def _fit(features_RD: Floats, logits_RC: Floats) -> tuple[float, float]:
    """Fit logits by features on the even texts; return KL and agreement on the odd ones."""
    inputs_RD = features_RD.astype(np.float64)
    inputs_RD = inputs_RD - inputs_RD[::2].mean(axis=0)
    inputs_RD = np.concatenate([inputs_RD, np.ones((len(inputs_RD), 1))], axis=1)
    seen_RD, seen_RC = inputs_RD[::2], logits_RC[::2].astype(np.float64)
    gram_DD = seen_RD.T @ seen_RD
    ridge = _RIDGE * np.trace(gram_DD) / len(gram_DD)
    weights_DC = np.linalg.solve(gram_DD + ridge * np.eye(len(gram_DD)), seen_RD.T @ seen_RC)
    fitted, true = probabilities(inputs_RD[1::2] @ weights_DC), probabilities(logits_RC[1::2])
    tiny = np.finfo(np.float64).tiny
    divergence = (true * (np.log(true + tiny) - np.log(fitted + tiny))).sum(axis=1).mean()
    agreement = (fitted.argmax(axis=1) == true.argmax(axis=1)).mean()
    return float(divergence), float(agreement)
