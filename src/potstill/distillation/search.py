"""Which layers to keep, found with forward passes only: no student is trained.

Every candidate is a teacher with layers left out. How much of the teacher's answer is still in it
is measured by a linear fit: from the vectors that the head reads, after the last layer kept, to the
teacher's outputs, on half of the texts; the candidates are ranked on the other half, of classes by
KL(teacher || fit), of anything else by the share of the outputs' variance that the fit misses. How
well this predicts the trained student is measured: see docs/results.

Legend: B texts of a batch, N their tokens, R positions (texts, or tokens that count), C outputs, D
hidden width.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
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
from potstill.text.batching import batches_by_tokens
from potstill.text.ragged import RaggedBatch
from potstill.train.learnable import Learnable

Floats = NDArray[np.floating[Any]]
Int64 = NDArray[np.int64]

MOST_CANDIDATES = 20
FEWEST_TEXTS, MOST_TEXTS = 12, 2_000
MOST_POSITIONS = 8_000
_BATCH_TOKENS = 4_096
_RIDGE = 1e-2  # of the mean square of the features


@dataclass(frozen=True, slots=True)
class Candidate:
    """A set of layers and how far its linear fit is from the teacher."""

    kept: Kept
    divergence: float  # from the teacher, on texts that the fit has not seen; 0: none
    agreement: float  # share of these positions on which the fit answers as the teacher; 0 to 1

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
    rows: Learnable,
    candidates: Sequence[Kept],
    *,
    has_classes: bool = True,
    precision: Precision = "fp32",
    tell: Tell,
) -> list[Candidate]:
    """Return the candidates, the best first.

    Args:
        teacher: with a task head.
        rows: `FEWEST_TEXTS` texts at least; more than `MOST_TEXTS` are of no use.
        candidates: sets of layers.
        has_classes: outputs are logits of classes that exclude each other.
        precision: of the forward passes.
        tell: called with the texts done and the texts of all.
    """
    found = _features(teacher, rows, candidates, precision, tell)
    measure = _of_classes if has_classes else _of_numbers
    ranked = [
        Candidate(kept, *measure(*_fit(found.features[kept], found.outputs_RC, found.is_seen_R)))
        for kept in candidates
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


@dataclass(frozen=True, slots=True)
class _Features:
    """What the head would read at each position, and what it answers there."""

    features: Mapping[Kept, Floats]  # (R, D)
    outputs_RC: Floats
    is_seen_R: NDArray[np.bool_]  # positions of texts that the fit may see: every other text


@torch.inference_mode()
def _features(
    teacher: TaskModel,
    rows: Learnable,
    candidates: Sequence[Kept],
    precision: Precision,
    tell: Tell,
) -> _Features:
    device = next(teacher.parameters()).device
    batches = batches_by_tokens(rows.texts.lengths, max_tokens=_BATCH_TOKENS)
    whole = tuple(range(teacher.config.layers))
    most = -(-MOST_POSITIONS // len(rows))
    found: list[dict[Kept, Floats]] = []
    outputs: list[Floats] = []
    texts: list[Int64] = []
    done = 0
    for numbers in batches:
        part = rows.take(numbers)
        with torch.autocast(device.type, dtype=DTYPES[precision], enabled=precision != "fp32"):
            layout = arrange(part.texts, teacher.config, device=device)
            hidden = _walk(teacher, layout, {*candidates, whole})
            answers, _ = teacher(layout)
        places, text_of = _positions(part, most)
        chosen = torch.from_numpy(places).to(device)
        found.append({kept: _numpy(hidden[kept][chosen]) for kept in candidates})
        outputs.append(_numpy(answers[chosen]))
        texts.append(numbers[text_of])
        done += len(numbers)
        tell(done, len(rows))
    return _Features(
        {kept: np.concatenate([part[kept] for part in found]) for kept in candidates},
        np.concatenate(outputs),
        np.concatenate(texts) % 2 == 0,
    )


def _positions(part: Learnable, most: int) -> tuple[Int64, Int64]:
    """Return the positions to look at, at most so many a text, and the text of each."""
    if part.readable_N is None:
        texts = np.arange(len(part))
        return texts, texts
    places = np.flatnonzero(part.readable_N)
    text_of = part.texts.text_index()[places].astype(np.int64)
    starts = np.searchsorted(text_of, text_of)
    rank, count = np.arange(len(places)) - starts, np.bincount(text_of, minlength=len(part))
    step = np.maximum(-(-count[text_of] // most), 1)  # spread over the whole text
    chosen = rank % step == 0
    return places[chosen], text_of[chosen]


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

    follow((), encoder.embeddings(layout, None)[0])
    return outputs


def _read(teacher: TaskModel, layout: TextLayout, hidden_ND: Tensor) -> Tensor:
    if not teacher.spec.answers_whole_texts:
        return hidden_ND
    if teacher.spec.pooling == "mean":
        return mean_of_texts(hidden_ND, layout)
    return hidden_ND[layout.first_B]


def _numpy(values: Tensor) -> Floats:
    array: Floats = values.float().cpu().numpy()
    return array


def _fit(
    features_RD: Floats, outputs_RC: Floats, is_seen_R: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Fit outputs by features where they may be seen; return the fit and the truth elsewhere."""
    inputs_RD = features_RD.astype(np.float64)
    inputs_RD = inputs_RD - inputs_RD[is_seen_R].mean(axis=0)
    inputs_RD = np.concatenate([inputs_RD, np.ones((len(inputs_RD), 1))], axis=1)
    seen_RD, seen_RC = inputs_RD[is_seen_R], outputs_RC[is_seen_R].astype(np.float64)
    gram_DD = seen_RD.T @ seen_RD
    ridge = _RIDGE * np.trace(gram_DD) / len(gram_DD)
    weights_DC = np.linalg.solve(gram_DD + ridge * np.eye(len(gram_DD)), seen_RD.T @ seen_RC)
    return inputs_RD[~is_seen_R] @ weights_DC, outputs_RC[~is_seen_R].astype(np.float64)


def _of_classes(fitted_RC: Floats, true_RC: Floats) -> tuple[float, float]:
    """Return the mean KL in nats, and how often the best class is the same."""
    fitted, true = probabilities(fitted_RC), probabilities(true_RC)
    tiny = np.finfo(np.float64).tiny
    divergence = (true * (np.log(true + tiny) - np.log(fitted + tiny))).sum(axis=1).mean()
    agreement = (fitted.argmax(axis=1) == true.argmax(axis=1)).mean()
    return float(divergence), float(agreement)


def _of_numbers(fitted_RC: Floats, true_RC: Floats) -> tuple[float, float]:
    """Return the share of the variance that is missed, and the rest."""
    missed = np.square(fitted_RC - true_RC).sum()
    variance = max(float(np.square(true_RC - true_RC.mean(axis=0)).sum()), 1e-12)
    return float(missed / variance), float(max(0.0, 1.0 - missed / variance))
